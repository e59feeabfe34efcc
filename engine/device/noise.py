"""What torch's own compilers say that is not about the module: kept from whoever compiles."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

# (message, category): each was seen from the exporter or from inductor, none is about the module
WARNINGS: tuple[tuple[str, type[Warning]], ...] = (
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),
    (r"`torch\.jit\.script_method` is deprecated", DeprecationWarning),
)
LOGGERS = (
    "torch.onnx._internal.exporter._registration",  # "torchvision is not installed", four times
    "torch.fx.experimental.symbolic_shapes",  # the start of an error that is raised anyway
)
EXPORTER = "torch.export._trace"  # prints the graph so far in front of such an error


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out exactly those; every other warning comes through."""
    with ExitStack() as stack:
        for name in LOGGERS:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        exporter: dict[str, Any] = vars(sys.modules[EXPORTER]) if EXPORTER in sys.modules else {}
        exporter["print"] = lambda *_, **__: None  # over the builtin, in that module only
        stack.callback(exporter.pop, "print", None)
        stack.enter_context(warnings.catch_warnings())
        for message, category in WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        yield
