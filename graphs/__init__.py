"""Graphs that come with the program, one per file; the first line of each says what it is for."""
