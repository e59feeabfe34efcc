"""Networks, losses and samplers of the published systems: torch only, never the engine."""
