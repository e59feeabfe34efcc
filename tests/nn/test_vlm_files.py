"""CLIP out of files: every layout gives the same model, and nothing that does not fit is taken."""

from __future__ import annotations

import copy
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import CLIPConfig, CLIPModel

from operators.nn.vlm.clip import TextTower
from operators.nn.vlm.clip_config import TextConfig, VisionConfig
from operators.nn.vlm.clip_descriptor import read_descriptor
from operators.nn.vlm.errors import CheckpointError
from operators.nn.vlm.interface import Vlm
from operators.nn.vlm.loading import load_clip, load_clip_file

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(6))
TEXT = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 20,
    "bos_token_id": 298,
    "eos_token_id": 299,
}
VISION = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
OPEN_CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8},
        "text_cfg": {
            "context_length": 20,
            "vocab_size": 300,
            "width": 64,
            "heads": 2,
            "layers": 2,
        },
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25]},
}


@pytest.fixture(scope="module")
def theirs() -> CLIPModel:
    torch.manual_seed(21)
    model = CLIPModel(CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=24)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
        model.logit_scale.fill_(4.6052)
    return model


@pytest.fixture
def folder(theirs: CLIPModel, tmp_path: Path) -> Path:
    """In the ordinary layout of transformers."""
    theirs.save_pretrained(tmp_path / "random-clip")
    return tmp_path / "random-clip"


def fused(theirs: CLIPModel) -> dict[str, torch.Tensor]:
    """The same weights under OpenAI's names, written out by hand."""
    state = theirs.state_dict()
    found = {
        "logit_scale": state["logit_scale"],
        "visual.class_embedding": state["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": state["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": state["vision_model.embeddings.position_embedding.weight"],
        "visual.proj": state["visual_projection.weight"].T.contiguous(),
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "text_projection": state["text_projection.weight"].T.contiguous(),
    }
    for kind in ("weight", "bias"):
        found[f"visual.ln_pre.{kind}"] = state[f"vision_model.pre_layrnorm.{kind}"]
        found[f"visual.ln_post.{kind}"] = state[f"vision_model.post_layernorm.{kind}"]
        found[f"ln_final.{kind}"] = state[f"text_model.final_layer_norm.{kind}"]
        for tower, prefix in (("vision", "visual."), ("text", "")):
            for layer in range(2):
                there = f"{tower}_model.encoder.layers.{layer}."
                here = f"{prefix}transformer.resblocks.{layer}."
                found[f"{here}attn.in_proj_{kind}"] = torch.cat(
                    [state[f"{there}self_attn.{part}_proj.{kind}"] for part in "qkv"]
                )
                for ours, other in (
                    ("attn.out_proj", "self_attn.out_proj"),
                    ("ln_1", "layer_norm1"),
                    ("ln_2", "layer_norm2"),
                    ("mlp.c_fc", "mlp.fc1"),
                    ("mlp.c_proj", "mlp.fc2"),
                ):
                    found[f"{here}{ours}.{kind}"] = state[f"{there}{other}.{kind}"]
    return found


def save_open_clip(folder: Path, state: dict[str, torch.Tensor], config: Any = None) -> Path:
    folder.mkdir()
    safetensors.torch.save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config or OPEN_CONFIG))
    return folder


