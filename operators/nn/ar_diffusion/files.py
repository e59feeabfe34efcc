"""A trained system as one safetensors file: VAE and denoiser packed, configs, card.

`operators.nn.packed` says what is int8 there and what float16. The header carries all sizes, a
digest of the tensors and the card. A file that differs from its own header in anything is refused
with one line that says what is wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import nn

from operators.nn.ar_diffusion.config import SystemConfig
from operators.nn.ar_diffusion.denoiser import Denoiser
from operators.nn.ar_diffusion.vae import Vae
from operators.nn.packed import pack, unpack
from operators.nn.vlm.compact_file import tensor_digest, write_whole

_KEY = "frameloom.ar_diffusion"
_VERSION = 2


class System(NamedTuple):
    """What a file holds. Both networks are frozen, float32 on the CPU."""

    config: SystemConfig
    vae: Vae
    denoiser: Denoiser
    card: dict[str, Any]
    sha: str  # SHA-256 of the file


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    config: dict[str, Any]
    digest: str
    card: dict[str, Any]


def save_system(
    path: Path, config: SystemConfig, vae: Vae, denoiser: Denoiser, card: Mapping[str, Any]
) -> str:
    """Write the file, whole or not at all, and return its SHA-256.

    Weights are rounded in the file, not in the networks: measure what `load_system` gives, which is
    saved again without a loss. ValueError if a weight is not finite or beyond float16, or a network
    has other sizes.
    """
    if (vae.config, denoiser.config) != (config.vae, config.denoiser):
        raise ValueError(f"the networks are not of the config {config.name}")
    state: dict[str, torch.Tensor] = {}
    for part, module in (("vae", vae), ("denoiser", denoiser)):
        state |= {f"{part}.{name}": value for name, value in module.state_dict().items()}
    tensors = pack(state)
    header = _Header(_VERSION, _told(config), tensor_digest(tensors), dict(card))
    data = safetensors.torch.save(tensors, {_KEY: msgspec.json.encode(header).decode()})
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def load_system(path: Path) -> System:
    """FileNotFoundError if there is none, ValueError if it is not a whole AR-Diffusion system."""
    data = path.read_bytes()
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path.name} is no whole safetensors file: {error}") from error
    header = _header(path, data)
    found = tensor_digest(tensors)
    if found != header.digest:
        raise ValueError(f"{path.name} is damaged: digest {found}, written {header.digest}")
    config = _config(path, header)
    vae, denoiser = Vae(config.vae), Denoiser(config.denoiser)
    state = _state(path, tensors)
    _fill(path, vae, "vae.", state)
    _fill(path, denoiser, "denoiser.", state)
    return System(config, vae, denoiser, header.card, hashlib.sha256(data).hexdigest())


def _header(path: Path, data: bytes) -> _Header:
    """Of a file whose framing has been found to be right."""
    framed = msgspec.json.decode(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = framed.get("__metadata__", {}).get(_KEY)
    if text is None:
        raise ValueError(f"{path.name} is no AR-Diffusion system: its header lacks {_KEY}")
    try:
        header = msgspec.json.decode(text, type=_Header)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path.name}: its header is wrong: {error}") from error
    if header.version != _VERSION:
        raise ValueError(f"{path.name}: version {header.version}, only {_VERSION} can be read")
    return header


def _config(path: Path, header: _Header) -> SystemConfig:
    try:
        config = msgspec.convert(header.config, SystemConfig)
    except ValueError as error:  # msgspec's own is one too
        raise ValueError(f"{path.name}: its sizes are wrong: {error}") from error
    if _told(config) != header.config:
        raise ValueError(f"{path.name}: its sizes are wrong: more or fewer than there are")
    return config


def _told(config: SystemConfig) -> dict[str, Any]:
    """As JSON gives it back: without tuples."""
    told: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(config))
    return told


def _state(path: Path, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    strange = [name for name in tensors if not name.startswith(("vae.", "denoiser."))]
    if strange:
        raise ValueError(f"{path.name} does not fit: {strange[0]} has no place")
    try:
        return unpack(tensors)
    except ValueError as error:
        raise ValueError(f"{path.name} does not fit: {error}") from error


def _fill(path: Path, module: nn.Module, part: str, state: Mapping[str, torch.Tensor]) -> None:
    own = module.state_dict()
    given = {
        name.removeprefix(part): value for name, value in state.items() if name.startswith(part)
    }
    if own.keys() != given.keys():
        odd = min(own.keys() ^ given.keys())
        raise ValueError(f"{path.name} does not fit: {part}{odd} is missing or has no place")
    for name, value in given.items():
        if value.shape != own[name].shape:
            raise ValueError(
                f"{path.name} does not fit: {part}{name} is {list(value.shape)}, "
                f"not {list(own[name].shape)}"
            )
        own[name].copy_(value)
    module.eval().requires_grad_(False)
