"""Video models on the GPU, eager: a call, a picture, frames a second, compact and as published."""

from __future__ import annotations

from bench.calls import gpu_figures
from bench.result import Bar
from operators.generate.dream import DreamConfig

FRAMES = 60


def run() -> tuple[dict[str, float], tuple[Bar, ...]]:
    return gpu_figures(DreamConfig(), FRAMES), ()
