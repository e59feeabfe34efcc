"""Model folders that do not fit, are damaged or hostile: one clear error each, nothing is run."""

from __future__ import annotations

import json
import math
import tempfile
import warnings
from pathlib import Path
from random import Random
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPConfig, CLIPModel

from operators.nn.vlm.clip_config import preset
from operators.nn.vlm.errors import CheckpointError
from operators.nn.vlm.loading import load_clip, load_clip_file

SMALL = safetensors.torch.save(  # parts of a model: enough for headers and names to be damaged
    {f"visual.ln_pre.{kind}": torch.ones(64) for kind in ("weight", "bias")}
)


@pytest.fixture(scope="module")
def theirs() -> CLIPModel:
    torch.manual_seed(22)
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}
    text = {"vocab_size": 300, "hidden_size": 64, "max_position_embeddings": 20, **sizes}
    text |= {"bos_token_id": 298, "eos_token_id": 299}
    vision = {"hidden_size": 128, "image_size": 32, "patch_size": 8, **sizes}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))


@pytest.fixture
def folder(theirs: CLIPModel, tmp_path: Path) -> Path:
    """In the ordinary layout of transformers."""
    theirs.save_pretrained(tmp_path / "random-clip")
    return tmp_path / "random-clip"


def edit(path: Path, change: Any) -> None:
    """Change a JSON file in place: `change` is given what it says."""
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


def rewrite(path: Path, change: Any) -> None:
    """The same for the tensors of a safetensors file."""
    tensors = safetensors.torch.load(path.read_bytes())
    change(tensors)
    safetensors.torch.save_file(tensors, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("visual_projection.weight"),
            r"missing: visual_projection\.weight \[24, 128\]$",
        ),
        (
            lambda state: state.update(extra=torch.zeros(2, 3)),
            r"unexpected: extra \[2, 3\]$",
        ),
        (
            lambda state: state.update(text_projection=state.pop("text_projection.weight")),
            r"missing: text_projection\.weight.*; unexpected: text_projection \[24, 64\]$",
        ),
        (
            lambda state: state.update({"text_projection.weight": torch.zeros(24, 63)}),
            r"another shape: text_projection\.weight is \[24, 63\], not \[24, 64\]$",
        ),
        (
            lambda state: state.update({"visual_projection.weight": torch.zeros(128, 24)}),
            r"another shape: visual_projection\.weight is \[128, 24\], not \[24, 128\]$",
        ),
        (
            lambda state: state["vision_model.pre_layrnorm.bias"].fill_(math.nan),
            r"vision_model\.pre_layrnorm\.bias holds values that are not finite",
        ),
        (
            lambda state: state.update({"text_projection.weight": torch.ones(24, 64).int()}),
            r"text_projection\.weight holds torch\.int32",
        ),
        (lambda state: state.update(logit_scale=torch.tensor(100.0)), r"logit_scale is 100\.0"),
        (lambda state: state.update(logit_scale=torch.ones(1)), r"logit_scale is \[1\], not \[\]"),
    ],
    ids=["missing", "unexpected", "renamed", "shape", "turned", "nan", "int", "scale", "one"],
)
def test_weights_that_do_not_fit_are_named(folder: Path, change: Any, message: str) -> None:
    rewrite(folder / "model.safetensors", change)
    with pytest.raises(CheckpointError, match=message):
        load_clip(folder)


def test_a_model_of_other_depth_is_told_shortly(folder: Path) -> None:
    edit(folder / "config.json", lambda told: told["text_config"].update(num_hidden_layers=3))
    with pytest.raises(CheckpointError, match=r"missing: text_model\.encoder.*and 12 more$"):
        load_clip(folder)


