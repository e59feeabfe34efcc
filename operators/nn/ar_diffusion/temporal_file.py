"""The layers of stage 1b as one safetensors file beside the system's: packed, digests, card.

They mean nothing in another decoder than the one they were learned in. The header therefore names
the decoder by a digest of its weights, and a file that is of another one, or that differs from its
own header in anything, is refused with one line that says what is wrong.
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

from operators.nn.ar_diffusion.temporal import TemporalDecoder
from operators.nn.ar_diffusion.vae import Decoder, Vae
from operators.nn.packed import pack, unpack
from operators.nn.vlm.compact_file import tensor_digest, write_whole

_KEY = "frameloom.ar_temporal"
_VERSION = 1


class Layers(NamedTuple):
    """What a file holds, in the decoder that it was asked for."""

    decoder: TemporalDecoder  # frozen
    card: dict[str, Any]
    sha: str  # SHA-256 of the file


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    digest: str
    decoder: str
    card: dict[str, Any]


def decoder_digest(decoder: Decoder) -> str:
    """SHA-256 of all weights of a decoder, as they are in memory."""
    return tensor_digest({name: value.cpu() for name, value in decoder.state_dict().items()})


def save_layers(path: Path, decoder: TemporalDecoder, card: Mapping[str, Any]) -> str:
    """Write the file, whole or not at all, and return its SHA-256.

    Weights are rounded in the file (`operators.nn.packed`): measure what `load_layers` gives. Save
    with the decoder as `load_system` gives it, or nobody will find the one that is meant.
    ValueError if a weight is not finite or beyond float16.
    """
    tensors = pack(decoder.layers.state_dict())
    header = _Header(_VERSION, tensor_digest(tensors), decoder_digest(decoder.decoder), dict(card))
    data = safetensors.torch.save(tensors, {_KEY: msgspec.json.encode(header).decode()})
    write_whole(path, data)
    return hashlib.sha256(data).hexdigest()


def load_layers(path: Path, vae: Vae) -> Layers:
    """The layers, inside the decoder of `vae` and on its device.

    FileNotFoundError if there is no file, ValueError if it holds no layers, or not this decoder's.
    """
    data = path.read_bytes()
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path.name} is no whole safetensors file: {error}") from error
    header = _header(path, data)
    found = tensor_digest(tensors)
    if found != header.digest:
        raise ValueError(f"{path.name} is damaged: digest {found}, written {header.digest}")
    own = decoder_digest(vae.decoder)
    if own != header.decoder:
        raise ValueError(
            f"{path.name} belongs to another decoder: {header.decoder[:12]}, here is {own[:12]}"
        )
    decoder = TemporalDecoder(vae.config, vae.decoder)
    _fill(path, decoder, tensors)
    decoder.to(vae.decoder.places.device).eval().requires_grad_(False)
    return Layers(decoder, header.card, hashlib.sha256(data).hexdigest())


def _header(path: Path, data: bytes) -> _Header:
    """Of a file whose framing has been found to be right."""
    framed = msgspec.json.decode(data[8 : 8 + int.from_bytes(data[:8], "little")])
    text = framed.get("__metadata__", {}).get(_KEY)
    if text is None:
        raise ValueError(f"{path.name} holds no layers that look back: its header lacks {_KEY}")
    try:
        header = msgspec.json.decode(text, type=_Header)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path.name}: its header is wrong: {error}") from error
    if header.version != _VERSION:
        raise ValueError(f"{path.name}: version {header.version}, only {_VERSION} can be read")
    return header


def _fill(path: Path, decoder: TemporalDecoder, tensors: Mapping[str, torch.Tensor]) -> None:
    try:
        decoder.layers.load_state_dict(unpack(tensors))
    except (ValueError, RuntimeError) as error:  # of pack's own rules, of names and shapes
        told = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path.name} does not fit: {told}") from error
