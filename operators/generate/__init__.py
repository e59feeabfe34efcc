"""Operators that make pictures: what comes out of them was not captured."""