def test_weights_of_another_model_are_told(folder: Path) -> None:
    safetensors.torch.save_file({"stem.weight": torch.ones(2)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"holds no CLIP.*found stem\.weight"):
        load_clip(folder)


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "text"])
def test_damaged_safetensors_are_refused(folder: Path, damage: str) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    broken = {
        "cut": data[: len(data) // 2],
        "header": b"\xff" * 8 + data[8:],
        "empty": b"",
        "text": b"version https://git-lfs.github.com/spec/v1\n",
    }
    path.write_bytes(broken[damage])
    with pytest.raises(CheckpointError, match=r"^model\.safetensors cannot be read"):
        load_clip(folder)


class Trap:
    """What a hostile pickle looks like: opening it runs a function."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_objects_are_never_run(tmp_path: Path, theirs: CLIPModel) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "model.pt"
    torch.save({**theirs.state_dict(), "extra": Trap(marker)}, path)
    with pytest.raises(CheckpointError, match=r"^model\.pt cannot be read.*more than tensors"):
        load_clip_file(path, preset("clip-tiny-test"))
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the trap is a real one
    assert marker.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_damaged_pt_files_are_refused(tmp_path: Path, theirs: CLIPModel, damage: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(theirs.state_dict(), path)
    data = path.read_bytes()
    path.write_bytes({"cut": data[:5000], "empty": b"", "text": b"no weights at all"}[damage])
    with pytest.raises(CheckpointError, match=r"^model\.pt cannot be read"):
        load_clip_file(path, preset("clip-tiny-test"))


def test_programs_of_torchscript_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "ViT-B-32.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have programs in another format
        torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(path))
    with pytest.raises(CheckpointError, match=r"ViT-B-32\.pt .* TorchScript program.*state_dict"):
        load_clip_file(path, preset("clip-vit-b32"))


@given(st.integers(0, 2**32), st.integers(1, 64))
@settings(max_examples=40)
def test_no_flipped_byte_raises_anything_else(seed: int, count: int) -> None:
    random = Random(seed)
    data = bytearray(SMALL)
    for _ in range(count):
        data[random.randrange(min(len(data), random.choice([16, 400, len(data)])))] ^= (
            1 << random.randrange(8)
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"^model\.safetensors"):
            load_clip_file(path, preset("clip-tiny-test"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "holds no weights"),
        ([torch.ones(1)], "holds no weights"),
        ({"visual.proj": 3}, "'visual.proj' is no named tensor"),
        ({7: torch.ones(1)}, "7 is no named tensor"),
    ],
)
def test_pt_files_of_other_things_are_told(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=message):
        load_clip_file(tmp_path / "model.pt", preset("clip-tiny-test"))


def test_other_kinds_of_files_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"cos\nsystem\n")
    with pytest.raises(CheckpointError, match=r"model\.pkl is no weight file; \.safetensors, \.pt"):
        load_clip_file(tmp_path / "model.pkl", preset("clip-tiny-test"))
    with pytest.raises(FileNotFoundError):
        load_clip_file(tmp_path / "model.pt", preset("clip-tiny-test"))


def test_folders_without_what_is_needed_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no model folder"):
        load_clip(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"neither config\.json nor open_clip_config\.json"):
        load_clip(tmp_path)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"no weight file; one of model\.safetensors"):
        load_clip(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="in several files"):
        load_clip(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda told: told["vision_config"].update(hidden_act="relu"),
            r"^config\.json: vision_config: the activation 'relu' is unknown; known are quick_gelu",
        ),
        (
            lambda told: told["text_config"].update(hidden_act="gelu_pytorch_tanh"),
            "text_config: the activation 'gelu_pytorch_tanh' is unknown",
        ),
        (
            lambda told: told["text_config"].pop("hidden_act"),
            "text_config does not say its activation; add hidden_act",
        ),
        (
            lambda told: told.update(vision_config_dict={"num_attention_heads": 4}),
            r"vision_config\.num_attention_heads is 2, and 4 in vision_config_dict",
        ),
        (lambda told: told.update(model_type="siglip"), "model_type is 'siglip', only 'clip'"),
        (lambda told: told.pop("vision_config"), "missing required field `vision_config`"),
        (
            lambda told: told["vision_config"].update(hidden_size="wide"),
            r"vision_config: Expected `int`, got `str` - at `\$\.hidden_size`",
        ),
        (lambda told: told["vision_config"].update(num_channels=4), "num_channels is 4, not 3"),
        (lambda told: told["vision_config"].update(image_size=33), "33 px cannot be cut"),
        (lambda told: told["text_config"].update(num_attention_heads=0), "heads is 0"),
        (lambda told: told.update(projection_dim=10**7), "10000000 numbers"),
    ],
)
def test_configs_of_transformers_that_cannot_be(folder: Path, change: Any, message: str) -> None:
    edit(folder / "config.json", change)
    with pytest.raises(CheckpointError, match=message):
        load_clip(folder)


def test_a_config_that_is_no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{'model_type': clip}")
    with pytest.raises(CheckpointError, match=r"config\.json is no JSON"):
        load_clip(folder)
