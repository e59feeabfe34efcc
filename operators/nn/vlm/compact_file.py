"""The compact model as one safetensors file of at most 10 MiB: heads and image tower.

The text tower stays in its package. Image tower and heads are float16, what standardises features
float32. The header carries a descriptor: sizes, activations, the logit scale, where the towers come
from, the SHA-256 of the text tower that the text head was trained on, a digest of all tensors, and
the card. A file that differs from its own descriptor in anything is refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import safetensors
import safetensors.torch
import torch

from operators.nn.vlm.compact import CompactConfig, CompactHeads, CompactVlm
from operators.nn.vlm.compact_weights import (
    EFFICIENTNET_ORIGIN,
    EFFICIENTNET_SHA,
    MINILM_ORIGIN,
    MINILM_SHA,
    load_exactly,
    load_minilm,
)
from operators.nn.vlm.efficientnet import EfficientNetLite0
from operators.nn.vlm.interface import Vlm

MAX_BYTES = 10 * 2**20
_KEY = "frameloom.compact_vlm"
_Size = Annotated[int, msgspec.Meta(ge=0, le=4096)]  # no file may ask for all memory
_BUFFERS = ("mean", "deviation")  # of Standardise: small, and too wide in range for float16


class CompactSizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`CompactConfig`, as the file spells it."""

    size_px: _Size
    dim: _Size
    hidden: _Size
    text_width: _Size


class CompactDescriptor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file says of itself."""

    sizes: CompactSizes
    logit_scale: float  # s; the tensor beside it is its logarithm
    digest: str  # SHA-256 of all tensors, see `tensor_digest`
    parameters: dict[str, int]  # numbers in the image tower and in the heads
    card: dict[str, Any]  # data, steps, metrics: written by whoever trained it
    version: int = 1
    image_tower: str = "efficientnet-lite0"
    image_activation: str = "relu6"
    image_sha: str = EFFICIENTNET_SHA
    text_tower: str = "all-minilm-l6-v2"
    text_activation: str = "gelu"
    text_sha: str = MINILM_SHA
    origins: tuple[str, ...] = (EFFICIENTNET_ORIGIN, MINILM_ORIGIN)


def save_compact(path: Path, vlm: CompactVlm, card: Mapping[str, Any] | None = None) -> str:
    """Write the file, whole or not at all, and return its SHA-256.

    Weights are rounded to float16 in the file, not in `vlm`; measure what `load_compact` gives.
    ValueError if a weight is beyond float16 or not finite, or the file would be beyond 10 MiB.
    """
    tensors = _tensors(vlm)
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} cannot be saved: it is not finite, or beyond float16")
    config = vlm.heads.config
    descriptor = CompactDescriptor(
        sizes=CompactSizes(config.size_px, config.dim, config.hidden, config.text_width),
        logit_scale=float(vlm.heads.scale().detach()),
        digest=tensor_digest(tensors),
        parameters={
            "image_tower": sum(weight.numel() for weight in vlm.image.backbone.parameters()),
            "heads": sum(weight.numel() for weight in vlm.heads.parameters()),
        },
        card=dict(card or {}),
    )
    text = msgspec.json.encode(descriptor).decode()
    data = safetensors.torch.save(tensors, {_KEY: text})
    if len(data) > MAX_BYTES:
        raise ValueError(f"the file would have {len(data)} bytes, {MAX_BYTES} are allowed")
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def load_compact(path: Path, with_text: bool = False) -> tuple[CompactVlm, CompactDescriptor, str]:
    """The model, what the file says of itself, and the file's SHA-256.

    `with_text` also loads the text tower from its package, to learn or encode prompts; without it
    the model sees images only. FileNotFoundError if the file, or that package, is missing;
    ValueError if the file is not a whole compact model, or needs another text tower.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{path.name} has {size} bytes; a compact model has {MAX_BYTES} at most")
    data = path.read_bytes()
    tensors = _read(path, data)
    descriptor = _descriptor(path, data)
    found = tensor_digest(tensors)
    if found != descriptor.digest:
        raise ValueError(f"{path.name} is damaged: digest {found}, written {descriptor.digest}")
    sizes = msgspec.structs.asdict(descriptor.sizes)
    with torch.device("meta"):  # numbers that are replaced at once need not be drawn
        heads, backbone = CompactHeads(CompactConfig(**sizes)), EfficientNetLite0().fold()
    _fill(path, tensors, backbone.to_empty(device="cpu"), heads.to_empty(device="cpu"))
    text = None
    if with_text:
        if descriptor.text_sha != MINILM_SHA:
            raise ValueError(f"{path.name} needs a text tower of SHA-256 {descriptor.text_sha}")
        text = load_minilm()
    vlm = CompactVlm(backbone, heads, text)
    return vlm, descriptor, hashlib.sha256(data).hexdigest()


def open_compact(path: Path, with_text: bool = False) -> Vlm:
    """`load_compact` as prompt methods and operators want it."""
    vlm, _, sha = load_compact(path, with_text)
    return vlm.view(backbone_sha=sha, name=path.stem)


def tensor_digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over name, type, shape and bytes of each tensor, by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name}|{value.dtype}|{list(value.shape)}|".encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` in place of the file in one step: a reader, or a crash, sees old or new."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _tensors(vlm: CompactVlm) -> dict[str, torch.Tensor]:
    """What the file holds, in the types it holds it in."""
    tensors = {}
    for part, module in (("image", vlm.image.backbone), ("heads", vlm.heads)):
        for name, value in module.state_dict().items():
            kept = name.rpartition(".")[2] in _BUFFERS or name == "log_scale"
            tensors[f"{part}.{name}"] = (value if kept else value.half()).contiguous()
    return tensors


def _read(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path.name} is no whole safetensors file: {error}") from error


def _descriptor(path: Path, data: bytes) -> CompactDescriptor:
    """From the header, which `_read` has found to be well formed."""
    header = msgspec.json.decode(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = header.get("__metadata__", {}).get(_KEY)
    if text is None:
        raise ValueError(f"{path.name} is no compact model: its header lacks {_KEY}")
    try:
        descriptor = msgspec.json.decode(text, type=CompactDescriptor)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path.name}: its descriptor is wrong: {error}") from error
    ours = CompactDescriptor(descriptor.sizes, 1.0, "", {}, {})
    for name in ("version", "image_tower", "image_activation", "text_tower", "text_activation"):
        told, known = getattr(descriptor, name), getattr(ours, name)
        if told != known:
            raise ValueError(f"{path.name}: {name} is {told!r}, only {known!r} can be read")
    return descriptor


def _fill(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    backbone: EfficientNetLite0,
    heads: CompactHeads,
) -> None:
    strange = [name for name in tensors if not name.startswith(("image.", "heads."))]
    if strange:
        raise ValueError(f"{path.name} does not fit: {strange[0]} has no place")
    for part, module in (("image.", backbone), ("heads.", heads)):
        state = {
            name.removeprefix(part): value.float()
            for name, value in tensors.items()
            if name.startswith(part)
        }
        load_exactly(module, state, path)