def save_tokenizer(folder: Path, vocabulary: int = 300) -> None:
    """A byte-pair tokenizer built as CLIP's is."""
    letters = [*pre_tokenizers.ByteLevel.alphabet()]
    words = [*sorted(letters), "face</w>", "fa", "ce</w>", "real</w>", "re", "al</w>"]
    words += [f"{letter}</w>" for letter in sorted("abcdefghijklmnopqrstuvwxyz.,-")]
    words += ["<|startoftext|>", "<|endoftext|>"]
    words += [f"<{place}>" for place in range(vocabulary - len(words))]
    merges = [("f", "a"), ("c", "e</w>"), ("fa", "ce</w>"), ("r", "e"), ("a", "l</w>")]
    merges += [("re", "al</w>")]
    tokenizer = Tokenizer(
        models.BPE(
            {word: place for place, word in enumerate(words)},
            merges,
            end_of_word_suffix="</w>",
            unk_token="<|endoftext|>",
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.enable_padding(length=77)
    tokenizer.enable_truncation(77)
    tokenizer.save(str(folder / "tokenizer.json"))


@torch.inference_mode()
def same_as(vlm: Vlm, theirs: CLIPModel, tolerance: float = 1e-5) -> None:
    expected = theirs.visual_projection(theirs.vision_model(IMAGES).pooler_output)
    torch.testing.assert_close(vlm.image(IMAGES).pooled, expected, rtol=0, atol=tolerance)
    tokens = torch.tensor([[298, 5, 6, 7, 299], [298, 9, 299, 0, 0]])
    expected = theirs.text_projection(theirs.text_model(input_ids=tokens).pooler_output)
    assert vlm.text is not None
    found = vlm.text(vlm.text.embed(tokens), torch.tensor([4, 2]))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


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


# ---------------------------------------------------------------- every layout, the same model


def test_the_layout_of_transformers(folder: Path, theirs: CLIPModel) -> None:
    vlm = load_clip(folder)
    same_as(vlm, theirs)
    assert vlm.dim == 24
    assert vlm.name == "random-clip"
    assert vlm.logit_scale == pytest.approx(math.exp(4.6052), rel=1e-6)
    data = (folder / "model.safetensors").read_bytes()
    assert vlm.backbone_sha == hashlib.sha256(data).hexdigest()
    assert vlm.tokenizer is None
    assert vlm.image.size_px == 32
    assert vlm.image.mean == (0.48145466, 0.4578275, 0.40821073)
    assert isinstance(vlm.text, TextTower)
    assert vlm.text.context_length == 20
    assert not any(weight.requires_grad for weight in vlm.text.parameters())


def test_towers_that_differ_in_everything_the_config_says(tmp_path: Path) -> None:
    torch.manual_seed(4)
    text = TEXT | {"hidden_act": "gelu", "layer_norm_eps": 0.3, "num_attention_heads": 4}
    vision = VISION | {"layer_norm_eps": 0.1, "num_hidden_layers": 1, "intermediate_size": 200}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=17)
    model = CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    same_as(load_clip(tmp_path), model)
    told = read_descriptor(tmp_path)
    assert (told.vision.activation, told.text.activation) == ("quick_gelu", "gelu")


def test_the_layout_of_open_clip(tmp_path: Path, theirs: CLIPModel) -> None:
    vlm = load_clip(save_open_clip(tmp_path / "open", fused(theirs)))
    same_as(vlm, theirs)
    assert vlm.image.mean == (0.5, 0.4, 0.3)
    assert vlm.image.std == (0.2, 0.3, 0.25)


@pytest.mark.parametrize("nesting", ["plain", "with numbers", "state_dict", "module"])
def test_state_dicts_of_openai_in_pt_files(tmp_path: Path, theirs: CLIPModel, nesting: str) -> None:
    state: dict[str, Any] = fused(theirs)
    if nesting == "with numbers":
        state |= {"input_resolution": torch.tensor(32), "context_length": torch.tensor(20)}
        state["vocab_size"] = torch.tensor(300)
    if nesting == "module":
        state = {f"module.{key}": value for key, value in state.items()}
    if nesting in ("state_dict", "module"):
        state = {"epoch": 3, "name": "trial", "state_dict": state}
    path = tmp_path / "ViT-tiny.pt"
    torch.save(state, path)
    (tmp_path / "open_clip_config.json").write_text(json.dumps(OPEN_CONFIG))
    vlm = load_clip_file(path, read_descriptor(tmp_path))
    same_as(vlm, theirs)
    assert vlm.name == "ViT-tiny"
    assert vlm.backbone_sha == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(CheckpointError, match="no weight file"):
        load_clip(tmp_path)  # which file of a folder is meant must be plain from its name
    path.rename(tmp_path / "open_clip_pytorch_model.bin")
    same_as(load_clip(tmp_path), theirs)


def test_older_files_of_transformers(folder: Path, theirs: CLIPModel) -> None:
    state = dict(theirs.state_dict())
    for tower, count in (("text", 20), ("vision", 17)):
        state[f"{tower}_model.embeddings.position_ids"] = torch.arange(count)[None]
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    edit(folder / "config.json", lambda told: told.update(text_config_dict=dict(TEXT)))
    same_as(load_clip(folder), theirs)


def test_half_precision_becomes_float32(tmp_path: Path, theirs: CLIPModel) -> None:
    state = {key: value.half() for key, value in fused(theirs).items()}
    vlm = load_clip(save_open_clip(tmp_path / "open", state))
    assert isinstance(vlm.text, TextTower)
    assert {weight.dtype for weight in vlm.text.parameters()} == {torch.float32}
    same_as(vlm, theirs, tolerance=0.02)


def test_a_folder_of_both_layouts_must_agree(folder: Path) -> None:
    config = copy.deepcopy(OPEN_CONFIG)
    del config["preprocess_cfg"]
    path = folder / "open_clip_config.json"
    path.write_text(json.dumps(config))
    assert load_clip(folder).dim == 24
    edit(path, lambda told: told["model_cfg"].update(quick_gelu=False))
    with pytest.raises(CheckpointError, match="describe different models"):
        load_clip(folder)


def test_without_text_only_images_are_seen(folder: Path, theirs: CLIPModel) -> None:
    vlm = load_clip(folder, with_text=False)
    assert vlm.text is None
    assert vlm.tokenizer is None
    with torch.inference_mode():
        expected = theirs.visual_projection(theirs.vision_model(IMAGES).pooler_output)
        torch.testing.assert_close(vlm.image(IMAGES).pooled, expected, rtol=0, atol=1e-5)
    assert vlm.backbone_sha == load_clip(folder).backbone_sha
    rewrite(folder / "model.safetensors", lambda state: state.pop("text_projection.weight"))
    with pytest.raises(CheckpointError, match="text_projection"):
        load_clip(folder, with_text=False)


def test_normalisation_of_the_folder_is_taken(folder: Path) -> None:
    told = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 0.5], "resample": 3}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": told}))
    assert load_clip(folder).image.std == (0.25, 0.5, 0.5)
    (folder / "preprocessor_config.json").write_text(json.dumps(told | {"image_std": [1, 1, 1]}))
    assert load_clip(folder).image.std == (1, 1, 1)
    (folder / "preprocessor_config.json").write_text(json.dumps(told | {"resample": 2}))
    with pytest.raises(CheckpointError, match="resample is 2"):
        load_clip(folder)


