"""Clips of a system: what they cost, and that streams and windows agree."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from operators.nn.ar_diffusion.diffusion import Diffusion
from operators.nn.ar_diffusion.sampler import Plan, frame_noise, sample
from operators.recipes.ar_diffusion_samples import Maker
from tests.recipes.small_systems import SMALL, small_system


@pytest.fixture(scope="module")
def maker() -> Maker:
    return Maker(small_system(), guidance=1.0, overlap=2)


@pytest.mark.parametrize(
    ("lag", "length", "first", "calls"),
    [(0, 8, 4, 4), (0, 14, 4, 8), (1, 8, 4, 11), (2, 8, 4, 18), (4, 8, 4, 32), (2, 20, 4, 42)],
)
def test_calls_are_those_of_the_schedule(
    maker: Maker, lag: int, length: int, first: int, calls: int
) -> None:
    """S + (F - 1) s, and S for each stitched window."""
    made = maker.clip(lag, 0, 3, length)
    assert made.frames.shape == (length, 32, 32, 3)
    assert (made.calls_first, made.calls) == (first, calls)
    assert 0 < made.first_s <= made.total_s


def test_a_streamed_clip_is_what_the_batch_sampler_makes(maker: Maker) -> None:
    noise = frame_noise(3, 0, 8, 2, 4)[None]
    system, diffusion = maker.system, Diffusion(SMALL.diffusion)
    told = sample(system.denoiser, diffusion, Plan(4, 2), noise, torch.tensor([1]))
    pictures = system.vae.decode_uint8(told[0]).permute(0, 2, 3, 1).numpy()
    made = maker.clip(2, 1, 3, 8).frames
    assert np.abs(made.astype(int) - pictures).max() <= 4, "batches add up in another order"
    assert (maker.clip(2, 1, 3, 8).frames == made).all()
    assert (maker.clip(2, 1, 4, 8).frames != made).any()
    assert (maker.clip(2, 0, 3, 8).frames != made).any()


@pytest.mark.parametrize("lag", [0, 2, 4])
def test_what_goes_on_depends_on_what_was(maker: Maker, lag: int) -> None:
    past = np.random.default_rng(0).integers(0, 256, (2, 2, 32, 32, 3), dtype=np.uint8)
    one, again, other = (
        maker.go_on(lag, 0, 1, frames, 5) for frames in (past[0], past[0], past[1])
    )
    assert one.shape == (5, 32, 32, 3)
    assert (one == again).all()
    assert (one != other).any()


def test_lags_that_no_window_allows() -> None:
    maker = Maker(small_system(), 1.0, 2)
    assert [lag for lag in range(-1, 6) if maker.allows(lag)] == [0, 1, 2, 3, 4]


def test_through_is_encoder_and_decoder_frame_by_frame(maker: Maker) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    made = maker.through(frames)
    assert made.shape == frames.shape
    assert np.abs(made[66:67].astype(int) - maker.through(frames[66:67])).max() <= 4
