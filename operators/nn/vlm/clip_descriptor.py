"""What a model folder says of itself, in the two layouts there are, as a `ClipConfig`.

* transformers: `config.json`, and `preprocessor_config.json` where there is one.
* open_clip: `open_clip_config.json`, with `model_cfg` and `preprocess_cfg`.

Sizes left out take the value that the layout's own library gives them. The activation is different
(specification, section 1.1): transformers always writes `hidden_act`, so a file without it is
refused; open_clip writes `quick_gelu` only where it is true, so there a missing one means GELU. An
open_clip option that would change what is computed, and is not known here, is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

from operators.nn.vlm.clip_config import (
    ACTIVATIONS,
    CLIP_MEAN,
    CLIP_STD,
    Activation,
    ClipConfig,
    TextConfig,
    VisionConfig,
)
from operators.nn.vlm.errors import CheckpointError

TRANSFORMERS_FILE = "config.json"
OPEN_CLIP_FILE = "open_clip_config.json"

_Rgb: TypeAlias = tuple[float, float, float]
_S = TypeVar("_S", bound=msgspec.Struct)
_PILLOW_BICUBIC = 3


class _HfVision(msgspec.Struct, frozen=True):
    hidden_act: str
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
    layer_norm_eps: float = 1e-5


class _HfText(msgspec.Struct, frozen=True):
    hidden_act: str
    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    layer_norm_eps: float = 1e-5


class _HfConfig(msgspec.Struct, frozen=True):
    model_type: str
    vision_config: dict[str, Any]
    text_config: dict[str, Any]
    vision_config_dict: dict[str, Any] | None = None  # older files repeat themselves here
    text_config_dict: dict[str, Any] | None = None
    projection_dim: int = 512


class _HfImages(msgspec.Struct, frozen=True):
    image_mean: _Rgb = CLIP_MEAN
    image_std: _Rgb = CLIP_STD
    resample: int = _PILLOW_BICUBIC


class _OpenVision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    image_size: int = 224
    layers: int = 12
    width: int = 768
    head_width: int = 64
    mlp_ratio: float = 4.0
    patch_size: int = 16


class _OpenText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    context_length: int = 77
    vocab_size: int = 49408
    width: int = 512
    heads: int = 8
    layers: int = 12
    mlp_ratio: float = 4.0


class _OpenModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    embed_dim: int
    vision_cfg: _OpenVision
    text_cfg: _OpenText
    quick_gelu: bool = False


class _OpenImages(msgspec.Struct, frozen=True):
    mean: _Rgb = CLIP_MEAN
    std: _Rgb = CLIP_STD
    interpolation: str = "bicubic"


class _OpenConfig(msgspec.Struct, frozen=True):
    model_cfg: _OpenModel
    preprocess_cfg: _OpenImages = _OpenImages()


def read_descriptor(folder: Path) -> ClipConfig:
    """What the folder's config files say; where there are both, they must agree.

    FileNotFoundError without a folder; CheckpointError if it describes no CLIP.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no model folder {folder}")
    readers = {TRANSFORMERS_FILE: _transformers, OPEN_CLIP_FILE: _open_clip}
    found = [name for name in readers if (folder / name).is_file()]
    if not found:
        names = " nor ".join(readers)
        raise CheckpointError(f"{folder.name} is no model folder: it has neither {names}")
    configs = {_read(folder / name, readers[name]) for name in found}
    if len(configs) > 1:
        raise CheckpointError(f"{folder.name}: {' and '.join(found)} describe different models")
    return configs.pop()


def _read(path: Path, reader: Callable[[Path], ClipConfig]) -> ClipConfig:
    try:
        return reader(path)
    except CheckpointError as error:
        raise CheckpointError(f"{path.name}: {error}") from error


