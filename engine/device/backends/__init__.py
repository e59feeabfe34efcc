"""What can run a model: one file each, imported when it is asked for.

`auto` looks at them in this order.
"""

from __future__ import annotations

from importlib import import_module

from engine.convert import nearest
from engine.device.backends.protocol import Backend
from engine.errors import CompileError

NAMES = (
    "eager",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "tensorrt_rtx",
    "aot",
    "inductor",
)


def backend_named(name: str) -> Backend:
    """CompileError NO_BACKEND names those that there are. `-` may stand for `_`."""
    name = name.replace("-", "_")
    if name not in NAMES:
        raise CompileError("NO_BACKEND", f"there is no backend '{name}' ({nearest(name, NAMES)})")
    backend: Backend = import_module(f"engine.device.backends.{name}").BACKEND
    return backend
