"""Patches take the colours of their places: kernel and twin agree, whatever the threads' order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operators.kernels.colours import (
    SUMS,
    ColoursKernel,
    bytes_moved,
    colour_transfer,
    colours_twin,
)
from operators.kernels.paste import Places, paste_twin
from tests.operators.kernels import host
from tests.operators.kernels.test_crop import turned
from tests.operators.kernels.test_paste import PLACES, SIZE, frame_of, patches_of


def by_kernel(
    frame: Any, patches: Any, masks: Any, where: Places, *, backwards: bool = False
) -> Any:
    with host.processor() as gpu:
        gpu.backwards = backwards
        kernel = ColoursKernel(4)
        arrays = [gpu.array(array) for array in (frame, patches, masks)]
        first = kernel(*arrays, where, None, 0).numbers
        assert not kernel._sums.numbers.any(), "it leaves its sums as it found them"
        assert (kernel(*arrays, where, None, 0).numbers == first).all()
        return first


def close(found: Any, wanted: Any) -> bool:
    return bool(
        np.abs(found[:, ::2] - wanted[:, ::2]).max() < 1e-3
        and np.abs(found[:, 1::2] - wanted[:, 1::2]).max() < 0.1
    )


def test_the_kernel_gives_what_its_twin_gives() -> None:
    where = Places(160, 100, SIZE, PLACES)
    (patches, masks), frame = patches_of(2), frame_of()
    found = by_kernel(frame, patches, masks, where)
    assert close(found, colours_twin(frame, patches, masks, where))
    assert (by_kernel(frame, patches, masks, where, backwards=True) == found).all()


@pytest.mark.parametrize("at", [(0.0, 0.0), (159.0, 99.0), (-500.0, 20.0), (80.0, 50.0)])
@pytest.mark.parametrize("size", [1, 31, 33, 65])
def test_of_any_size_and_place(at: tuple[float, float], size: int) -> None:
    where = Places(160, 100, size, turned(*at, 50, size, 33)[None])
    rng = np.random.default_rng(4)
    frame = rng.integers(0, 256, (100, 160, 3), np.uint8)
    patches = rng.integers(0, 256, (1, size, size, 3), np.uint8)
    masks = rng.integers(0, 256, (1, size, size), np.uint8)
    found = by_kernel(frame, patches, masks, where)
    assert close(found, colours_twin(frame, patches, masks, where))
    if at[0] < 0:
        assert found.tolist() == [[1, 0] * 3], "of what is not there no colours are taken"


def test_what_is_pasted_then_has_the_colours_of_its_place() -> None:
    (patches, masks), where = patches_of(1), Places(160, 100, SIZE, PLACES[:1])
    y, x = np.mgrid[0:100, 0:160]
    dark = np.stack([40 + 20 * np.sin((x - y) / 9 + c) for c in range(3)], 2).astype(np.uint8)
    colours = by_kernel(dark, patches, masks, where)
    made = paste_twin(dark, patches, np.where(masks > 0, 255, 0).astype(np.uint8), where, colours)
    covered = (made != dark).any(axis=2)
    assert abs(float(made[covered].mean()) - float(dark[covered].mean())) < 4
    assert abs(float(made[covered].std()) - float(dark[covered].std())) < 4


def test_a_patch_takes_the_colours_of_what_it_replaces() -> None:
    patches, masks = patches_of(1)
    under = np.clip(patches[0] * 0.5 + 90, 0, 255).astype(np.uint8)
    colour = colour_transfer(patches[0], masks[0], under)
    moved = patches[0] * colour[::2] + colour[1::2]
    weight = masks[0] > 0
    assert np.abs(moved[weight] - under[weight]).max() < 1.5
    assert colour_transfer(patches[0], 0 * masks[0], under).tolist() == [1, 0] * 3


def test_what_is_flat_or_masked_out_is_not_stretched() -> None:
    (patches, masks), where = patches_of(1), Places(160, 100, SIZE, PLACES[:1])
    flat = np.full_like(patches, 100)
    assert by_kernel(frame_of(), flat, masks, where)[0, ::2].tolist() == [1, 1, 1]
    assert by_kernel(frame_of(), patches, 0 * masks, where).tolist() == [[1, 0] * 3]


def test_more_patches_than_there_is_room_for_are_refused() -> None:
    where, (patches, masks) = Places(160, 100, SIZE, PLACES), patches_of(2)
    with host.processor() as gpu:
        arrays = [gpu.array(array) for array in (frame_of(), patches, masks)]
        with pytest.raises(ValueError, match="2 patches; there is room for 1"):
            ColoursKernel(1)(*arrays, where, None, 0)
        with pytest.raises(ValueError, match=r"colours: \[2, 5\]"):
            ColoursKernel(2)(*arrays, where, gpu.room((2, 5), "float32"), 0)
        assert not gpu.launches
    assert SUMS == 1 + 3 * 4 + 1


def test_bytes_are_those_read_and_written() -> None:
    where = Places(160, 100, 16, np.array([[[1.0, 0, -7], [0, 1, -5]]]))
    assert bytes_moved(where) == 3 * 16 * 16 + 4 * 16 * 16 + 24


@pytest.mark.needs_cuda
def test_on_a_gpu_it_gives_what_its_twin_gives() -> None:
    import torch

    where = Places(160, 100, SIZE, PLACES)
    (patches, masks), frame = patches_of(2), frame_of()
    given = [torch.from_numpy(array).cuda() for array in (frame, patches, masks)]
    kernel, stream = ColoursKernel(2), torch.cuda.Stream()
    torch.cuda.synchronize()
    for _ in range(3):  # it finds its sums as it left them
        found = kernel(*given, where, None, stream.cuda_stream)
        stream.synchronize()
        assert close(found.cpu().numpy(), colours_twin(frame, patches, masks, where))
