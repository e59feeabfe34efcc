"""What goes wrong with what a user hands to a vision-language model: files and images."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A weight, config or tokenizer file that cannot be used, and why."""


class ImageError(ValueError):
    """An image that cannot be turned into a model's input, and why."""
