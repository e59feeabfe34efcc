"""Latents to frames one at a time, with a decoder that looks back: state of W frames, for ever.

Source: method notes, AR-Diffusion 1b and 1e: a causal decoder needs keys and values of the window
and no more. Inferred, ours: every frame looks at the W - 1 frames in front of it, in every layer.

Exactness: equal to `TemporalDecoder.forward` over the whole clip for the first W frames. From then
on a frame sees W frames where `forward` sees all; what is kept of these still remembers frames
before them, as it was made when they were there. How many frames come in one call makes no
difference.
"""

from __future__ import annotations

import torch

from operators.nn.ar_diffusion.temporal import Past, TemporalDecoder


class TemporalStream:
    """One stream. Its frames come in order, one or a few in a call."""

    def __init__(self, decoder: TemporalDecoder, window: int) -> None:
        """`window`: W, 1 or more; as many frames as the clips that the layers learned from had."""
        if window < 1:
            raise ValueError(f"window must be 1 or more, not {window}")
        self._decoder, self.window = decoder, window
        self.restart()

    def restart(self) -> None:
        """Forget every frame: what comes next is the first of a clip."""
        self._past: tuple[Past, ...] | None = None

    @property
    def kept(self) -> int:
        """Frames that are remembered, W - 1 at most."""
        return 0 if self._past is None else self._past[0].frames

    @torch.inference_mode()
    def decode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Unit tokens [n, K, C] of the next frames to [n, 3, size_px, size_px] in about [0, 1].

        Memory does not grow with n, beyond the frames themselves. ValueError for no frames.
        """
        if len(tokens) == 0:
            raise ValueError("there is no frame to decode")
        return torch.cat([self._next(part) for part in torch.split(tokens, self.window)])

    def _next(self, tokens: torch.Tensor) -> torch.Tensor:
        frames, added = self._decoder.extend(tokens[None], self._past, self.window)
        if self.window > 1:
            past = self._past or (None,) * len(added)
            self._past = tuple(
                (new if own is None else own.then(new)).last(self.window - 1)
                for own, new in zip(past, added, strict=True)
            )
        return frames[0]
