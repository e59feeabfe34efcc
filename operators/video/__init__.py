"""Pixels: conversions and drawing, no weights."""
