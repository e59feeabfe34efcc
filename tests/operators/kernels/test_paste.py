"""Patches back into frames: kernel and twin agree, colours move, and nothing else changes."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.kernels.launching import On
from operators.kernels.paste import Places, paste, paste_twin
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


def by_kernel(
    frame: Any, patches: Any, masks: Any, where: Places, colours: Any, *, backwards: bool = False
) -> Any:
    with host.processor() as gpu:
        gpu.backwards = backwards
        made, *rest = (gpu.array(array) for array in (frame, patches, masks, colours))
        paste(made, rest[0], rest[1], where, rest[2], On(0))
        return made.numbers


SAME = np.array([[1, 0] * 3], np.float32)
PLACES = np.stack([turned(40, 50, 45, SIZE, 20), turned(120, 40, 30, SIZE, -50)])


def test_the_kernel_gives_what_its_twin_gives() -> None:
    places = Places(160, 100, SIZE, PLACES)
    (patches, masks), frame = patches_of(2), frame_of()
    colours = np.array([(1, 0) * 3, (0.8, 20, 1.3, -30, 1, 5)], np.float32)
    found = by_kernel(frame, patches, masks, places, colours)
    wanted = paste_twin(frame, patches, masks, places, colours)
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert (found != frame).any(axis=2).mean() > 0.05
    again = by_kernel(frame, patches, masks, places, colours, backwards=True)
    assert (again == found).all(), "no matter which thread comes first"


@settings(max_examples=40)
@given(
    st.tuples(st.floats(-40, 90), st.floats(-40, 90), st.floats(1, 90), st.floats(-180, 180)),
    st.tuples(st.integers(1, 61), st.integers(1, 61)),
    st.integers(1, 24),
)
def test_of_any_size_and_place(place: Any, frame_size: tuple[int, int], size: int) -> None:
    x, y, side, degrees = place
    where = Places(*frame_size, size, turned(x, y, side, size, degrees)[None])
    rng = np.random.default_rng(2)
    frame = rng.integers(0, 256, (frame_size[1], frame_size[0], 3), np.uint8)
    patches = rng.integers(0, 256, (1, size, size, 3), np.uint8)
    masks = rng.integers(0, 256, (1, size, size), np.uint8)
    found = by_kernel(frame, patches, masks, where, SAME)
    assert np.abs(found.astype(int) - paste_twin(frame, patches, masks, where, SAME)).max() <= 1


def test_the_twin_agrees_with_opencv() -> None:
    where = Places(160, 100, SIZE, PLACES[:1])
    (patches, _), frame = patches_of(1), frame_of()
    opaque = np.full((1, SIZE, SIZE), 255, np.uint8)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    wanted = cv2.warpAffine(
        patches[0].astype(np.float32), PLACES[0], (160, 100), flags=how, borderValue=(-1e6,) * 3
    )
    inside = (wanted >= 0).all(axis=2)
    made = paste_twin(frame, patches, opaque, where, SAME)
    assert inside.sum() > 1500
    assert np.abs(made[inside] - wanted[inside]).max() < 1.5


def test_a_patch_at_whole_pixels_is_copied_up_to_its_rim() -> None:
    where = Places(64, 48, SIZE, np.array([[[1.0, 0, -7], [0, 1, -5]]]))
    patches, opaque = patches_of(1)[0], np.full((1, SIZE, SIZE), 255, np.uint8)
    made = by_kernel(frame_of(64, 48), patches, opaque, where, SAME)
    assert (made[5 : 5 + SIZE, 7 : 7 + SIZE] == patches[0]).all()


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
    assert np.abs(found.astype(int) - wanted).max() <= 1


def test_patches_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="patches 0 and 1 overlap"):
        Places(160, 100, SIZE, np.stack([PLACES[0], PLACES[0]]))
    with pytest.raises(ValueError, match="matrices of shape"):
        Places(160, 100, SIZE, np.zeros((2, 6)))


def test_arrays_that_do_not_fit_never_reach_a_kernel() -> None:
    where, (patches, masks) = Places(160, 100, SIZE, PLACES), patches_of(2)
    with host.processor() as gpu:
        arrays = [gpu.array(array) for array in (frame_of(), patches, masks)]
        with pytest.raises(ValueError, match=r"colours: \[1, 6\] float32 came, \[2, 6\]"):
            paste(*arrays, where, gpu.array(SAME), On(0))
        with pytest.raises(ValueError, match=r"masks: \[1, 32, 32\]"):
            paste(*arrays[:2], gpu.array(masks[:1]), where, gpu.array(SAME), On(0))
        assert not gpu.launches


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
    assert np.abs(given.cpu().numpy().astype(int) - wanted).max() <= 1
