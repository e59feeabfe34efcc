"""Features of clips: they see blur, noise and what is wrong with time."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from operators.face.encode import SHIPPED
from operators.nn.quality.features import CLIP_WIDTH, FRAME_WIDTH, ClipFeatures, read_places
from operators.nn.quality.frechet import fit_projection, frechet_distance
from operators.nn.vlm.compact_file import load_compact
from operators.nn.vlm.efficientnet import EfficientNetLite0
from operators.nn.worlds.sampler import ClipSampler


def small() -> ClipFeatures:
    """Random weights: enough for shapes."""
    torch.manual_seed(3)
    return ClipFeatures(EfficientNetLite0().fold(), "ab" * 32, size_px=32)


@pytest.fixture(scope="module")
def shipped() -> ClipFeatures:
    vlm, _, sha = load_compact(Path(SHIPPED))
    return ClipFeatures(vlm.image.backbone, sha)


def test_shapes_names_and_refusals() -> None:
    features = small()
    clip = np.random.default_rng(0).integers(0, 256, (8, 40, 32, 3), dtype=np.uint8)
    assert features.of_frames(clip).shape == (8, FRAME_WIDTH)
    assert features.of_clips([clip, clip]).shape == (2, CLIP_WIDTH)
    assert "abababababab" in features.name
    with pytest.raises(ValueError, match="too short"):
        features.of_clip(clip[:7])
    with pytest.raises(ValueError, match="uint8 RGB"):
        features.of_clip(clip / 255.0)
    with pytest.raises(ValueError, match="multiple of 32"):
        ClipFeatures(features.network, "", 40)


def test_a_still_clip_has_no_change_and_parts_are_what_they_say() -> None:
    features = small()
    clip = np.random.default_rng(1).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    still = features.of_clip(np.repeat(clip[:1], 8, axis=0)).reshape(4, FRAME_WIDTH)
    assert np.abs(still[1:]).max() < 1e-5
    seen = features.of_frames(clip)
    assert still[0] == pytest.approx(seen[0], abs=1e-4)
    moving = features.of_clip(clip).reshape(4, FRAME_WIDTH)
    told = [seen.mean(axis=0), *(np.abs(seen[n:] - seen[:-n]).mean(axis=0) for n in (1, 4, 4))]
    assert moving == pytest.approx(np.stack(told), abs=1e-4)


def test_seams_of_any_period_are_looked_across() -> None:
    """In a long clip each phase of a seam that comes every 8, 12 or 16 frames is compared."""
    places = read_places(128)
    assert len(places) == 19
    for period in (8, 12, 16):
        crossed = {(t + k) % period for t in places for k in range(1, 5) if t + 4 < 128}
        assert crossed == set(range(period))


@pytest.fixture(scope="module")
def real() -> np.ndarray:
    """[36, 8, 64, 64, 3]"""
    return ClipSampler(("bounce", "pan"), "train", length=8, seed=2).batch(0, 36)[0]


def blurred(clips: np.ndarray, side_px: int) -> np.ndarray:
    frames = clips.reshape(-1, *clips.shape[2:])
    made = [cv2.GaussianBlur(frame, (side_px, side_px), 0) for frame in frames]
    return np.array(made).reshape(clips.shape)


def noisy(clips: np.ndarray, level: int) -> np.ndarray:
    noise = np.random.default_rng(7).normal(0, level, clips.shape)
    return np.clip(clips + noise, 0, 255).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.timeout(180)  # a thousand frames
def test_the_distance_grows_with_blur_and_noise_and_sees_disorder(
    shipped: ClipFeatures, real: np.ndarray
) -> None:
    seen = shipped.of_clips(real)
    project, clips = fit_projection(seen[:12], 5), real[24:]
    one, other = project(seen[12:24]), project(seen[24:])
    floor = frechet_distance(one, other)

    def far(worse: np.ndarray) -> float:
        return frechet_distance(other, project(shipped.of_clips(worse)))

    assert 0 < far(blurred(clips, 3)) < far(blurred(clips, 7))
    assert 0 < far(noisy(clips, 6)) < far(noisy(clips, 18))
    rng = np.random.default_rng(0)
    shuffled = np.stack([clip[rng.permutation(len(clip))] for clip in clips])
    cut = np.concatenate([clips[:, :4], np.roll(clips, 2, axis=0)[:, 4:]], axis=1)
    frozen = np.repeat(clips[:, :1], clips.shape[1], axis=1)
    assert floor < far(shuffled) < far(frozen)
    assert floor < far(cut)
