"""The networks of one checkpoint on a node's device, and the endless videos that come out of them.

Source: AR-Diffusion, method notes 1e. torch is imported when a node opens, never before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine import OpContext, OperatorError
from operators.engines import Run
from operators.generate.checkpoint import Facts, facts_of
from operators.generate.pace import Setting, Took
from operators.generate.settings import GenerateConfig, Wish

if TYPE_CHECKING:
    import torch

    from operators.nn.ar_diffusion.stream import FrameStream, StreamSettings

U8 = npt.NDArray[np.uint8]
WARM_UPS = 3  # calls


class Made(NamedTuple):
    """A picture, and what it took."""

    rgb: U8  # [H, W, 3]
    number: int  # in its video; real frames in front of it count
    setting: Setting
    took: Took
    steady: bool  # by `lag` calls: not the first one, none right after a change


class Studio:
    """Used by one thread: the node's. Made in `open`."""

    def __init__(self, config: GenerateConfig, ctx: OpContext) -> None:
        """OperatorError says what is missing or wrong; CompileError: a named engine cannot be."""
        torch = _torch()
        from operators.engines import open_engine
        from operators.generate.network import decoder_network
        from operators.nn.ar_diffusion.diffusion import Diffusion
        from operators.nn.ar_diffusion.files import load_system

        torch.set_num_threads(ctx.threads)
        try:
            self.facts: Facts = facts_of(config.path)
            system = load_system(config.path)
        except FileNotFoundError as error:
            message = f"{config.path}: there is no such checkpoint; name another in `checkpoint`"
            raise OperatorError("NO_CHECKPOINT", message) from error
        except (ValueError, OSError) as error:
            raise OperatorError("BAD_CHECKPOINT", f"{config.path}: {error}") from error
        self.sha = system.sha
        self._clock, self._device = ctx.clock, ctx.device
        network = decoder_network(system.vae.decoder, system.config.vae)
        self._decoder: Run = open_engine(
            network, "decoder", config.engine, ctx, _build(config, ctx)
        )
        system.vae.encoder.to(ctx.device)
        self._encode_frames = system.vae.encode
        self._denoiser = system.denoiser.to(ctx.device)
        self._diffusion = Diffusion(system.config.diffusion)

    def reel(self, wish: Wish, known: Sequence[U8] = ()) -> Reel:
        """A new video; it goes on from pictures that are `known`, RGB [size_px, size_px, 3]."""
        stream = self._stream(wish)
        if known:
            stream.prime(self._encode(known))
        return Reel(stream, self._decode, self._clock.now_ns)

    def warm_up(self, wish: Wish) -> None:
        """A little of everything, so that the first picture that counts finds it in place."""
        tokens = self._encode([np.zeros((self.facts.size_px, self.facts.size_px, 3), np.uint8)])
        stream = self._stream(wish)
        stream.prime(tokens)
        for _ in range(WARM_UPS):
            stream.tick()
        self._decode(tokens[0])

    def _stream(self, wish: Wish) -> FrameStream:
        from operators.nn.ar_diffusion.stream import FrameStream

        return FrameStream(self._denoiser, self._diffusion, settings_of(wish))

    def _encode(self, pictures: Sequence[U8]) -> torch.Tensor:
        import torch

        with torch.inference_mode():
            frames = torch.from_numpy(np.stack(pictures)).to(self._device)
            return self._encode_frames(frames.permute(0, 3, 1, 2).float() / 255)

    def _decode(self, tokens: torch.Tensor) -> U8:
        import torch

        with torch.inference_mode():
            frame = self._decoder(tokens[None])[0].float().permute(1, 2, 0)
            rgb = (frame * 255).round_().clamp_(0, 255).to(torch.uint8)
            picture: U8 = rgb.contiguous().cpu().numpy()
            return picture


class Reel:
    """One video, as long as anybody wants it."""

    def __init__(
        self, stream: FrameStream, decode: Callable[[Any], U8], now_ns: Callable[[], int]
    ) -> None:
        self._stream = stream
        self._decode = decode
        self._now_ns = now_ns

    def next(self, stopping: Callable[[], bool]) -> Made | None:
        """The next picture; None if it was told to stop meanwhile.

        A picture is `lag` calls of the model, the first one `steps` calls.
        """
        plan, begin_ns, calls = self._stream.settings.plan, self._now_ns(), 0
        while not stopping():
            calls += 1
            if finished := self._stream.tick():
                break
        else:
            return None
        (done,) = finished
        decode_ns = self._now_ns()
        rgb = self._decode(done.tokens)
        took = Took(decode_ns - begin_ns, self._now_ns() - decode_ns)
        return Made(rgb, done.index, Setting(plan.steps, plan.lag), took, calls == plan.lag)

    def change(self, wish: Wish) -> None:
        """From the next call on."""
        self._stream.change(settings_of(wish))


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        message = f"this node needs torch ({error}): pip install 'frameloom[models]'"
        raise OperatorError("MISSING_PACKAGE", message) from error
    return torch


def _build(config: GenerateConfig, ctx: OpContext) -> str:
    """What builds an engine for the decoder."""
    if config.checkpoint:
        return "`engine: auto` measures what is faster"
    option = f"--threads {ctx.threads}" if ctx.device == "cpu" else "--device cuda"
    return f"`frameloom engines build ar-diffusion-decoder {option}` makes one"


def settings_of(wish: Wish) -> StreamSettings:
    """The same in the sampler's words."""
    from operators.nn.ar_diffusion.sampler import Plan
    from operators.nn.ar_diffusion.stream import StreamSettings

    return StreamSettings(Plan(*wish.setting, wish.guidance), wish.label, wish.seed)
