"""What is said of a generated picture."""

from __future__ import annotations

from engine import Record


class Dreamed(Record, frozen=True):
    """This picture was made by a model: by which, and out of what."""

    number: int  # of the picture in its dream, from 0
    prompt: str  # the class it shows; empty: none was asked for
    seed: int
    steps: int  # updates it has had
    checkpoint: str  # SHA-256 of the file
