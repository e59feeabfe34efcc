"""Patches back into frames: kernel and twin agree, colours move, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operators.kernels.launching import On
from operators.kernels.paste import Places, colour_transfer, paste, paste_twin
from tests.operators.kernels import host
from tests.operators.kernels.test_crop import turned

SIZE = 32


def patches_of(count: int) -> tuple[Any, Any]:
    """Soft patches [n, S, S, 3] and round masks [n, S, S]."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    patches = [
        np.stack([128 + 60 * np.sin((x + c * 5) / 9 + n) for c in range(3)], 2)
        for n in range(count)
    ]
    distance = np.hypot(x - (SIZE - 1) / 2, y - (SIZE - 1) / 2)
    mask = np.clip(255 * (15 - distance) / 6, 0, 255)
    return np.array(patches, np.uint8), np.repeat(mask[None].astype(np.uint8), count, 0)


def frame_of(width: int = 160, height: int = 100) -> Any:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([90 + 40 * np.cos((x + y) / 23 + c) for c in range(3)], 2).astype(np.uint8)


def by_kernel(frame: Any, patches: Any, masks: Any, places: Places, colours: Any) -> Any:
    made, boxes = frame.copy(), places.boxes
    maps = places.matrices.reshape(-1, 6).astype(np.float32)
    grid = (int(boxes[:, 2].max()), int(boxes[:, 3].max()), len(boxes))
    host.run(
        "paste", "float32", grid, made, patches, masks, boxes, maps, colours,
        places.width, places.height, places.size_px,
    )  # fmt: skip
    return made


PLACES = np.stack([turned(40, 50, 45, SIZE, 20), turned(120, 40, 30, SIZE, -50)])


def test_the_kernel_gives_what_its_twin_gives() -> None:
    places = Places(160, 100, SIZE, PLACES)
    (patches, masks), frame = patches_of(2), frame_of()
    colours = np.array([(1, 0) * 3, (0.8, 20, 1.3, -30, 1, 5)], np.float32)
    found = by_kernel(frame, patches, masks, places, colours)
    wanted = paste_twin(frame, patches, masks, places, colours)
    off = np.abs(found.astype(int) - wanted)
    assert off.max() <= 2
    assert np.mean(off > 1) < 0.01
    assert (found != frame).any(axis=2).mean() > 0.05


def test_outside_of_the_boxes_nothing_changes() -> None:
    places = Places(160, 100, SIZE, PLACES)
    (patches, masks), frame = patches_of(2), frame_of()
    colours = np.tile(np.array([1, 0] * 3, np.float32), (2, 1))
    for made in (
        by_kernel(frame, patches, masks, places, colours),
        paste_twin(frame, patches, masks, places, colours),
    ):
        inside = np.zeros(frame.shape[:2], bool)
        for left, top, width, height in places.boxes:
            inside[top : top + height, left : left + width] = True
        assert (made[~inside] == frame[~inside]).all()


@pytest.mark.parametrize("at", [(0.0, 0.0), (159.0, 99.0), (-500.0, 20.0)])
def test_patches_half_or_wholly_outside_stay_within_the_frame(at: tuple[float, float]) -> None:
    places = Places(160, 100, SIZE, turned(*at, 50, SIZE, 33)[None])
    (patches, masks), frame = patches_of(1), frame_of()
    colours = np.array([[1, 0] * 3], np.float32)
    found = by_kernel(frame, patches, masks, places, colours)
    wanted = paste_twin(frame, patches, masks, places, colours)
    assert np.abs(found.astype(int) - wanted).max() <= 2


def test_a_patch_takes_the_colours_of_what_it_replaces() -> None:
    (patches, masks), _ = patches_of(1), None
    under = np.clip(patches[0] * 0.5 + 90, 0, 255).astype(np.uint8)
    colour = colour_transfer(patches[0], masks[0], under)
    moved = patches[0] * colour[::2] + colour[1::2]
    weight = masks[0] > 0
    assert np.abs(moved[weight] - under[weight]).max() < 1.5
    assert colour_transfer(patches[0], 0 * masks[0], under).tolist() == [1, 0] * 3
    flat = np.full_like(patches[0], 100)
    assert colour_transfer(flat, masks[0], under)[0] == 1, "what is flat is shifted only"


def test_patches_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="patches 0 and 1 overlap"):
        Places(160, 100, SIZE, np.stack([PLACES[0], PLACES[0]]))
    with pytest.raises(ValueError, match="matrices of shape"):
        Places(160, 100, SIZE, np.zeros((2, 6)))


@pytest.mark.needs_cuda
def test_on_a_gpu_it_gives_what_its_twin_gives() -> None:
    import torch

    places = Places(160, 100, SIZE, PLACES)
    (patches, masks), frame = patches_of(2), frame_of()
    colours = np.array([(1, 0) * 3, (0.8, 20, 1.3, -30, 1, 5)], np.float32)
    given, *rest = (torch.from_numpy(array).cuda() for array in (frame, patches, masks, colours))
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    paste(given, rest[0], rest[1], places, rest[2], On(stream.cuda_stream))
    stream.synchronize()
    wanted = paste_twin(frame, patches, masks, places, colours)
    assert np.abs(given.cpu().numpy().astype(int) - wanted).max() <= 2
