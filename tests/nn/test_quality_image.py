"""PSNR and SSIM against their definitions and against scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from operators.nn.quality.image import mean_psnr, psnr, ssim


def pair(seed: int, noise: float = 25.0) -> tuple[np.ndarray, np.ndarray]:
    """[2, 24, 32, 3] uint8: smooth pictures, and the same with noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:24, 0:32]
    waves = [
        128 + 100 * np.sin(x / a + b) * np.cos(y / (a + b)) for a, b in rng.uniform(2, 6, (6, 2))
    ]
    pictures = np.stack(waves).reshape(2, 3, 24, 32).transpose(0, 2, 3, 1)
    noisy = np.clip(pictures + rng.normal(0, noise, pictures.shape), 0, 255)
    return pictures.astype(np.uint8), noisy.astype(np.uint8)


@pytest.mark.parametrize("as_float", [False, True])
def test_both_are_those_of_scikit_image(as_float: bool) -> None:
    x, y = pair(0)
    if as_float:
        x, y = x / 255.0, y / 255.0
    top = 1.0 if as_float else 255
    for k in range(2):
        told = structural_similarity(
            x[k], y[k], data_range=top, channel_axis=-1,
            gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        )  # fmt: skip
        assert ssim(x, y)[k] == pytest.approx(told, abs=1e-9)
        told = peak_signal_noise_ratio(x[k], y[k], data_range=top)
        assert psnr(x, y)[k] == pytest.approx(told, abs=1e-9)


def test_equal_pictures_are_perfect_and_noise_only_hurts() -> None:
    x, _ = pair(1)
    assert np.isinf(psnr(x, x)).all()
    assert ssim(x, x) == pytest.approx(1)
    levels = [pair(1, noise) for noise in (4.0, 12.0, 40.0)]
    assert np.diff([psnr(*level)[0] for level in levels]).max() < 0
    assert np.diff([ssim(*level)[0] for level in levels]).max() < 0


def test_any_leading_axes() -> None:
    x, y = pair(2)
    assert psnr(x[None, :, None], y[None, :, None]).shape == (1, 2, 1)
    assert ssim(x[0], y[0]).shape == ()
    assert ssim(x[None], y[None])[0, 1] == ssim(x[1], y[1])


def test_the_mean_leaves_exact_pictures_out() -> None:
    assert mean_psnr(np.array([20.0, np.inf, 30.0])) == 25
    assert mean_psnr(np.array([np.inf])) == math.inf


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        (np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 3)), "same shape and type"),
        (np.zeros((16, 16), np.uint8), np.zeros((16, 16), np.uint8), "H, W, 3"),
        (np.zeros((16, 16, 3), np.int16), np.zeros((16, 16, 3), np.int16), "uint8, or float"),
        (np.zeros((8, 16, 3), np.uint8), np.zeros((8, 16, 3), np.uint8), "window of 11"),
    ],
)
def test_what_cannot_be_compared_is_refused(x: np.ndarray, y: np.ndarray, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        ssim(x, y)
