"""A trained head as one safetensors file: vectors, and a descriptor that says what they are.

A file that differs from its own descriptor in anything is refused. The descriptor names the weights
whose features the vectors stand among (`backbone_sha`): before other weights they mean nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import safetensors
import safetensors.torch
import torch

from operators.nn.pad.calibration import Calibration, calibration_from_dict, calibration_to_dict
from operators.nn.pad.threshold import Threshold, threshold_from_dict
from operators.nn.vlm.compact_file import tensor_digest, write_whole

MAX_BYTES = 16 * 2**20
VERSION = 1
_KEY = "frameloom.head"


class HeadDescriptor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the file says of itself."""

    method: str  # unknown-spoof-prompts | knowledge-mask-prompts
    backbone_sha: str  # SHA-256 of the weights that make the features
    backbone: str  # their name, for people
    dim: int  # of a feature
    logit_scale: float  # s
    elements: tuple[str, ...]  # names of what an attack can be nearest to
    prompt_sha: str  # SHA-256 of the priors or the knowledge that was used
    config: dict[str, Any]
    card: dict[str, Any]
    calibration: dict[str, Any] | None = None
    thresholds: dict[str, dict[str, Any]] = {}  # by camera; "" for all others
    digest: str = ""  # of the tensors, filled in by `save_head`
    version: int = VERSION


def save_head(path: Path, tensors: Mapping[str, torch.Tensor], descriptor: HeadDescriptor) -> str:
    """Write the file, whole or not at all, and return its SHA-256.

    ValueError if a value is not finite.
    """
    kept = {name: value.detach().contiguous().cpu() for name, value in tensors.items()}
    for name, value in kept.items():
        if not bool(torch.isfinite(value.float()).all()):
            raise ValueError(f"{name} cannot be saved: it is not finite")
    full = msgspec.structs.replace(descriptor, digest=tensor_digest(kept))
    data = safetensors.torch.save(kept, {_KEY: msgspec.json.encode(full).decode()})
    if len(data) > MAX_BYTES:
        raise ValueError(f"the file would have {len(data)} bytes, {MAX_BYTES} are allowed")
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def load_head(path: Path) -> tuple[dict[str, torch.Tensor], HeadDescriptor, str]:
    """Tensors, descriptor and the file's SHA-256.

    FileNotFoundError if there is none, ValueError if it is not a whole head of this version.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path.name} has {size} bytes; a head has {MAX_BYTES} at most")
    data = path.read_bytes()
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path.name} is no whole safetensors file: {error}") from error
    descriptor = _descriptor(path, data)
    found = tensor_digest(tensors)
    if found != descriptor.digest:
        raise ValueError(f"{path.name} is damaged: digest {found}, written {descriptor.digest}")
    for name, value in tensors.items():
        if not bool(torch.isfinite(value.float()).all()):
            raise ValueError(f"{path.name}: {name} holds values that are not finite")
    return tensors, descriptor, hashlib.sha256(data).hexdigest()


def recalibrated(
    path: Path, out: Path, calibration: Calibration | None, thresholds: Mapping[str, Threshold]
) -> str:
    """Write the head of `path` with another calibration to `out`; its SHA-256."""
    tensors, descriptor, _ = load_head(path)
    changed = msgspec.structs.replace(
        descriptor,
        calibration=None if calibration is None else calibration_to_dict(calibration),
        thresholds={camera: value.to_dict() for camera, value in thresholds.items()},
    )
    return save_head(out, tensors, changed)


def calibration_of(descriptor: HeadDescriptor) -> Calibration | None:
    """ValueError for a calibration that is not one."""
    told = descriptor.calibration
    return None if told is None else calibration_from_dict(told)


def thresholds_of(descriptor: HeadDescriptor) -> dict[str, Threshold]:
    """By camera. ValueError for a threshold that is not one."""
    return {camera: threshold_from_dict(told) for camera, told in descriptor.thresholds.items()}


def expect_shapes(
    path: Path, tensors: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> None:
    """ValueError unless there are exactly these tensors, float32, of these shapes."""
    if set(tensors) != set(shapes):
        odd = sorted(set(tensors) ^ set(shapes))
        raise ValueError(f"{path.name} does not fit: {', '.join(odd)} missing or too many")
    for name, shape in shapes.items():
        value = tensors[name]
        if tuple(value.shape) != shape or value.dtype != torch.float32:
            raise ValueError(
                f"{path.name}: {name} is {value.dtype} {tuple(value.shape)}, "
                f"float32 {shape} is needed"
            )


def _descriptor(path: Path, data: bytes) -> HeadDescriptor:
    """From the header, which safetensors has found to be well formed."""
    header = msgspec.json.decode(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = header.get("__metadata__", {}).get(_KEY)
    if text is None:
        raise ValueError(f"{path.name} is no trained head: its header lacks {_KEY}")
    try:
        descriptor = msgspec.json.decode(text, type=HeadDescriptor)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path.name}: its descriptor is wrong: {error}") from error
    if descriptor.version != VERSION:
        raise ValueError(f"{path.name} is version {descriptor.version}, {VERSION} can be read")
    if not (descriptor.dim >= 1 and 0 < descriptor.logit_scale < 1e4):
        raise ValueError(f"{path.name}: dim or logit scale out of range")
    return descriptor
