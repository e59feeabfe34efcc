"""Seeded procedural worlds with known truth: bouncing objects, a watched hall, a panning camera."""
