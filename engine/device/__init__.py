"""What devices are asked for: streams, compiled models, engines. Nothing heavy is imported here."""
