"""The camera: shot noise, lens and aperture, mosaic, JPEG, resampling kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from operators.nn.capture import camera as cameras
from operators.nn.capture.geometry import OVERSAMPLING
from operators.nn.capture.scene import sample

PLAIN = replace(
    sample("bonafide", 0, "train").camera,
    lens_sigma_px=0.5, defocus_px=0.0, fill_factor=1.0, electrons=2000.0, read_noise=6.0,
    sharpen=0.0, contrast=0.0, jpeg_quality=95, jpeg_420=False, bayer=False,
)  # fmt: skip
UNITY = np.ones(3, np.float32)


def flat(level: float, sensor_px: int = 96) -> np.ndarray:
    return np.full((sensor_px * OVERSAMPLING, sensor_px * OVERSAMPLING, 3), level, np.float32)


@pytest.mark.parametrize("level", [0.0, 0.05, 0.2, 0.7])
def test_noise_follows_the_shot_noise_law(level):
    signal = cameras.sense(flat(level), PLAIN, np.random.default_rng(1))
    assert signal.shape == (96, 96, 3)
    assert signal.mean() == pytest.approx(level, abs=5e-4)
    expected = level / 2000 + (6 / 2000) ** 2
    assert signal.var() == pytest.approx(expected, rel=0.04)


def test_less_light_is_noisier_by_its_square_root():
    ratios = []
    for level in (0.1, 0.4):
        signal = cameras.sense(
            flat(level), replace(PLAIN, read_noise=1.5), np.random.default_rng(2)
        )
        ratios.append(signal.mean() / signal.std())
    assert ratios[1] / ratios[0] == pytest.approx(2, rel=0.05)


def test_the_sensor_clips_at_its_full_well():
    assert cameras.sense(flat(3.0), PLAIN, np.random.default_rng(0)).max() <= cameras.FULL_WELL


@pytest.mark.parametrize("frequency", [0.1, 0.25, 0.4])
@pytest.mark.parametrize("sigma_px", [0.4, 0.8])
def test_lens_and_aperture_have_the_mtf_they_say(frequency, sigma_px):
    """Gaussian less the prefilter (which patterns bring along) times the aperture's sinc."""
    count = 200 * OVERSAMPLING
    place = (np.arange(count) - 1) / OVERSAMPLING  # of sensor pixels
    wave = (0.5 + 0.4 * np.cos(2 * np.pi * frequency * place)).astype(np.float32)
    seen = cameras.optics(
        np.ascontiguousarray(np.broadcast_to(wave[None, :, None], (9, count, 3))),
        replace(PLAIN, lens_sigma_px=sigma_px, fill_factor=0.9),
    )[1, 20:-20, 0]
    at = np.arange(20, 180)
    contrast = 2 * np.abs(np.mean((seen - 0.5) * np.exp(-2j * np.pi * frequency * at))) / 0.4
    left = sigma_px**2 - 0.3**2
    expected = np.exp(-2 * np.pi**2 * left * frequency**2) * np.sinc(0.9 * frequency)
    assert contrast == pytest.approx(expected, abs=0.03)


def test_defocus_spreads_a_point_evenly_over_its_disc():
    disc = cameras.defocus_disc(7.0)
    assert disc.sum() == pytest.approx(1, abs=1e-5)
    assert disc[4, 4] == pytest.approx(1 / (np.pi * 3.5**2), rel=0.02)
    point = flat(0, 16)
    point[24, 24] = 1
    seen = [cameras.optics(point, replace(PLAIN, defocus_px=width)).max() for width in (0.0, 2.4)]
    assert seen[1] < 0.5 * seen[0]


@pytest.mark.parametrize("bayer", [False, True])
def test_flat_colours_come_back(bayer):
    colour = np.array([0.6, 0.25, 0.1], np.float32)
    signal = np.ascontiguousarray(np.broadcast_to(colour, (64, 64, 3)))
    photo = cameras.develop(signal, UNITY, replace(PLAIN, bayer=bayer))
    expected = 255 * np.array([0.7977, 0.5371, 0.3492])
    assert np.allclose(photo[8:-8, 8:-8].mean(axis=(0, 1)), expected, atol=1.5)


def test_gains_are_white_balance():
    signal = np.full((32, 32, 3), 0.2, np.float32)
    photo = cameras.develop(signal, np.array([1.0, 1.0, 2.0], np.float32), PLAIN)
    assert photo[..., 2].mean() > photo[..., 1].mean() + 30


def test_lower_quality_loses_more():
    rng = np.random.default_rng(4)
    photo = rng.integers(60, 200, (64, 64, 3)).astype(np.uint8)
    errors = [
        float(
            np.abs(cameras.jpeg(photo, replace(PLAIN, jpeg_quality=quality)) * 1.0 - photo).mean()
        )
        for quality in (95, 75, 50)
    ]
    assert errors == sorted(errors)
    halved = cameras.jpeg(photo, replace(PLAIN, jpeg_420=True))
    assert np.abs(halved * 1.0 - photo).mean() > 1.5 * errors[0]


@pytest.mark.parametrize("kernel", cameras.KERNELS)
def test_shrinking_keeps_slow_waves_and_stops_those_it_cannot_show(kernel):
    x = np.arange(240)

    def spread(period: float) -> float:
        wave = 128 + 80 * np.sin(2 * np.pi * x / period)
        rgb = np.broadcast_to(wave[None, :, None], (240, 240, 3)).astype(np.uint8)
        return float(cameras.resample(np.ascontiguousarray(rgb), 60, kernel)[30, 8:-8, 0].std())

    assert spread(60) > 50
    assert spread(3) < 0.3 * spread(60)  # 1.33 cycles per pixel of the result: sinc leaves 0.21
    rows = cameras.resample_weights(240, 60, kernel)
    assert np.allclose(rows.sum(axis=1), 1, atol=1e-5)


def test_kernels_differ_and_unknown_ones_are_refused():
    photo = np.random.default_rng(5).integers(0, 255, (50, 50, 3)).astype(np.uint8)
    results = {cameras.resample(photo, 37, kernel).tobytes() for kernel in cameras.KERNELS}
    assert len(results) == len(cameras.KERNELS)
    assert np.array_equal(cameras.resample(photo, 50, "box"), photo)
    with pytest.raises(ValueError, match="kernel"):
        cameras.resample(photo, 20, "nearest")


def test_sharpening_and_contrast_do_what_they_say():
    ramp = np.tile(np.linspace(0.02, 0.9, 64, dtype=np.float32)[None, :, None], (64, 1, 3))
    soft, hard = (cameras.develop(ramp, UNITY, replace(PLAIN, contrast=c)) for c in (0.0, 0.3))
    assert hard[32, 4, 0] < soft[32, 4, 0]
    assert hard[32, 58, 0] > soft[32, 58, 0]
    step = np.where(np.arange(64)[None, :, None] < 32, 0.2, 0.5).astype(np.float32)
    edge = np.ascontiguousarray(np.broadcast_to(step, (64, 64, 3)))
    over = cameras.develop(edge, UNITY, replace(PLAIN, sharpen=0.7))
    assert int(over[32, 32, 1]) > int(over[32, 60, 1]) + 5
