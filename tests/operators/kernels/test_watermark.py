"""Marks in luma: to the level the same from kernel and twin, and there to be found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from operators.kernels.launching import On
from operators.kernels.watermark import Mark, bytes_moved, watermark, watermark_twin
from tests.operators.kernels import host


def mark_of(strength: float = 2.0, bits: int = 7, side: int = 8) -> Mark:
    rng = np.random.default_rng(5)
    one = np.array([-1, 1], np.int8)
    return Mark(rng.choice(one, bits), rng.choice(one, (side, side)), strength)


def luma_of(width: int, height: int) -> Any:
    y, x = np.mgrid[0:height, 0:width]
    return np.clip(128 + 130 * np.sin(x / 13) * np.cos(y / 11), 0, 255).astype(np.uint8)


def by_kernel(luma: Any, mark: Mark) -> Any:
    with host.processor() as gpu:
        made = gpu.array(luma)
        watermark(made, gpu.array(mark.bits), gpu.array(mark.pattern), mark, On(0))
        return made.numbers


@pytest.mark.parametrize("size", [(64, 48), (65, 50), (8, 8), (7, 9), (1, 1), (200, 3)])
@pytest.mark.parametrize("strength", [0.5, 2.0, 3.7, 64.0])
def test_the_kernel_gives_what_its_twin_gives(size: tuple[int, int], strength: float) -> None:
    luma, mark = luma_of(*size), mark_of(strength)
    assert (by_kernel(luma, mark) == watermark_twin(luma, mark)).all()


def test_the_bits_can_be_read_again() -> None:
    luma, mark = luma_of(256, 192), mark_of(3.0, bits=32)
    added = watermark_twin(luma, mark).astype(int) - luma
    blocks = added.reshape(192 // 8, 8, 256 // 8, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    votes = (blocks * mark.pattern).sum(axis=(1, 2))
    for bit, sign in enumerate(mark.bits):
        assert np.sign(votes[bit::32].sum()) == sign


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": np.array([0, 1], np.int8)}, {"bits": np.array([], np.int8)},
        {"bits": np.array([1.0, -1.0])}, {"bits": np.ones((2, 2), np.int8)},
        {"pattern": np.ones((2, 3), np.int8)},
        {"strength": 0.0}, {"strength": float("nan")}, {"strength": 65.0},
    ],
)  # fmt: skip
def test_marks_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    good = {"bits": np.ones(2, np.int8), "pattern": np.ones((2, 2), np.int8), "strength": 1.0}
    with pytest.raises(ValueError, match=r"int8|pattern of shape|strength of"):
        Mark(**(good | wrong))


def test_arrays_that_do_not_fit_never_reach_a_kernel() -> None:
    mark = mark_of()
    with host.processor() as gpu:
        luma, pattern = gpu.array(luma_of(16, 16)), gpu.array(mark.pattern)
        with pytest.raises(ValueError, match=r"bits: \[5\] int8 came, \[7\] int8 is wanted"):
            watermark(luma, gpu.array(mark.bits[:5]), pattern, mark, On(0))
        assert not gpu.launches


def test_bytes_are_its_luma_twice() -> None:
    assert bytes_moved(1920, 1080) == 2 * 1920 * 1080


@pytest.mark.needs_cuda
def test_on_a_gpu_it_gives_what_its_twin_gives() -> None:
    import torch

    luma, mark = luma_of(320, 180), mark_of()
    given, bits, pattern = (torch.from_numpy(a).cuda() for a in (luma, mark.bits, mark.pattern))
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    watermark(given, bits, pattern, mark, On(stream.cuda_stream))
    stream.synchronize()
    assert (given.cpu().numpy() == watermark_twin(luma, mark)).all()
