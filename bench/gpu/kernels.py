"""Our kernels at 1080p and 4K: device time, bytes moved, and their share of what copies reach.

Bar: preparing a batch of frames for a detector, 0.6 of the speed of a copy within the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bench.common import significant
from bench.gpu.timing import copy_bandwidth, device_ms, gigabytes_per_second
from bench.result import Bar, at_least
from operators.kernels import colours, overlay, paste, watermark
from operators.kernels.crop import CropKernel, Squares
from operators.kernels.launching import On
from operators.kernels.planes import Fit, PlanesKernel

SIZES = {"1080p": (1920, 1080), "4k": (3840, 2160)}
FRAMES = 32  # so much that no cache holds them


def run() -> tuple[dict[str, float], tuple[Bar, ...]]:
    copies = copy_bandwidth()
    figures = {"copy_gbps": significant(copies)}
    for name, size in SIZES.items():
        for kernel, (work, nbytes) in _cases(*size).items():
            milliseconds = device_ms(work, 20)
            speed = gigabytes_per_second(nbytes, milliseconds)
            figures[f"{kernel}_{name}_ms"] = significant(milliseconds)
            figures[f"{kernel}_{name}_share"] = significant(speed / copies, 3)
    return figures, (at_least("planes_1080p_share", 0.6, figures["planes_1080p_share"]),)


Case = tuple[Callable[[], Any], int]  # what to launch, and the bytes it moves


def _cases(width: int, height: int) -> dict[str, Case]:
    """`planes` for many frames, the others for one."""
    frames = torch.randint(16, 235, (FRAMES, height * 3 // 2, width), dtype=torch.uint8).cuda()
    return {
        "planes": _planes(frames, width, height),
        "crop": _crop(frames[0], width, height),
        **_paste(width, height),
        "overlay": _overlay(frames[0], width, height),
        "watermark": _watermark(frames[0][:height]),
    }


def _planes(frames: torch.Tensor, width: int, height: int) -> Case:
    fit = Fit(width, height, (640, 640), out="float16")
    pictures = torch.empty(FRAMES, 3, 640, 640, dtype=torch.float16, device="cuda")
    prepare, stream = PlanesKernel(fit), _here().stream
    return lambda: prepare(frames, pictures, stream), FRAMES * fit.bytes_moved()


def _crop(frame: torch.Tensor, width: int, height: int) -> Case:
    squares = Squares(width, height, 192, out="float16")
    across = np.linspace(300, width - 300, 16)
    matrices = np.stack([_square(x, height / 2, 300, 192) for x in across])
    crops = torch.empty(16, 3, 192, 192, dtype=torch.float16, device="cuda")
    cut, stream = CropKernel(squares), _here().stream
    return lambda: cut(frame, matrices, crops, stream), squares.bytes_moved(matrices)


def _paste(width: int, height: int) -> dict[str, Case]:
    rgb = torch.randint(0, 255, (height, width, 3), dtype=torch.uint8).cuda()
    places = paste.Places(width, height, 256, _square(400, 500, 250, 256)[None])
    patches = torch.randint(0, 255, (1, 256, 256, 3), dtype=torch.uint8).cuda()
    masks = torch.full((1, 256, 256), 200, dtype=torch.uint8, device="cuda")
    moved, on = torch.tensor([[1.0, 0.0] * 3], device="cuda"), _here()
    transfer = colours.ColoursKernel(1)
    return {
        "paste": (
            lambda: paste.paste(rgb, patches, masks, places, moved, on),
            places.bytes_moved(),
        ),
        "colours": (
            lambda: transfer(rgb, patches, masks, places, moved, on.stream),
            colours.bytes_moved(places),
        ),
    }


def _overlay(frame: torch.Tensor, width: int, height: int) -> Case:
    shapes = [overlay.Box(100 + 90 * n, 200, 80, 120, 3, (150, 44, 21)) for n in range(8)]
    size, on = (width, height), _here()
    return lambda: overlay.overlay(frame, shapes, size, "nv12", on), overlay.bytes_moved(shapes)


def _watermark(luma: torch.Tensor) -> Case:
    signs = np.random.default_rng(0).choice(np.array([-1, 1], np.int8), 64 + 96)
    mark = watermark.Mark(signs[:96], signs[96:].reshape(8, 8), 2.0)
    bits, pattern = torch.from_numpy(mark.bits).cuda(), torch.from_numpy(mark.pattern).cuda()
    height, width = luma.shape
    on = _here()
    return (
        lambda: watermark.watermark(luma, bits, pattern, mark, on),
        watermark.bytes_moved(width, height),
    )


def _here() -> On:
    return On(torch.cuda.current_stream().cuda_stream)


def _square(x: float, y: float, side: float, size_px: int) -> Any:
    """[2, 3], frame -> square pixels."""
    scale, middle = size_px / side, (size_px - 1) / 2
    return np.array([(scale, 0, middle - scale * x), (0, scale, middle - scale * y)])
