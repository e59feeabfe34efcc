"""The operators: one per file, each importing only the engine's public names."""
