"""What a call of a video model takes, and a picture: the compact one, and the published size."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bench.common import median
from engine.clock import MonotonicClock
from engine.device.driver import ask_driver
from engine.errors import DeviceError
from engine.testing import HarnessContext
from operators.generate.dream import DreamConfig

if TYPE_CHECKING:
    from operators.nn.ar_diffusion.config import SystemConfig

WARM_UPS = 3


def compact_figures(config: DreamConfig, frames: int, device: str = "cpu") -> dict[str, float]:
    """In this process, as a node does it: the window is full, one thread on a processor."""
    from operators.generate.settings import wish_of
    from operators.generate.studio import Studio

    ctx = HarnessContext(clock=MonotonicClock())
    ctx.device = device
    studio = Studio(config, ctx)
    wish = wish_of(config, studio.facts)
    studio.warm_up(wish)
    reel = studio.reel(wish)
    made = [reel.next(lambda: False) for _ in range(studio.facts.window + frames)]
    steady = [one.took for one in made[studio.facts.window :] if one is not None]
    steps, lag = wish.setting
    call_ms = median([took.calls_ns for took in steady]) / lag / 1e6
    decode_ms = median([took.rest_ns for took in steady]) / 1e6
    return _told(steps, lag, call_ms, decode_ms)


def gpu_figures(config: DreamConfig, frames: int) -> dict[str, float]:
    """Both on the first GPU; nothing where there is none."""
    try:
        ask_driver()
    except DeviceError:
        return {}
    from operators.nn.ar_diffusion.config import PAPER

    compact = compact_figures(config, frames, "cuda:0")
    paper = size_figures(PAPER, frames, "cuda:0")
    return {f"gpu_{key}": value for key, value in compact.items()} | {
        f"gpu_paper_{key}": value for key, value in paper.items()
    }


def size_figures(system: SystemConfig, frames: int, device: str) -> dict[str, float]:
    """A stream of any size with random weights, bfloat16 where torch's autocast takes it.

    With the strict mask and rotary positions, whatever the config says: only these let a stream
    keep its keys and values.
    """
    import torch

    from operators.nn.ar_diffusion.denoiser import Denoiser
    from operators.nn.ar_diffusion.diffusion import Diffusion
    from operators.nn.ar_diffusion.sampler import Plan
    from operators.nn.ar_diffusion.stream import FrameStream, StreamSettings
    from operators.nn.ar_diffusion.vae import Decoder

    config = replace(system.denoiser, mask="strict", positions="rotary")
    place = torch.device(device)
    torch.manual_seed(0)
    with place:
        denoiser, decoder = Denoiser(config).eval(), Decoder(system.vae).eval()
    settings = StreamSettings(Plan(system.steps, system.lag), denoiser.null, seed=0)
    stream = FrameStream(denoiser, Diffusion(system.diffusion), settings)
    tokens = torch.nn.functional.normalize(
        torch.randn(1, config.tokens, config.channels, device=place), dim=-1
    )
    with torch.inference_mode(), torch.autocast(place.type, torch.bfloat16):
        for _ in range(system.steps + config.frames * system.lag):  # until the window is full
            stream.tick()
        call_ms = _median_ms(stream.tick, frames, place)
        decode_ms = _median_ms(lambda: decoder(tokens), frames, place)
    return _told(system.steps, system.lag, call_ms, decode_ms)


def _median_ms(work: Callable[[], Any], rounds: int, place: Any) -> float:
    """To its end on the device."""
    import torch

    wait = torch.cuda.synchronize if place.type == "cuda" else lambda: None
    took = []
    for turn in range(WARM_UPS + rounds):
        begin_ns = time.monotonic_ns()
        work()
        wait()
        if turn >= WARM_UPS:
            took.append((time.monotonic_ns() - begin_ns) / 1e6)
    return median(took)


def _told(steps: int, lag: int, call_ms: float, decode_ms: float) -> dict[str, float]:
    return {
        "steps": steps,
        "lag": lag,
        "call_ms": round(call_ms, 2),
        "decode_ms": round(decode_ms, 2),
        "fps": round(1e3 / (lag * call_ms + decode_ms), 2),
    }
