"""Networks that ship with the project: found by name, checked against their hash before use."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from engine import OperatorError

SHA256 = {
    "blazeface_short_range.tflite": (
        "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633"
    ),
    "blazeface_full_range.tflite": (
        "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3"
    ),
    "blazeface_back.tflite": ("e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8"),
    "centerface.onnx": "20a408157a52395aa7d822ebff955ffb98eaf332682674748c0da9127b172fa7",
    "face_mesh.tflite": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
}


def load_weights(name: str) -> bytes:
    """The file's content; OperatorError when it is missing or was changed."""
    path = files(__name__) / name
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        message = f"{name} is missing from the installation; install frameloom again"
        raise OperatorError("WEIGHTS_MISSING", message) from error
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        message = f"{name} has sha256 {found}, not {SHA256[name]}; install frameloom again"
        raise OperatorError("WEIGHTS_CORRUPT", message)
    return content