def _transformers(path: Path) -> ClipConfig:
    told = _convert(_json(path), _HfConfig)
    if told.model_type != "clip":
        raise CheckpointError(f"model_type is {told.model_type!r}, only 'clip' can be read")
    vision = _tower("vision_config", told.vision_config, told.vision_config_dict, _HfVision)
    text = _tower("text_config", told.text_config, told.text_config_dict, _HfText)
    if vision.num_channels != 3:
        raise CheckpointError(f"vision_config: num_channels is {vision.num_channels}, not 3")
    images = _hf_images(path.parent)
    return ClipConfig(
        VisionConfig(
            size_px=vision.image_size,
            patch_px=vision.patch_size,
            layers=vision.num_hidden_layers,
            width=vision.hidden_size,
            heads=vision.num_attention_heads,
            inner=vision.intermediate_size,
            activation=_activation("vision_config", vision.hidden_act),
            norm_epsilon=vision.layer_norm_eps,
        ),
        TextConfig(
            vocabulary=text.vocab_size,
            context_length=text.max_position_embeddings,
            layers=text.num_hidden_layers,
            width=text.hidden_size,
            heads=text.num_attention_heads,
            inner=text.intermediate_size,
            activation=_activation("text_config", text.hidden_act),
            norm_epsilon=text.layer_norm_eps,
        ),
        told.projection_dim,
        images.image_mean,
        images.image_std,
    )


def _tower(part: str, told: dict[str, Any], repeated: dict[str, Any] | None, kind: type[_S]) -> _S:
    """One tower's sizes; older files tell some of them twice, and must not contradict."""
    for key, value in (repeated or {}).items():
        if key in kind.__struct_fields__ and told.get(key, value) != value:
            raise CheckpointError(
                f"{part}.{key} is {told[key]!r}, and {value!r} in {part}_dict: one is wrong"
            )
    merged = {**(repeated or {}), **told}
    if "hidden_act" not in merged:
        raise CheckpointError(
            f"{part} does not say its activation; add hidden_act: 'quick_gelu' for weights of "
            "OpenAI, 'gelu' for those of LAION"
        )
    return _convert(merged, kind, part)


def _hf_images(folder: Path) -> _HfImages:
    """What images are normalised with; CLIP's own where no file tells."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            told = _json(folder / name)
            inner = told.get("image_processor", told) if isinstance(told, dict) else told
            images = _convert(inner, _HfImages, name)
            if images.resample != _PILLOW_BICUBIC:
                raise CheckpointError(f"{name}: resample is {images.resample}, only 3, bicubic")
            return images
    return _HfImages()


def _open_clip(path: Path) -> ClipConfig:
    told = _convert(_json(path), _OpenConfig)
    model, images = told.model_cfg, told.preprocess_cfg
    vision, text = model.vision_cfg, model.text_cfg
    if vision.head_width < 1 or vision.width % vision.head_width:
        raise CheckpointError(f"width {vision.width} is no multiple of {vision.head_width}")
    if images.interpolation != "bicubic":
        raise CheckpointError(f"interpolation is {images.interpolation!r}, only 'bicubic'")
    activation: Activation = "quick_gelu" if model.quick_gelu else "gelu"
    return ClipConfig(
        VisionConfig(
            size_px=vision.image_size,
            patch_px=vision.patch_size,
            layers=vision.layers,
            width=vision.width,
            heads=vision.width // vision.head_width,
            inner=int(vision.width * vision.mlp_ratio),
            activation=activation,
        ),
        TextConfig(
            vocabulary=text.vocab_size,
            context_length=text.context_length,
            layers=text.layers,
            width=text.width,
            heads=text.heads,
            inner=int(text.width * text.mlp_ratio),
            activation=activation,
        ),
        model.embed_dim,
        images.mean,
        images.std,
    )


def _activation(part: str, told: str) -> Activation:
    for known in ACTIVATIONS:
        if told == known:
            return known
    raise CheckpointError(
        f"{part}: the activation {told!r} is unknown; known are {', '.join(ACTIVATIONS)}"
    )


def _json(path: Path) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise CheckpointError(f"{path.name} is no JSON: {error}") from error


def _convert(told: Any, kind: type[_S], part: str = "") -> _S:
    try:
        return msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{part}: {error}" if part else str(error)) from error
