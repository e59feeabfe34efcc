"""Faces: finding, tracking and telling of them."""
