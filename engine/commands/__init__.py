"""The commands of the program, one per file; `engine.cli` gives them their options."""
