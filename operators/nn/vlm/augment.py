"""Pictures changed as cameras and networks change them, so that no tower leans on a trace of them.

What tells a real face from a copy must survive another crop, another resampling, another
compression, another exposure. Ranges: everyday ones; JPEG tables of ITU-T T.81. Inferred, ours.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
KERNELS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
LEAST_SHARE = 0.74  # of the side that a crop keeps
GRAIN = 0.03  # rms of what noise is added, at most
LEAST_QUALITY = 40


def augmented(image: U8, rng: np.random.Generator) -> F32:
    """[S, S, 3] uint8 RGB to [S, S, 3] in [0, 1]: mirrored, cropped, resampled, blurred, compressed
    and exposed anew, each by chance.
    """
    return _exposed(_compressed(_resampled(image, rng), rng), rng)


def _resampled(image: U8, rng: np.random.Generator) -> U8:
    side = image.shape[0]
    seen = image[:, ::-1] if rng.random() < 0.5 else image
    if rng.random() < 0.6:
        kept = int(rng.integers(round(LEAST_SHARE * side), side + 1))
        top, left = rng.integers(0, side + 1 - kept, 2)
        seen = seen[top : top + kept, left : left + kept]
    if rng.random() < 0.5:
        other = int(rng.integers(round(0.56 * side), round(1.25 * side)))
        seen = _scaled(seen, other, KERNELS[int(rng.integers(len(KERNELS)))])
    if seen.shape[0] != side:
        seen = _scaled(seen, side, KERNELS[1 + int(rng.integers(len(KERNELS) - 1))])
    if rng.random() < 0.4:
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.3, 1.0)), np.uint8)
    return np.ascontiguousarray(seen)


def _compressed(image: U8, rng: np.random.Generator) -> U8:
    if rng.random() < 0.5:
        return image
    quality = int(rng.integers(LEAST_QUALITY, 100))
    written, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise ValueError(f"JPEG refused a picture {image.shape}")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]


def _exposed(image: U8, rng: np.random.Generator) -> F32:
    seen = image.astype(np.float32) / 255 * rng.uniform(0.75, 1.33, 3).astype(np.float32)
    grey = (seen @ LUMA)[..., None]
    seen = grey + np.float32(rng.uniform(0.3, 1.9)) * (seen - grey)
    mean = np.float32(seen.mean())
    spread, shift = np.float32(np.exp(rng.uniform(-0.5, 0.6))), np.float32(rng.uniform(-0.15, 0.15))
    seen = np.clip(mean + spread * (seen - mean) + shift, 0, 1)
    seen **= np.float32(np.exp(rng.uniform(-0.45, 0.45)))
    if rng.random() < 0.15:
        seen = np.repeat(seen.mean(axis=2, keepdims=True), 3, axis=2)
    noise = rng.standard_normal(seen.shape, dtype=np.float32)
    bright: F32 = np.clip(seen + np.float32(rng.uniform(0, GRAIN)) * noise, 0, 1)
    return bright


def _scaled(image: U8, side: int, kernel: int) -> U8:
    resized = cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=kernel)
    return np.asarray(resized, np.uint8)