# ------------------------------------------------------------------------------- image sizes


@torch.inference_mode()
def test_the_size_it_was_trained_with_changes_no_bit(folder: Path) -> None:
    plain, asked = load_clip(folder), load_clip(folder, size_px=32)
    assert asked.name == plain.name
    found, expected = asked.image(IMAGES), plain.image(IMAGES)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@torch.inference_mode()
def test_larger_images_get_positions_in_between(folder: Path, theirs: CLIPModel) -> None:
    vlm = load_clip(folder, size_px=48)
    assert vlm.name == "random-clip@48"
    assert vlm.image.size_px == 48
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(1))
    found = vlm.image(images)
    assert tuple(found.patches.shape) == (2, 36, 24)
    larger = CLIPModel(
        CLIPConfig(text_config=TEXT, vision_config=VISION | {"image_size": 48}, projection_dim=24)
    ).eval()
    state = dict(theirs.state_dict())
    key = "vision_model.embeddings.position_embedding.weight"
    square = state[key][1:].T.reshape(1, -1, 4, 4)
    bent = torch.nn.functional.interpolate(square, (6, 6), mode="bilinear")
    state[key] = torch.cat([state[key][:1], bent[0].permute(1, 2, 0).reshape(36, -1)])
    larger.load_state_dict(state)
    expected = larger.visual_projection(larger.vision_model(images).pooler_output)
    torch.testing.assert_close(found.pooled, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size_px", [36, 4, 0, -8, 100_000])
def test_sizes_that_patches_do_not_tile_are_refused(folder: Path, size_px: int) -> None:
    with pytest.raises(CheckpointError, match=f"{size_px}"):
        load_clip(folder, size_px=size_px)


# --------------------------------------------------------------------------------- open_clip


def test_a_wrong_shape_of_a_fused_matrix_is_named(tmp_path: Path, theirs: CLIPModel) -> None:
    state = fused(theirs)
    key = "visual.transformer.resblocks.1.attn.in_proj_weight"
    state[key] = state[key][:256].clone()
    with pytest.raises(CheckpointError, match=r"in_proj_weight is \[256, 128\], not \[384, 128\]"):
        load_clip(save_open_clip(tmp_path / "open", state))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda told: told["model_cfg"]["vision_cfg"].update(pool_type="avg"),
            "unknown field `pool_type`",
        ),
        (lambda told: told["model_cfg"]["vision_cfg"].update(head_width=60), "no multiple of 60"),
        (lambda told: told["model_cfg"]["vision_cfg"].update(head_width=0), "no multiple of 0"),
        (lambda told: told["model_cfg"].update(quick_gelu="yes"), "Expected `bool`"),
        (lambda told: told["preprocess_cfg"].update(interpolation="bilinear"), "only 'bicubic'"),
        (lambda told: told["preprocess_cfg"].update(std=[0, 1, 1]), "must be above 0"),
    ],
)
def test_configs_of_open_clip_that_cannot_be(
    tmp_path: Path, theirs: CLIPModel, change: Any, message: str
) -> None:
    folder = save_open_clip(tmp_path / "open", fused(theirs))
    edit(folder / "open_clip_config.json", change)
    with pytest.raises(CheckpointError, match=r"^open_clip_config\.json: .*" + message):
        load_clip(folder)


