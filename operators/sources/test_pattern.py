"""Colour bars, a moving box and a frame number that a program can read back."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
from msgspec import Meta

from engine import Caps, Config, EndOfStream, Frame, OpContext, Operator
from engine.pool import BufferPool
from operators.sources._outputs import Pictures
from operators.sources._pacing import Pacer

IDLE_BUFFERS = 8
NUMBER_BITS = 32
BLACK, WHITE = 16, 235  # limited range
# (Y, U, V) of 75 % bars: white, yellow, cyan, green, magenta, red, blue; bt601, limited range.
BARS = (
    (180, 128, 128),
    (162, 44, 142),
    (131, 156, 44),
    (112, 72, 58),
    (84, 184, 198),
    (65, 100, 212),
    (35, 212, 114),
)


class TestPatternConfig(Config, frozen=True):
    """Size, rate and length."""

    __test__: ClassVar[bool] = False  # not a test, whatever its name

    width: Annotated[int, Meta(ge=64, le=7680, multiple_of=2, description="px")] = 640
    height: Annotated[int, Meta(ge=64, le=4320, multiple_of=2, description="px")] = 360
    fps: Annotated[float, Meta(gt=0, le=1000, description="Hz")] = 30
    frames: Annotated[int, Meta(ge=0, description="how many; 0: without end")] = 0
    realtime: Annotated[
        bool, Meta(description="one frame per period; false: as fast as they are taken")
    ] = True
    seed: Annotated[int, Meta(ge=0, description="where the box starts and how it moves")] = 0


class TestPattern(Operator[TestPatternConfig]):
    """Frame n is the same for the same config, on every machine."""

    __test__ = False

    def open(self, ctx: OpContext) -> None:
        config = self.config
        self._ctx = ctx
        self._pacer = Pacer(ctx)
        self._time_base = 1 / Fraction(config.fps).limit_denominator(1001)
        self._pool = BufferPool(IDLE_BUFFERS)
        self._background = _bars(config.width, config.height)
        random = np.random.default_rng(config.seed)
        self._box_px = config.height // 8 & ~1
        self._start_px = random.integers(0, config.height, 2)
        self._step_px = random.integers(2, 9, 2)
        self._count = 0
        self._caps = Caps(
            media="video",
            pix_fmt="yuv420p",
            dtype="uint8",
            width=config.width,
            height=config.height,
            device="cpu",
            colorspace="bt601",
            color_range="limited",
        )

    def process(self) -> Pictures:
        number = self._count
        if self._ctx.stopping() or number == self.config.frames > 0:
            raise EndOfStream
        data = self._pool.take(self._background.shape, np.uint8)
        np.copyto(data, self._background)
        self._draw_box(data[: self.config.height], number)
        write_number(data[: self.config.height], number)
        if self.config.realtime:
            self._pacer.wait_until(round(number * self._time_base * 10**9))
        self._count += 1
        return Pictures(Frame(data, self._caps, self._ctx.stamp(number, self._time_base)))

    def _draw_box(self, luma: npt.NDArray[np.uint8], number: int) -> None:
        room = np.array(luma.shape, np.int64) - self._box_px
        y, x = _bounce(self._start_px + number * self._step_px, room)
        luma[y : y + self._box_px, x : x + self._box_px] = WHITE


def write_number(luma: npt.NDArray[np.uint8], number: int) -> None:
    """Draw `number` modulo 2**32 as a row of black and white cells along the top of [H, W]."""
    cell = _cell_px(luma.shape[1])
    bits = (number >> np.arange(NUMBER_BITS)) & 1
    row = np.where(np.repeat(bits, cell), WHITE, BLACK).astype(np.uint8)
    luma[:cell, : len(row)] = row


def read_number(luma: npt.NDArray[np.uint8]) -> int:
    """The number that `write_number` drew, also after lossy coding. [H, W] or I420 [H*3/2, W]."""
    cell = _cell_px(luma.shape[1])
    cells = luma[:cell, : cell * NUMBER_BITS].reshape(cell, NUMBER_BITS, cell)
    bits = cells.mean(axis=(0, 2)) > (BLACK + WHITE) / 2
    return int(np.sum(bits.astype(np.int64) << np.arange(NUMBER_BITS)))


def _cell_px(width: int) -> int:
    return max(2, min(16, width // NUMBER_BITS))


def _bounce(position: npt.NDArray[np.int64], room: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """A position that runs to and fro between 0 and `room`."""
    there_and_back = position % (2 * room)
    bounced: npt.NDArray[np.int64] = np.minimum(there_and_back, 2 * room - there_and_back)
    return bounced


def _bars(width: int, height: int) -> npt.NDArray[np.uint8]:
    frame = np.empty((height * 3 // 2, width), np.uint8)
    colours = np.array(BARS, np.uint8)
    frame[:height] = colours[np.arange(width) * len(BARS) // width, 0]
    chroma = frame.reshape(-1)[height * width :].reshape(2, height // 2, width // 2)
    column = np.arange(width // 2) * len(BARS) // (width // 2)
    chroma[0], chroma[1] = colours[column, 1], colours[column, 2]
    return frame
