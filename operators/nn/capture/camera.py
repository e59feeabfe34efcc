"""The camera: lens, sensor, noise, demosaicing, tone, JPEG and the pipeline's last resampling.

The same for every kind of capture: only what stands before it differs. Sources: Goodman,
Introduction to Fourier Optics, ch. 6 (defocus disc, aperture MTF); EMVA Standard 1288 release 4
(photons and electrons, shot and read noise); ITU-T T.81 (JPEG); Turkowski, Filters for Common
Resampling Tasks (Graphics Gems, 1990), for kernels whose support grows when an image shrinks.
Inferred, ours: the sensor's primaries are sRGB's (no colour matrix), because the source picture has
gone through one already; the lens is a Gaussian times a defocus disc, without diffraction rings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from scipy import sparse

from operators.nn.capture.geometry import OVERSAMPLING, PREFILTER_PX
from operators.nn.capture.light import F32, F64, U8, to_srgb
from operators.nn.capture.pixels import as_f32
from operators.nn.capture.ranges import Choice, Range, drawn

KERNELS = ("box", "triangle", "cubic", "lanczos")
SUPPORT = {"box": 0.5, "triangle": 1.0, "cubic": 2.0, "lanczos": 3.0}
RAW_WHITE, RAW_BLACK = 12000.0, 1500.0  # 16-bit raw codes: room for noise below and gains above
SHARPEN_SIGMA_PX = 1.0
FULL_WELL = 1.0  # exposure at which the sensor clips, diffuse white = 1


@dataclass(frozen=True)
class CameraParameters:
    """One camera and its settings."""

    sensor_px: int = drawn(
        Range(180, 320, "px", "sensor pixels along the crop: faces 80 to 150 px wide, as at 720p",
              held_out=False, whole=True)
    )  # fmt: skip
    lens_sigma_px: float = drawn(
        Range(0.36, 0.85, "sensor px", "Gaussian MTF; MTF50 = 0.19 / sigma: 0.22 to 0.52 per px",
              log=True)
    )  # fmt: skip
    defocus_px: float = drawn(
        Range(0.0, 2.4, "sensor px", "diameter of the blur disc: Goodman 6.4, depth of field")
    )
    fill_factor: float = drawn(
        Range(0.8, 1.0, "1", "side of a pixel's aperture by its pitch; micro-lenses: 0.9 and more")
    )
    electrons: float = drawn(
        Range(1500, 20000, "e-", "at white; EMVA 1288 sheets of 1.1 to 3.75 um pixels, ISO 100-800",
              log=True)
    )  # fmt: skip
    read_noise: float = drawn(Range(1.5, 8.0, "e- rms", "EMVA 1288 sheets of CMOS", log=True))
    exposure_ev: float = drawn(Range(-0.6, 0.5, "EV", "spread of automatic exposure"))
    exposure_ms: float = drawn(Range(2.0, 33.0, "ms", "1/500 to 1/30 s indoors", log=True))
    readout_ms: float = drawn(
        Range(4.0, 20.0, "ms", "part of a rolling shutter's 16 to 33 ms that a crop takes")
    )
    bayer: bool = drawn(Choice((True, True, False), "mosaic sensors; binned ones have all colours"))
    sharpen: float = drawn(Range(0.0, 0.7, "1", "unsharp mask of 1 px that cameras apply"))
    contrast: float = drawn(Range(-0.08, 0.3, "1", "S-curve: y = x + c x (1 - x) (2 x - 1)"))
    jpeg_quality: int = drawn(
        Range(50, 95, "libjpeg", "T.81 annex K tables scaled; streams to stills", whole=True)
    )
    jpeg_420: bool = drawn(Choice((True, True, False), "chroma at half size: most cameras"))
    kernel: str = drawn(Choice(KERNELS, "how the pipeline scales the crop to its size"))


def sense(radiance: F32, camera: CameraParameters, rng: np.random.Generator) -> F32:
    """[n * OVERSAMPLING, ..., 3] exposure (white = 1) -> [n, n, 3] sensor signal with noise.

    Lens and pixel aperture, sampled once a pixel; Poisson electrons and Gaussian read noise;
    clipped at the full well. The noise's variance is (S / electrons) + (read / electrons)^2.
    """
    exposed = np.clip(optics(radiance, camera), 0, FULL_WELL)
    spread = exposed * np.float32(1 / camera.electrons)
    spread += np.float32((camera.read_noise / camera.electrons) ** 2)
    noise = rng.standard_normal(exposed.shape, dtype=np.float32)
    # Poisson counts of hundreds and more: their Gaussian limit, also for the dark's read noise.
    return as_f32(np.minimum(exposed + noise * np.sqrt(spread), FULL_WELL))


def optics(radiance: F32, camera: CameraParameters) -> F32:
    """Lens and aperture, then one sample a sensor pixel: what is finer folds, as it does there."""
    if camera.defocus_px > 0.2:
        disc = defocus_disc(camera.defocus_px * OVERSAMPLING)
        radiance = as_f32(cv2.filter2D(radiance, -1, disc, borderType=cv2.BORDER_REFLECT_101))
    taps = lens_taps(camera.lens_sigma_px, camera.fill_factor)
    border = cv2.BORDER_REFLECT_101
    blurred = cv2.sepFilter2D(radiance, -1, taps, taps, borderType=border)
    middle = OVERSAMPLING // 2
    return as_f32(np.ascontiguousarray(blurred[middle::OVERSAMPLING, middle::OVERSAMPLING]))


def develop(signal: F32, gains: F32, camera: CameraParameters) -> U8:
    """[n, n, 3] sensor signal -> [n, n, 3] uint8 sRGB as the camera writes it, JPEG included."""
    raw = mosaic(signal, gains) if camera.bayer else signal * gains
    encoded = to_srgb(as_f32(raw))
    if camera.sharpen > 0:
        soft = cv2.GaussianBlur(encoded, (0, 0), SHARPEN_SIGMA_PX)
        encoded = np.clip(encoded + np.float32(camera.sharpen) * (encoded - soft), 0, 1)
    bend = np.float32(camera.contrast) * encoded * (1 - encoded) * (2 * encoded - 1)
    return jpeg(np.rint((encoded + bend) * 255).astype(np.uint8), camera)


def mosaic(signal: F32, gains: F32) -> F32:
    """One colour a pixel (RGGB), white balanced, then interpolated along edges."""
    balanced = signal * gains
    raw = balanced[..., 1].copy()
    raw[0::2, 0::2] = balanced[0::2, 0::2, 0]
    raw[1::2, 1::2] = balanced[1::2, 1::2, 2]
    codes = np.clip(raw * RAW_WHITE + RAW_BLACK, 0, 65535).astype(np.uint16)
    full = cv2.demosaicing(codes, cv2.COLOR_BayerRGGB2RGB_EA)
    return as_f32((full.astype(np.float32) - np.float32(RAW_BLACK)) / np.float32(RAW_WHITE))


def jpeg(rgb: U8, camera: CameraParameters) -> U8:
    """Through libjpeg and back."""
    sampling = (
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
        if camera.jpeg_420
        else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    )
    options = [
        cv2.IMWRITE_JPEG_QUALITY, int(camera.jpeg_quality),
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling,
    ]  # fmt: skip
    written, data = cv2.imencode(".jpg", rgb[..., ::-1], options)
    if not written:
        raise ValueError(f"JPEG refused an image {rgb.shape}")
    back = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(back[..., ::-1])


def resample(rgb: U8, size_px: int, kernel: str) -> U8:
    """[n, n, 3] -> [size_px, size_px, 3] by the named kernel, widened when the image shrinks."""
    if rgb.shape[0] == size_px:
        return rgb
    weights = resample_weights(rgb.shape[0], size_px, kernel)
    tall = weights @ rgb.reshape(rgb.shape[0], -1).astype(np.float32)
    turned = tall.reshape(size_px, -1, 3).transpose(1, 0, 2).reshape(rgb.shape[1], -1)
    both = (weights @ turned).reshape(size_px, size_px, 3).transpose(1, 0, 2)
    return np.ascontiguousarray(np.clip(np.rint(both), 0, 255).astype(np.uint8))


@lru_cache(maxsize=128)
def lens_taps(sigma_px: float, fill_factor: float) -> F32:
    """[K] Gaussian of the lens, less the prefilter, times the pixel's aperture; sums to 1."""
    left_px = math.sqrt(max(sigma_px**2 - PREFILTER_PX**2, 0.0)) * OVERSAMPLING
    half = math.ceil(3.5 * left_px) + OVERSAMPLING
    x = np.arange(-half, half + 1)
    edge = fill_factor * OVERSAMPLING / 2
    aperture = np.clip(edge - np.abs(x) + 0.5, 0, 1)
    if left_px > 0.05:
        lens = np.exp(-0.5 * (x / left_px) ** 2)
        aperture = np.convolve(aperture, lens, "same")
    taps: F32 = (aperture / aperture.sum()).astype(np.float32)
    return taps


