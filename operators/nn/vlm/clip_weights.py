"""CLIP weights out of files: OpenAI's and open_clip's names, and those of transformers.

A weight file has its SHA-256 taken from the bytes that are read. Nothing is unpickled: `.pt` files
may hold tensors only. What does not fit exactly is refused, with the names that the file uses.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch

from operators.nn.vlm.clip import Clip
from operators.nn.vlm.errors import CheckpointError

_SHOWN = 4  # names of each kind in one error
_OPENAI_NUMBERS = ("input_resolution", "context_length", "vocab_size")  # no weights
_HF_PLACES = ("embeddings.position_ids",)  # 0, 1, 2, ...: older files hold them


class WeightFile(NamedTuple):
    """Tensors by the names of the file, and which file it was."""

    name: str  # of the file, for messages
    tensors: dict[str, torch.Tensor]
    sha: str  # SHA-256 of the file's bytes


class Source(NamedTuple):
    """Where one of our weights is found."""

    keys: tuple[str, ...]  # stacked along the first axis
    is_transposed: bool = False


def read_weights(path: Path) -> WeightFile:
    """A `.safetensors`, `.pt`, `.pth` or `.bin` file of tensors, in the types it has them.

    FileNotFoundError if it is missing; CheckpointError if it is damaged, or holds other things than
    tensors.
    """
    readers: dict[str, Callable[[bytes], Any]] = {
        ".safetensors": safetensors.torch.load,
        ".pt": _tensors_only,
        ".pth": _tensors_only,
        ".bin": _tensors_only,
    }
    if path.suffix not in readers:
        raise CheckpointError(f"{path.name} is no weight file; {', '.join(readers)} can be read")
    data = path.read_bytes()
    try:
        told = readers[path.suffix](data)
    except Exception as error:  # both libraries raise whatever a damaged byte leads them to
        first = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path.name} cannot be read; it is damaged, or holds more than tensors: {first}"
        ) from error
    return WeightFile(path.name, _state(path.name, told), hashlib.sha256(data).hexdigest())


def fit_weights(file: WeightFile, clip: Clip, parts: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """The weights of `clip` (which may be on the meta device), by its own names, float32.

    Every weight must be there, of its shape, finite, and no other; CheckpointError says what is
    not. Only those whose name begins with one of `parts` are returned.
    """
    find = _source_finder(file)
    sources = {name: find(name) for name in clip.state_dict()}
    wanted = {
        key: shape
        for name, weight in clip.state_dict().items()
        for key, shape in _shapes(sources[name], tuple(weight.shape)).items()
    }
    _check_fit(file, wanted)
    return {
        name: _assemble(file, source) for name, source in sources.items() if name.startswith(parts)
    }


def openai_source(name: str) -> Source:
    """Where OpenAI and open_clip keep our weight `name`; queries, keys and values are one."""
    if name == "log_scale":
        return Source(("logit_scale",))
    tower, _, rest = name.partition(".")
    prefix = "visual." if tower == "vision" else ""
    if rest == "projection.weight":
        return Source(("visual.proj" if prefix else "text_projection",), is_transposed=True)
    rest = _renamed(rest, _OPENAI_TRUNK)
    if rest.startswith("blocks."):
        rest = "transformer.res" + _renamed(rest, _OPENAI_BLOCK)
    return Source((prefix + rest,))


def transformers_source(name: str) -> Source:
    """Where transformers keeps our weight `name`; queries, keys and values are three."""
    if name == "log_scale":
        return Source(("logit_scale",))
    tower, _, rest = name.partition(".")
    if rest == "projection.weight":
        return Source((f"{'visual' if tower == 'vision' else 'text'}_projection.weight",))
    rest = _renamed(rest, _HF_TRUNK)
    if rest.startswith("blocks."):
        rest = _renamed(rest, _HF_BLOCK).replace("blocks.", "encoder.layers.", 1)
    parts = ("q_proj", "k_proj", "v_proj") if "in_proj" in rest else ("",)
    return Source(tuple(f"{tower}_model.{rest.replace('in_proj', part)}" for part in parts))


_OPENAI_TRUNK = {
    "patch_embedding": "conv1",
    "positions": "positional_embedding",
    "words": "token_embedding",
    "norm_pre": "ln_pre",
    "norm_post": "ln_post",
    "norm_final": "ln_final",
}
_OPENAI_BLOCK = {
    "norm_1": "ln_1",
    "norm_2": "ln_2",
    "attention.in_proj.": "attn.in_proj_",
    "attention.out_proj": "attn.out_proj",
    "widen": "mlp.c_fc",
    "narrow": "mlp.c_proj",
}
_HF_TRUNK = {
    "class_embedding": "embeddings.class_embedding",
    "patch_embedding": "embeddings.patch_embedding",
    "positions": "embeddings.position_embedding.weight",
    "words": "embeddings.token_embedding",
    "norm_pre": "pre_layrnorm",  # really spelt so
    "norm_post": "post_layernorm",
    "norm_final": "final_layer_norm",
}
_HF_BLOCK = {
    "norm_1": "layer_norm1",
    "norm_2": "layer_norm2",
    "attention": "self_attn",
    "widen": "mlp.fc1",
    "narrow": "mlp.fc2",
}


def _renamed(name: str, table: Mapping[str, str]) -> str:
    """`name` with the one part that the table knows replaced."""
    for ours, theirs in table.items():
        if ours in name:
            return name.replace(ours, theirs, 1)
    return name


def _source_finder(file: WeightFile) -> Callable[[str], Source]:
    if any(key.startswith("vision_model.") for key in file.tensors):
        return transformers_source
    if any(key.startswith("visual.") for key in file.tensors):
        return openai_source
    found = ", ".join(sorted(file.tensors)[:_SHOWN]) or "nothing"
    raise CheckpointError(
        f"{file.name} holds no CLIP: no name begins with vision_model. or visual.; found {found}"
    )


def _tensors_only(data: bytes) -> Any:
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise CheckpointError(
                    "it is a TorchScript program, as OpenAI publishes them; programs are not run: "
                    "save its state_dict() and give that"
                )
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _state(name: str, told: Any) -> dict[str, torch.Tensor]:
    """The weights in what a file holds; training runs keep them one level down, under `module.`."""
    if isinstance(told, dict) and isinstance(told.get("state_dict"), dict):
        told = told["state_dict"]
    if not isinstance(told, dict) or not told:
        raise CheckpointError(f"{name} holds no weights")
    for key, value in told.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(f"{name}: {key!r} is no named tensor")
    prefix = "module." if all(key.startswith("module.") for key in told) else ""
    state = {key.removeprefix(prefix): value for key, value in told.items()}
    for key in [key for key in state if key in _OPENAI_NUMBERS or key.endswith(_HF_PLACES)]:
        del state[key]
    return state


def _shapes(source: Source, ours: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """What shape each key of a source must have, if the whole has the shape `ours`."""
    if source.is_transposed:
        ours = ours[::-1]
    if len(source.keys) > 1:
        ours = (ours[0] // len(source.keys), *ours[1:])
    return dict.fromkeys(source.keys, ours)


def _check_fit(file: WeightFile, wanted: Mapping[str, tuple[int, ...]]) -> None:
    missing = [f"{key} {list(shape)}" for key, shape in wanted.items() if key not in file.tensors]
    strange = [
        f"{key} {list(value.shape)}" for key, value in file.tensors.items() if key not in wanted
    ]
    wrong = [
        f"{key} is {list(value.shape)}, not {list(wanted[key])}"
        for key, value in file.tensors.items()
        if key in wanted and tuple(value.shape) != wanted[key]
    ]
    problems = [("missing", missing), ("unexpected", strange), ("of another shape", wrong)]
    if missing or strange or wrong:
        told = "; ".join(f"{kind}: {_listed(names)}" for kind, names in problems if names)
        raise CheckpointError(f"{file.name} does not fit its config: {told}")
    for key in wanted:
        value = file.tensors[key]
        if not value.is_floating_point():
            raise CheckpointError(f"{file.name}: {key} holds {value.dtype}, no real numbers")
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{file.name}: {key} holds values that are not finite")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _assemble(file: WeightFile, source: Source) -> torch.Tensor:
    stacked = [file.tensors[key].float() for key in source.keys]
    whole = torch.cat(stacked) if len(stacked) > 1 else stacked[0]
    return (whole.T if source.is_transposed else whole).contiguous()
