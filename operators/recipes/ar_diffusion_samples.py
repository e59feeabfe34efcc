"""Clips of a trained AR-Diffusion system, one at a time, with what they cost.

A lag of 1 or more streams with its cache, as the running system does; a lag of 0 makes whole
windows, and a longer clip of windows that overlap.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from operators.nn.ar_diffusion.ad import least_lag
from operators.nn.ar_diffusion.diffusion import Diffusion
from operators.nn.ar_diffusion.files import System
from operators.nn.ar_diffusion.sampler import Plan, frame_noise, sample, sample_stitched
from operators.nn.ar_diffusion.stream import FrameStream, StreamSettings

U8 = npt.NDArray[np.uint8]
BATCH = 64


@dataclass(frozen=True)
class Made:
    """A clip and its cost. Seconds are this machine's, decoding included."""

    frames: U8  # [T, H, W, 3]
    calls_first: int  # network calls until the first frame
    calls: int
    first_s: float
    total_s: float


class Maker:
    """Makes clips of one system with S steps per frame and a weight of guidance."""

    def __init__(self, system: System, guidance: float, overlap: int) -> None:
        """`overlap`: frames that stitched windows share."""
        self.system, self._guidance, self._overlap = system, guidance, overlap
        self._diffusion = Diffusion(system.config.diffusion)

    @property
    def steps(self) -> int:
        """S."""
        return self.system.config.steps

    def allows(self, lag: int) -> bool:
        """True if it can make clips of any length with this lag."""
        least = least_lag(self.steps, self.system.config.denoiser.frames)
        return lag == 0 or max(least, 1) <= lag <= self.steps

    def clip(self, lag: int, label: int, seed: int, length: int) -> Made:
        """`length` frames of a class from nothing but noise."""
        begin = time.perf_counter()
        found: list[U8] = []
        first_s, calls_first, calls = 0.0, 0, 0
        for done, tokens in self._tokens(lag, label, seed, length):
            found.append(self._decode(tokens))
            if not first_s:
                first_s, calls_first = time.perf_counter() - begin, done
            calls = done
        total_s = time.perf_counter() - begin
        return Made(np.concatenate(found), calls_first, calls, first_s, total_s)

    @torch.inference_mode()
    def go_on(self, lag: int, label: int, seed: int, past: U8, length: int) -> U8:
        """[length, H, W, 3] behind true frames `past` [P, H, W, 3]; P + length <= W if s = 0."""
        known = self._encode(past)
        if lag == 0:
            noise = self._noise(seed, len(past) + length)
            made = sample(
                self.system.denoiser, self._diffusion, self._plan(0), noise[None],
                torch.tensor([label], device=known.device), known[None],
            )  # fmt: skip
            return self._decode(made[0, len(past) :])
        stream = self._stream(lag, label, seed)
        stream.prime(known)
        found: list[torch.Tensor] = []
        while len(found) < length:
            found += [frame.tokens for frame in stream.tick()]
        return self._decode(torch.stack(found[:length]))

    @torch.inference_mode()
    def through(self, frames: U8) -> U8:
        """[N, H, W, 3] through encoder and decoder."""
        parts = [frames[n : n + BATCH] for n in range(0, len(frames), BATCH)]
        return np.concatenate([self._decode(self._encode(part)) for part in parts])

    def _tokens(
        self, lag: int, label: int, seed: int, length: int
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Calls so far, and the frames [n, K, C] that the last of them finished."""
        window = self.system.config.denoiser.frames
        if lag:
            stream, calls, left = self._stream(lag, label, seed), 0, length
            while left:
                calls += 1
                finished = [frame.tokens for frame in stream.tick()][:left]
                left -= len(finished)
                if finished:
                    yield calls, torch.stack(finished)
            return
        noise = self._noise(seed, length)[None]
        labels = torch.tensor([label], device=noise.device)
        networks, plan = (self.system.denoiser, self._diffusion), self._plan(0)
        if length <= window:
            yield self.steps, sample(*networks, plan, noise, labels)[0]
            return
        parts = sample_stitched(*networks, plan, noise, labels, self._overlap)
        for number, part in enumerate(parts, 1):
            yield number * self.steps, part[0]

    def _stream(self, lag: int, label: int, seed: int) -> FrameStream:
        settings = StreamSettings(self._plan(lag), label, seed)
        return FrameStream(self.system.denoiser, self._diffusion, settings)

    def _plan(self, lag: int) -> Plan:
        return Plan(self.steps, lag, self._guidance)

    def _noise(self, seed: int, length: int) -> torch.Tensor:
        config = self.system.config.denoiser
        made = frame_noise(seed, 0, length, config.tokens, config.channels)
        return made.to(self.system.denoiser.latent_in.weight.device)

    def _encode(self, frames: U8) -> torch.Tensor:
        device = self.system.vae.encoder.patches.weight.device
        pixels = torch.from_numpy(frames).to(device).movedim(-1, -3).float().div_(255)
        return self.system.vae.encode(pixels)

    @torch.inference_mode()
    def _decode(self, tokens: torch.Tensor) -> U8:
        pictures: U8 = self.system.vae.decode_uint8(tokens).permute(0, 2, 3, 1).cpu().numpy()
        return np.ascontiguousarray(pictures)
