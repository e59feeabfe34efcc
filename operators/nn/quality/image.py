"""PSNR and SSIM of pictures against their originals.

SSIM: Wang et al., IEEE TIP 2004, eq. 13, with its Gaussian window (11 x 11, sigma 1.5), K1 = 0.01
and K2 = 0.03; each colour by itself, then the mean. Only windows that lie inside the picture count.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Pictures = npt.NDArray[np.uint8] | npt.NDArray[np.floating]

WINDOW_PX, SIGMA_PX = 11, 1.5
K1, K2 = 0.01, 0.03


def psnr(pictures: Pictures, originals: Pictures) -> F64:
    """[..., H, W, 3] twice to [...], dB per picture; infinite where nothing differs.

    Both uint8 (range 255) or both float in [0, 1] (range 1). ValueError for anything else.
    """
    x, y = _pair(pictures, originals)
    error = np.square(x - y).mean(axis=(-3, -2, -1))
    with np.errstate(divide="ignore"):
        found: F64 = -10 * np.log10(error)
    return found


def ssim(pictures: Pictures, originals: Pictures) -> F64:
    """[..., H, W, 3] twice to [...], 1 where nothing differs. Types as for `psnr`.

    ValueError also for pictures smaller than the window.
    """
    x, y = _pair(pictures, originals)
    if min(x.shape[-3:-1]) < WINDOW_PX:
        raise ValueError(f"pictures {x.shape[-3:-1]} are smaller than the window of {WINDOW_PX} px")
    many = zip(x.reshape(-1, *x.shape[-3:]), y.reshape(-1, *x.shape[-3:]), strict=True)
    return np.array([_ssim(one, other) for one, other in many]).reshape(x.shape[:-3])


def mean_psnr(values: F64) -> float:
    """The mean of `psnr` over pictures, without those that are exact; infinite if all are."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.inf


def _ssim(x: F64, y: F64) -> float:
    c1, c2 = K1**2, K2**2  # of range 1
    mu_x, mu_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mu_x**2, _blurred(y * y) - mu_y**2
    cov = _blurred(x * y) - mu_x * mu_y
    top = (2 * mu_x * mu_y + c1) * (2 * cov + c2)
    below = (mu_x**2 + mu_y**2 + c1) * (var_x + var_y + c2)
    return float((top / below).mean())


def _blurred(x: F64) -> F64:
    half = WINDOW_PX // 2
    blurred = cv2.GaussianBlur(x, (WINDOW_PX, WINDOW_PX), SIGMA_PX)
    return np.asarray(blurred[half:-half, half:-half], np.float64)


def _pair(pictures: Pictures, originals: Pictures) -> tuple[F64, F64]:
    """Both as float64 of range 1."""
    if pictures.shape != originals.shape or pictures.dtype != originals.dtype:
        told = [f"{x.shape} {x.dtype}" for x in (pictures, originals)]
        raise ValueError(f"the same shape and type are needed, {told[0]} and {told[1]} came")
    if pictures.ndim < 3 or pictures.shape[-1] != 3:
        raise ValueError(f"[..., H, W, 3] is needed, {pictures.shape} came")
    if pictures.dtype != np.uint8 and not np.issubdtype(pictures.dtype, np.floating):
        raise ValueError(f"uint8, or float in [0, 1], is needed, {pictures.dtype} came")
    peak = 255.0 if pictures.dtype == np.uint8 else 1.0
    return pictures.astype(np.float64) / peak, originals.astype(np.float64) / peak
