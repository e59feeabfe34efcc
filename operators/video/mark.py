"""Says on synthetic pictures that they are: a badge to see, a record to read. Others pass."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np

from engine import TUNABLE, Caps, Config, Frame, OpContext, Operator
from engine.contract import UNMARKED, Marked
from engine.pool import BufferPool
from operators.kernels.launching import KERNELS
from operators.video.canvas import ON_GPU, RGB, Canvas, Drawable, make_canvas, text_mask
from operators.video.kernel_canvas import KernelCanvas
from operators.video.yuv import frame_size

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
WORDS = ("SYNTHETIC", "SYNTH", "AI")  # the longest that leaves half the width free
BACK: RGB = (255, 205, 60)
INK: RGB = (25, 20, 5)
LEAST_SCALE = 0.25  # what can still be read
POOL_FRAMES = 8


class MarkConfig(Config, frozen=True):
    """Where the badge goes; that there is one is not for choosing."""

    corner: Annotated[Corner, TUNABLE] = "top-left"


class Mark(Operator[MarkConfig]):
    """Draws a badge on each synthetic frame and adds a `Marked` record.

    Before every sink that shows, sends or records what a model made, and behind all that changes
    pixels: `check` asks for it. On a GPU it takes yuv420p and nv12.
    """

    devices = ("cpu", "cuda")
    gpu_caps: ClassVar = {"frames": ON_GPU}
    gpu_needs: ClassVar = KERNELS

    def open(self, ctx: OpContext) -> None:
        self._gpu = ctx.gpu
        self._pool = BufferPool(POOL_FRAMES)

    def process(
        self, frames: Drawable
    ) -> Annotated[Frame, Caps(media="video", like="frames", cleans=UNMARKED)]:
        """Same size and layout. CapsError for layouts that nobody can draw on."""
        if not frames.stamp.synthetic:
            return frames
        frames = frames.without_records(Marked)
        if self._gpu is not None:
            sheet = KernelCanvas(frames)
            badge = self._draw(frames, sheet)
            return frames.with_data(sheet.drawn(self._gpu)).with_records(Marked(badge))
        array = self._pool.take(frames.data.shape, frames.data.dtype)
        np.copyto(array, frames.data)
        badge = self._draw(frames, make_canvas(frames, array))
        return frames.with_data(array).with_records(Marked(badge))

    def _draw(self, frame: Frame, canvas: Canvas) -> str:
        """What was written."""
        width, height = frame_size(frame)
        scale = max(0.9 * height / 720, LEAST_SCALE)
        fits = [word for word in WORDS if 2 * text_mask(word, scale).shape[1] <= width]
        word = fits[0] if fits else WORDS[-1]
        above, left = self.config.corner.split("-")
        anchor = (0.0 if left == "left" else width, 0.0 if above == "top" else height)
        canvas.label(anchor, word, scale, BACK, INK)
        return word
