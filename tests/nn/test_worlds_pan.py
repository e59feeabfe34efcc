"""`pan`: the camera of the truth is the camera of the picture."""

from __future__ import annotations

import numpy as np
import pytest

from operators.nn.worlds.clip import make_clip
from operators.nn.worlds.landscapes import LANDSCAPES, draw_landscape
from operators.nn.worlds.pan import PanWorld
from operators.nn.worlds.spec import SPLITS, ClipSpec


def ramp(width: int, height: int):
    """A picture that says where it is: red across, green down."""
    x, y = np.arange(width) * 255 / width, np.arange(height) * 255 / height
    return np.stack(np.broadcast_arrays(x, y[:, None], 0.0), axis=-1).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("width", "height", "picture"),
    [(64, 64, (900, 600)), (96, 48, (300, 400)), (40, 80, (120, 90))],
)
def test_the_camera_says_what_each_pixel_shows(width, height, picture):
    photograph = ramp(*picture)
    clip = make_clip(ClipSpec("pan", 3, width=width, height=height, fps=1, length=9), [photograph])
    rows, columns = np.mgrid[4 : height - 4 : 6, 4 : width - 4 : 6]
    for frame, camera in zip(clip.frames, clip.truth.camera, strict=True):
        seen = frame[rows, columns].astype(float)
        x = (seen[..., 0] / 255 * picture[0] + 0.5) / picture[1]
        y = (seen[..., 1] / 255 * picture[1] + 0.5) / picture[1]
        place = camera @ np.stack((x.ravel(), y.ravel(), np.ones(x.size)))
        level = camera[0, 0] * picture[0] / picture[1] / 255  # px of the frame that a level spans
        assert np.abs(place[0] - columns.ravel()).max() < 0.75 * level + 0.6
        assert np.abs(place[1] - rows.ravel()).max() < 0.75 * level + 0.6


@pytest.mark.parametrize("size", [(64, 64), (160, 40), (40, 80)])
def test_the_camera_is_smooth_and_never_leaves_the_picture(size):
    for seed in range(3):
        world = PanWorld(ClipSpec("pan", seed, width=size[0], height=size[1]))
        corners = np.array([(-0.5, -0.5), (size[0] - 0.5, size[1] - 0.5), (-0.5, size[1] - 0.5)])
        cameras = np.stack([world.camera(t) for t in np.arange(0, 40, 0.2)])
        wide = world._picture.shape[1] / world._picture.shape[0]
        for camera in cameras:
            x, y = np.linalg.inv(camera[:, :2]) @ (corners - camera[:, 2]).T
            assert min(x.min(), y.min()) > -1e-9
            assert x.max() < wide + 1e-9
            assert y.max() < 1 + 1e-9
        middle = cameras @ np.array([wide / 2, 0.5, 1.0])
        speed = np.linalg.norm(np.diff(middle, axis=0), axis=1) / 0.2 / max(size)
        assert 0.02 < speed.max() < 1.5  # frames' widths per second
        assert np.abs(np.diff(speed)).max() < 0.2


@pytest.mark.parametrize("split", SPLITS)
def test_drawn_scenes_belong_to_the_split(split):
    seen = {
        make_clip(ClipSpec("pan", seed, split, 16, 16, length=1)).truth.scene for seed in range(12)
    }
    assert seen == set(LANDSCAPES[split])


@pytest.mark.parametrize("name", sorted({n for names in LANDSCAPES.values() for n in names}))
def test_a_landscape_is_not_flat_anywhere(name):
    image = draw_landscape(name, 240, 160, np.random.default_rng(1)).astype(float)
    assert image.shape == (160, 240, 3)
    assert image.std() > 25
    below = image[100:]
    assert below.reshape(-1, 3).std(axis=0).max() > 8


def test_photographs_are_chosen_by_the_seed():
    pictures = [np.full((90, 120, 3), level, np.uint8) for level in (40, 120, 200)]
    seen = set()
    for seed in range(12):
        clip = make_clip(ClipSpec("pan", seed, length=1), pictures)
        assert np.ptp(clip.frames) == 0
        assert clip.truth.scene == f"photograph {[40, 120, 200].index(clip.frames[0, 0, 0, 0])}"
        seen.add(clip.truth.scene)
    assert len(seen) == 3


def test_there_are_no_objects():
    truth = make_clip(ClipSpec("pan", 1, length=3)).truth
    assert truth.objects == truth.contacts == truth.events == ()
    assert truth.centre.shape == (3, 0, 2)
    assert truth.camera.shape == (3, 2, 3)


def test_what_is_no_photograph_is_refused():
    for wrong in (np.zeros((90, 120), np.uint8), np.zeros((90, 120, 3), np.float32)):
        with pytest.raises(ValueError, match="photograph"):
            make_clip(ClipSpec("pan", 0), [wrong])
