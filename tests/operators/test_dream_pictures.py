"""Pictures into a model and out of it, and what a checkpoint says of itself."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine import Caps, OperatorError
from engine.testing import make_frame
from operators.generate.checkpoint import Facts, facts_of, picture_caps
from operators.generate.pictures import draw, last_pictures
from operators.video.yuv import small_rgb
from tests.operators.media import write_clip
from tests.operators.models import AR_SIZE_PX, AR_WINDOW, CLASSES, random_ar_diffusion

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128), (255, 255, 255), (20, 90, 200)]


@pytest.mark.parametrize("colorspace", ["bt601", "bt709"])
@pytest.mark.parametrize("color_range", ["limited", "full"])
@pytest.mark.parametrize("colour", COLOURS)
def test_colours_come_back_as_they_were(
    colour: tuple[int, int, int], colorspace: Any, color_range: Any
) -> None:
    caps = Caps(
        media="video", pix_fmt="yuv420p", dtype="uint8", width=48, height=32, device="cpu",
        colorspace=colorspace, color_range=color_range,
    )  # fmt: skip
    planes = np.zeros((48, 48), np.uint8)
    draw(np.full((16, 16, 3), colour, np.uint8), caps, planes)
    back = small_rgb(make_frame(planes, caps=caps), (48, 32))
    assert np.abs(back.astype(int) - colour).max() <= 2


def test_places_stay_where_they_were() -> None:
    rgb = np.zeros((16, 16, 3), np.uint8)
    rgb[:8, :8] = 255
    caps = picture_caps(random_ar_diffusion())
    planes = np.zeros((AR_SIZE_PX * 3 // 2, AR_SIZE_PX), np.uint8)
    draw(rgb, caps, planes)
    luma = planes[:AR_SIZE_PX]
    half = AR_SIZE_PX // 2
    corners = luma[half // 2, half // 2], luma[half // 2, -half // 2], luma[-half // 2, half // 2]
    assert np.abs(np.array(corners, int) - (235, 16, 16)).max() <= 1


def test_the_last_pictures_of_a_clip_come_oldest_first(tmp_path: Path) -> None:
    clip = str(write_clip(tmp_path / "clip.mp4", frames=12, size=(64, 48)))
    all_of_them = last_pictures(clip, 16, 100)
    assert len(all_of_them) == 12
    assert all(rgb.shape == (16, 16, 3) and rgb.dtype == np.uint8 for rgb in all_of_them)
    last = last_pictures(clip, 16, 5)
    assert [rgb.tobytes() for rgb in last] == [rgb.tobytes() for rgb in all_of_them[-5:]]


def test_a_file_without_pictures_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + struct.pack(
        "<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16) + b"data" + struct.pack("<I", 0))  # fmt: skip
    with pytest.raises(OperatorError, match=r"sound\.wav") as caught:
        last_pictures(str(path), 16, 1)
    assert caught.value.code == "NO_VIDEO"


def test_a_checkpoint_says_what_has_to_be_known_before_it_is_loaded() -> None:
    assert facts_of(random_ar_diffusion()) == Facts(AR_SIZE_PX, AR_WINDOW, 4, 2, CLASSES)


def safetensors(path: Path, metadata: Any) -> Path:
    header = json.dumps({"__metadata__": metadata}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


def described(classes: int, names: list[str], version: int = 2, **vae: int) -> dict[str, str]:
    config = {
        "vae": {"size_px": 64, **vae},
        "denoiser": {"frames": 16, "classes": classes},
        "steps": 10,
        "lag": 0,
    }
    header = {"version": version, "config": config, "digest": "", "card": {"classes": names}}
    return {"frameloom.ar_diffusion": json.dumps(header)}


def test_a_stream_has_a_lag_of_one_at_least(tmp_path: Path) -> None:
    """Whatever the defaults of a batch are: 0 moves all frames of a clip together."""
    path = safetensors(tmp_path / "a.safetensors", described(1, ["bounce"]))
    assert facts_of(path) == Facts(64, 16, 10, 1, ("bounce",))


def test_classes_that_the_model_does_not_tell_apart_are_no_prompts(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "a.safetensors", described(0, ["bounce", "pan"]))
    assert facts_of(path).classes == ()


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ({"other": "text"}, "no checkpoint of AR-Diffusion"),
        ({"frameloom.ar_diffusion": "{}"}, "no checkpoint of AR-Diffusion"),
        (described(0, [], size_px=10**9), "no checkpoint of AR-Diffusion"),
        (described(0, [], version=1), "version 1, only 2 can be read"),
        (described(3, ["bounce"]), "3 classes, its card names 1"),
    ],
)
def test_another_file_is_refused_and_has_no_size(
    metadata: dict[str, str], told: str, tmp_path: Path
) -> None:
    path = safetensors(tmp_path / "a.safetensors", metadata)
    with pytest.raises(ValueError, match=told):
        facts_of(path)
    caps = picture_caps(path)
    assert (caps.width, caps.height, caps.pix_fmt) == (None, None, "yuv420p")


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, b"\x05\0\0\0\0\0\0\0abcde"])
def test_what_is_no_safetensors_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.safetensors is no checkpoint"):
        facts_of(path)
