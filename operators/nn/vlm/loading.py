"""A CLIP from a local folder, frozen, ready for prompts: `load_clip`.

Folders are those that transformers or open_clip publish: a config, a weight file and a
`tokenizer.json`. Nothing is fetched from anywhere, and nothing in a folder is run. Method
specification, section 1.2.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import torch

from operators.nn.vlm.clip import Clip, resize_positions
from operators.nn.vlm.clip_config import ClipConfig, preset
from operators.nn.vlm.clip_descriptor import read_descriptor
from operators.nn.vlm.clip_weights import fit_weights, read_weights
from operators.nn.vlm.errors import CheckpointError
from operators.nn.vlm.interface import Tokenizer, Vlm
from operators.nn.vlm.tokens import BytePairTokenizer, HashTokenizer

WEIGHT_FILES = (
    "model.safetensors",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
TOKENIZER_FILE = "tokenizer.json"
MAX_LOG_SCALE = 10.0  # released models have 4.6; beyond this the file is not a logit scale


def load_clip(
    folder: Path, size_px: int | None = None, with_text: bool = True, hash_words: bool = False
) -> Vlm:
    """The model of a folder; both towers are frozen, and in float32 on the CPU.

    `size_px` asks for images of another size than the model was trained with, a multiple of its
    patches (252 or 266, not 259, for patches of 14): position embeddings are then interpolated
    bilinearly, and the name tells the size. `with_text` False leaves text tower and tokenizer out,
    for runs that need only prompt vectors; the whole file is checked nevertheless.

    Without a `tokenizer.json` the tokenizer is None and no prompt can be spelt. `hash_words` takes
    hashes for tokens then: only for models that were never trained.

    FileNotFoundError if there is no such folder; CheckpointError for whatever is wrong inside.
    """
    config = read_descriptor(folder)
    tokenizer = _tokenizer(folder, config, hash_words) if with_text else None
    vlm = load_clip_file(_weight_file(folder), config, size_px, with_text)
    vlm.tokenizer = tokenizer
    vlm.name = _name(folder.resolve().name, config, size_px)
    return vlm


def load_clip_file(
    path: Path, config: ClipConfig, size_px: int | None = None, with_text: bool = True
) -> Vlm:
    """`load_clip` for a weight file alone, such as one of OpenAI's state dicts; no tokenizer.

    `config`: what the file holds, from `preset` for instance.
    """
    file = read_weights(path)
    resized = config if size_px is None else config.with_size(size_px)
    with torch.device("meta"):  # numbers that are replaced at once need not be drawn
        told, clip = Clip(config), Clip(resized)
    parts = ("vision.", "text.", "log_scale") if with_text else ("vision.", "log_scale")
    state = fit_weights(file, told, parts)
    grid = resized.vision.grid
    if grid != config.vision.grid:
        state["vision.positions"] = resize_positions(state["vision.positions"], grid)
    log_scale = float(state["log_scale"])
    if abs(log_scale) > MAX_LOG_SCALE:
        raise CheckpointError(
            f"{file.name}: logit_scale is {log_scale}; it is a logarithm, 4.6 in released models"
        )
    clip.load_state_dict(state, strict=with_text, assign=True)
    return _view(clip, log_scale, file.sha, _name(path.stem, config, size_px), with_text)


def random_clip(config: ClipConfig | str = "clip-tiny-test", seed: int = 0) -> Vlm:
    """A model that was never trained, with a hash tokenizer: for tests and trials.

    `config` may be the name of a preset. `backbone_sha` is that of its weights' bytes, so two
    seeds are two models.
    """
    if isinstance(config, str):
        name, config = config, preset(config)
    else:
        name = "clip"
    clip = Clip(config)
    clip.draw(seed)
    digest = hashlib.sha256()
    for key, value in clip.state_dict().items():
        digest.update(f"{key}|{list(value.shape)}|".encode() + value.numpy().tobytes())
    vlm = _view(clip, float(clip.log_scale.detach()), digest.hexdigest(), f"{name}#{seed}", True)
    vlm.tokenizer = HashTokenizer(config.text.vocabulary)
    return vlm


def _view(clip: Clip, log_scale: float, sha: str, name: str, with_text: bool) -> Vlm:
    clip.requires_grad_(False).eval()
    return Vlm(
        image=clip.vision,
        text=clip.text if with_text else None,
        tokenizer=None,
        logit_scale=math.exp(log_scale),
        dim=clip.config.dim,
        backbone_sha=sha,
        name=name,
    )


def _name(name: str, config: ClipConfig, size_px: int | None) -> str:
    return name if size_px in (None, config.vision.size_px) else f"{name}@{size_px}"


def _weight_file(folder: Path) -> Path:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    if any(folder.glob("*.index.json")):
        raise CheckpointError(f"{folder.name} has its weights in several files; one is needed")
    raise CheckpointError(f"{folder.name} has no weight file; one of {', '.join(WEIGHT_FILES)}")


def _tokenizer(folder: Path, config: ClipConfig, hash_words: bool) -> Tokenizer | None:
    path, vocabulary = folder / TOKENIZER_FILE, config.text.vocabulary
    if hash_words and path.is_file():
        raise CheckpointError(
            f"{folder.name} has a {TOKENIZER_FILE}; hashes would not be its words"
        )
    if hash_words:
        return HashTokenizer(vocabulary)
    if not path.is_file():
        return None
    tokenizer = BytePairTokenizer.from_file(path)
    if tokenizer.vocabulary > vocabulary:
        raise CheckpointError(
            f"{TOKENIZER_FILE} has {tokenizer.vocabulary} tokens, the model {vocabulary}"
        )
    return tokenizer
