"""What a checkpoint of AR-Diffusion says of itself in its header; torch is not needed for that."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct

from engine import Caps

SHIPPED = Path(__file__).parent / "checkpoints" / "ar-diffusion-compact.safetensors"
MOST_HEADER_BYTES = 100 * 2**20  # as the format has it
_KEY = "frameloom.ar_diffusion"
_VERSION = 2  # as `operators.nn.ar_diffusion.files` writes it
_Count = Annotated[int, Meta(ge=1, le=4096)]


class Facts(NamedTuple):
    """What an operator has to know before the weights are there."""

    size_px: int  # of the square pictures
    window: int  # W: frames that the model sees at once
    steps: int  # S and s, where the graph says nothing
    lag: int
    classes: tuple[str, ...]  # what prompts may say


class _Vae(Struct, frozen=True):
    size_px: _Count


class _Denoiser(Struct, frozen=True):
    frames: _Count
    classes: int


class _Config(Struct, frozen=True):
    vae: _Vae
    denoiser: _Denoiser
    steps: _Count
    lag: Annotated[int, Meta(ge=0)]


class _Card(Struct, frozen=True):
    classes: tuple[str, ...] = ()


class _Header(Struct, frozen=True):
    version: int
    config: _Config
    card: _Card


def facts_of(path: Path) -> Facts:
    """FileNotFoundError, or ValueError with one line that says what is wrong with the file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        framed = file.read(length) if length <= MOST_HEADER_BYTES else b""
    try:
        texts: dict[str, Any] = msgspec.json.decode(framed)["__metadata__"]
        header = msgspec.json.decode(texts[_KEY], type=_Header)
    except (msgspec.MsgspecError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is no checkpoint of AR-Diffusion ({error})") from error
    if header.version != _VERSION:
        raise ValueError(f"{path.name}: version {header.version}, only {_VERSION} can be read")
    config, count = header.config, header.config.denoiser.classes
    names = header.card.classes if count else ()  # of the data; the model need not tell them apart
    if len(names) != count:
        raise ValueError(f"{path.name} has {count} classes, its card names {len(names)}")
    window = config.denoiser.frames
    return Facts(config.vae.size_px, window, config.steps, max(config.lag, 1), names)


def picture_caps(path: Path) -> Caps:
    """Of what a checkpoint gives, I420; without a size where the file cannot be read: `check` and
    `open` say what is wrong with it.
    """
    try:
        size_px = facts_of(path).size_px
    except (OSError, ValueError):
        size_px = None
    return Caps(
        media="video",
        pix_fmt="yuv420p",
        dtype="uint8",
        width=size_px,
        height=size_px,
        device="cpu",
        colorspace="bt601",
        color_range="limited",
    )