@lru_cache(maxsize=128)
def defocus_disc(diameter: float) -> F32:
    """[K, K] evenly lit disc, edges weighted by how much of a cell it covers; sums to 1."""
    half = math.ceil(diameter / 2)
    fine = (np.arange((2 * half + 1) * 8) + 0.5) / 8 - half - 0.5
    inside = (fine[None] ** 2 + fine[:, None] ** 2) <= (diameter / 2) ** 2
    cells = inside.reshape(2 * half + 1, 8, 2 * half + 1, 8).mean(axis=(1, 3))
    disc: F32 = (cells / cells.sum()).astype(np.float32)
    return disc


@lru_cache(maxsize=256)
def resample_weights(have: int, want: int, kernel: str) -> sparse.csr_array:
    """[want, have] float32 rows that sum to 1. ValueError for an unknown kernel."""
    if kernel not in KERNELS:
        raise ValueError(f"kernel {kernel!r}: one of {KERNELS} is needed")
    widen = max(have / want, 1.0)
    centres = (np.arange(want) + 0.5) * have / want - 0.5
    offset = np.abs(np.arange(have)[None] - centres[:, None]) / widen
    weights = _kernel(offset, kernel) * (offset < SUPPORT[kernel] + 1e-9)
    return sparse.csr_array((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def _kernel(x: F64, name: str) -> F64:
    if name == "box":
        return (x <= 0.5 + 1e-9).astype(np.float64)
    if name == "triangle":
        return np.asarray(np.maximum(1 - x, 0))
    if name == "lanczos":
        return np.asarray(np.sinc(x) * np.sinc(x / 3))
    inner = 1.5 * x**3 - 2.5 * x**2 + 1  # Keys 1981, a = -1/2
    outer = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, inner, outer)
