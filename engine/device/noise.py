"""Warnings that torch's own compilers give about torch's own code: kept from whoever compiles."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# (message, category): each was seen from the exporter or from inductor, none is about the module
WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),
    (r"`torch\.jit\.script_method` is deprecated", DeprecationWarning),
)
LOGGER = "torch.onnx._internal.exporter._registration"  # "torchvision is not installed", four times


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out exactly those; every other warning comes through."""
    logger = logging.getLogger(LOGGER)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message, category in WARNINGS:
                warnings.filterwarnings("ignore", message, category)
            yield
    finally:
        logger.setLevel(level)