def test_open_clip_means_gelu_where_it_says_nothing(tmp_path: Path) -> None:
    config = copy.deepcopy(OPEN_CONFIG)
    del config["model_cfg"]["quick_gelu"]
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    told = read_descriptor(tmp_path)
    assert told.vision == VisionConfig(32, 8, 2, 128, 2, 512, "gelu")
    assert told.text == TextConfig(300, 20, 2, 64, 2, 256, "gelu")


# ------------------------------------------------------------------------------- the tokenizer


def test_words_become_tokens_by_the_folders_tokenizer(folder: Path) -> None:
    save_tokenizer(folder)
    tokenizer = load_clip(folder).tokenizer
    assert tokenizer is not None
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert tokenizer.begin == vocabulary["<|startoftext|>"]
    assert tokenizer.end == vocabulary["<|endoftext|>"]
    expected = [vocabulary[word] for word in ("real</w>", "face</w>", ".</w>")]
    assert tokenizer.encode("Real  FACE .") == expected  # neither padded nor framed
    assert tokenizer.encode("") == []
    assert len(tokenizer.encode("real face " * 60)) == 120  # nor cut
    assert load_clip(folder, with_text=False).tokenizer is None


def test_tokenizers_that_do_not_fit_are_refused(folder: Path) -> None:
    save_tokenizer(folder, vocabulary=301)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json has 301 tokens, the model 300"):
        load_clip(folder)
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("<|endoftext|>", "<|stop|>"))
    with pytest.raises(CheckpointError, match=r"lacks <\|endoftext\|>"):
        load_clip(folder)
    (folder / "tokenizer.json").write_text(text[: len(text) // 2])
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is no tokenizer"):
        load_clip(folder)


def test_hashes_stand_in_only_where_there_is_no_tokenizer(folder: Path) -> None:
    tokenizer = load_clip(folder, hash_words=True).tokenizer
    assert tokenizer is not None
    assert (tokenizer.begin, tokenizer.end) == (298, 299)
    save_tokenizer(folder)
    with pytest.raises(CheckpointError, match=r"has a tokenizer\.json"):
        load_clip(folder, hash_words=True)
