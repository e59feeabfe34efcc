"""An endless clip, one network call at a time: state of W frames, whatever was before is gone.

Source: method notes, AR-Diffusion 1e. A finished frame never changes again and its timestep stays
1, so that with the strict mask its keys and values stay too: they are kept from the call after its
last update on, and a call costs the frames that still move. Keys are kept unturned and are turned
by their place in the window when they are used.

Exactness: equal to `sampler.sample` until the first frame leaves the window. From then on a kept
frame still remembers the frames that left, which a fresh computation does not see; with
`cached=False` every call computes the whole window and agrees with `sampler.sample` always.

Inferred, ours: S may change while frames are under way. A frame is therefore known by its noise
level and not by a count, and goes to the next lower level of the schedule in force.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from operators.nn.ar_diffusion.ad import check_window
from operators.nn.ar_diffusion.denoiser import Cache, Denoiser
from operators.nn.ar_diffusion.diffusion import FINISHED, Diffusion
from operators.nn.ar_diffusion.sampler import Plan, frame_noise, guided, predict
from operators.nn.ar_diffusion.vae import unit_tokens


@dataclass(frozen=True)
class Finished:
    """A frame that is done: its absolute index, and its unit tokens [K, C]."""

    index: int
    tokens: torch.Tensor


@dataclass(frozen=True)
class StreamSettings:
    """What may change between two calls."""

    plan: Plan  # lag at least ceil(S / W), and 1
    label: int  # of the class; the denoiser's `null` for none
    seed: int  # of the noise of frames that have not started


class FrameStream:
    """One stream. Call `tick` again and again; each is one network call."""

    def __init__(
        self,
        denoiser: Denoiser,
        diffusion: Diffusion,
        settings: StreamSettings,
        cached: bool | None = None,
    ) -> None:
        """`cached` None: wherever the denoiser allows it. ValueError for settings that cannot be,
        or a cache that the denoiser does not allow.
        """
        self._denoiser, self._diffusion = denoiser, diffusion
        self._cached = denoiser.streams if cached is None else cached
        if self._cached and not denoiser.streams:
            raise ValueError("only the strict mask with rotary positions allows a cache")
        self._device = denoiser.latent_in.weight.device
        self.change(settings)
        self.restart()

    def restart(self, first: int = 0) -> None:
        """Forget every frame; the next one to start has the absolute index `first`."""
        config = self._denoiser.config
        self._next = first
        self._kept = torch.empty(0, config.tokens, config.channels, device=self._device)
        self._x = self._kept  # frames behind the kept ones: done at the last call, then moving
        self._level = torch.empty(0, dtype=torch.int64)  # of these
        self._cache: Cache | None = None  # of the kept ones

    def change(self, settings: StreamSettings) -> None:
        """From the next call on. A new class, or guidance begun or ended, costs one more call over
        the kept frames; a new seed holds for frames that have not started.
        """
        denoiser, plan = self._denoiser, settings.plan
        check_window(plan.steps, plan.lag, denoiser.config.frames)
        if plan.lag < 1:
            raise ValueError("a stream needs a lag of 1 or more")
        if not 0 <= settings.label <= denoiser.null:
            raise ValueError(f"label {settings.label}: 0 to {denoiser.null} can be")
        self._settings, self._grid = settings, self._diffusion.grid(plan.steps)
        labels = [settings.label] + [denoiser.null] * (plan.guidance != 1)
        labels_before = getattr(self, "_labels", None)
        self._labels = torch.tensor(labels, device=self._device)
        if labels_before is None or not torch.equal(labels_before, self._labels):
            self._cache = None

    @property
    def settings(self) -> StreamSettings:
        """In force."""
        return self._settings

    @property
    def moving(self) -> int:
        """Frames that have started and are not done."""
        return int((self._level != FINISHED).sum())

    @property
    def next_index(self) -> int:
        """Of the frame that will start next."""
        return self._next

    def prime(self, tokens: torch.Tensor) -> None:
        """Unit tokens [P, K, C] of real frames: they are done, the next frames follow them.

        They count as frames, and as many as fit in front of a new one are kept. ValueError while
        frames are moving.
        """
        if self.moving:
            raise ValueError(f"{self.moving} frames are under way: restart, then prime")
        self._x = torch.cat([self._x, self._diffusion.scaled(tokens.to(self._x))])
        self._level = torch.cat([self._level, torch.full((len(tokens),), FINISHED)])
        self._next += len(tokens)
        self._evict()

    @torch.inference_mode()
    def tick(self) -> list[Finished]:
        """One network call; the frames that it finished, mostly none or one, in order."""
        if self._due():
            self._start()
        x0_hat = self._predict_kept() if self._cached else self._predict_window()
        to = torch.cat([torch.tensor([FINISHED]), self._grid])[
            torch.searchsorted(self._grid, self._level)
        ]
        self._keep(self.moving)
        return self._move(x0_hat[-len(self._x) :], to[-len(self._x) :])

    def _due(self) -> bool:
        """A frame starts when the one in front is `lag` updates ahead, or done."""
        moving = self.moving
        if moving == 0:
            return True
        left = int(torch.searchsorted(self._grid, self._level[-1], right=True))
        ahead = self._settings.plan.steps - left >= self._settings.plan.lag
        return ahead and moving < self._denoiser.config.frames

    def _start(self) -> None:
        config = self._denoiser.config
        noise = frame_noise(self._settings.seed, self._next, 1, config.tokens, config.channels)
        self._x = torch.cat([self._x, noise.to(self._x)])
        self._level = torch.cat([self._level, self._grid[-1:]])
        self._next += 1
        self._evict()

    def _evict(self) -> None:
        """Let go of what is in front of the window; all of it is done."""
        config = self._denoiser.config
        excess = max(len(self._kept) + len(self._x) - config.frames, 0)
        gone = min(excess, len(self._kept))
        self._kept = self._kept[gone:]
        if self._cache is not None and gone:
            tokens = gone * config.tokens
            self._cache = tuple(own.without(config.context_tokens, tokens) for own in self._cache)
        self._x, self._level = self._x[excess - gone :], self._level[excess - gone :]

    def _predict_kept(self) -> torch.Tensor:
        """x0_hat [n, K, C] of the frames behind the kept ones; done frames join the cache."""
        denoiser, several = self._denoiser, len(self._labels)
        if self._cache is None:
            self._cache = denoiser.begin(self._labels)
            if len(self._kept):
                self._extend(self._kept, torch.ones(len(self._kept), dtype=torch.int64))
        done = len(self._level) - self.moving
        x0_hat = self._extend(self._x, self._diffusion.shown(self._level), done)
        if several == 1:
            return x0_hat[0]
        return guided(x0_hat[0], x0_hat[1], self._settings.plan.guidance)

    def _extend(self, x: torch.Tensor, t: torch.Tensor, keep: int | None = None) -> torch.Tensor:
        """x0_hat [labels, n, K, C]; the first `keep` frames, or all, join the cache."""
        assert self._cache is not None
        several = len(self._labels)
        x0_hat, added = self._denoiser.extend(
            x.expand(several, *x.shape), t.to(self._device).expand(several, -1), self._cache
        )
        if keep != 0:
            tokens = (len(x) if keep is None else keep) * self._denoiser.config.tokens
            self._cache = tuple(
                own.then(new.head(tokens)) for own, new in zip(self._cache, added, strict=True)
            )
        return x0_hat

    def _predict_window(self) -> torch.Tensor:
        """The same from the whole window; frames that have not started are seen as noise."""
        config, diffusion = self._denoiser.config, self._diffusion
        kept, own = len(self._kept), len(self._x)
        waiting = config.frames - kept - own
        noise = self._x.new_empty(0, config.tokens, config.channels)
        if waiting and config.mask != "strict":
            noise = frame_noise(
                self._settings.seed, self._next, waiting, config.tokens, config.channels
            ).to(self._x)
        t = torch.cat([
            torch.full((kept,), FINISHED), self._level, torch.full((len(noise),), diffusion.waiting)
        ])  # fmt: skip
        x0_hat = predict(
            self._denoiser,
            torch.cat([self._kept, self._x, noise])[None],
            diffusion.shown(t)[None].to(self._device),
            self._labels[:1],
            self._settings.plan.guidance,
        )
        return x0_hat[0, kept : kept + own]

    def _keep(self, moving: int) -> None:
        """What was done before this call is now among the kept frames."""
        done = len(self._x) - moving
        self._kept = torch.cat([self._kept, self._x[:done]])
        self._x, self._level = self._x[done:], self._level[done:]

    def _move(self, x0_hat: torch.Tensor, to: torch.Tensor) -> list[Finished]:
        """All frames that move to their next level, [n] int64."""
        diffusion = self._diffusion
        x = diffusion.step(self._x[None], x0_hat[None], self._level[None], to[None])[0]
        done = (to == FINISHED).to(self._device)[:, None, None]
        self._x, self._level = torch.where(done, diffusion.clean(x), x), to
        first = self._next - len(x)
        count = len(to) - self.moving  # done frames are the first ones
        return [Finished(first + i, unit_tokens(self._x[i])) for i in range(count)]
