"""From PyAV's frames and packets to the engine's: planes copied once, caps and times kept."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engine import Caps, OperatorError, rescale_pts
from engine.pool import BufferPool

if TYPE_CHECKING:
    from av import AudioStream, Packet, VideoFrame, VideoStream

IDLE_BUFFERS = 8  # kept for reuse per source: about what a graph holds in flight
HD_HEIGHT = 720  # untagged video of at least this height is bt709
BT601_TAGS = frozenset({4, 5, 6})  # FCC, BT.470BG and SMPTE 170M share the bt601 matrix
UNTAGGED = frozenset({2, 3})
FULL_RANGE = 2  # FFmpeg's AVCOL_RANGE_JPEG
PLANAR_420 = frozenset({"yuv420p", "yuvj420p"})


class FrameCopier:
    """Decoded frames into pooled I420 arrays, upright. Odd sizes lose their last row or column."""

    def __init__(self, name: str) -> None:
        self._name = name  # for messages
        self._pool = BufferPool(IDLE_BUFFERS)
        self._key: tuple[Any, ...] = ()
        self._caps = Caps()

    def copy(self, frame: VideoFrame) -> tuple[npt.NDArray[np.uint8], Caps]:
        """([H*3/2, W] uint8, complete caps). Raises OperatorError below 2x2 pixels."""
        planar = frame.format.name in PLANAR_420
        turns = round(frame.rotation / 90) % 4  # anticlockwise, as the container asks for
        key = (
            frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, turns
        )  # fmt: skip
        if key != self._key:
            lying = turns % 2 == 1
            self._caps = frame_caps(frame, self._name, lying=lying, keeps_range=planar)
            self._key = key
        if not planar:
            frame = self._convert(frame)
        width, height = self._caps.width or 0, self._caps.height or 0
        array = self._pool.take((height * 3 // 2, width), np.uint8)
        split = height * width
        chroma = array.reshape(-1)[split:].reshape(2, height // 2, width // 2)
        for plane, target in zip(frame.planes, (array[:height], *chroma), strict=True):
            source = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
            if turns:
                even = target.shape[::-1] if turns % 2 else target.shape
                source = np.rot90(source[: even[0], : even[1]], turns)
            np.copyto(target, source[: target.shape[0], : target.shape[1]])
        return array, self._caps

    def _convert(self, frame: VideoFrame) -> VideoFrame:
        from av.video.reformatter import ColorRange, Colorspace

        bt601 = self._caps.colorspace == "bt601"
        return frame.reformat(
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601 if bt601 else Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )


def frame_caps(frame: VideoFrame, name: str, *, lying: bool, keeps_range: bool) -> Caps:
    """Caps of a decoded frame as I420 on the host. OperatorError below 2x2 pixels.

    `lying`: it is turned by a quarter. `keeps_range`: its samples are taken as they are.
    """
    width, height = frame.width & ~1, frame.height & ~1
    if width < 2 or height < 2:
        raise OperatorError(
            "TOO_SMALL",
            f"{name}: {frame.width}x{frame.height} pixels is less than the 2x2 that "
            "yuv420p needs; use a larger clip",
        )
    is_full = frame.color_range == FULL_RANGE or frame.format.name == "yuvj420p"
    return Caps(
        media="video",
        pix_fmt="yuv420p",
        dtype="uint8",
        width=height if lying else width,
        height=width if lying else height,
        device="cpu",
        colorspace=_matrix(frame),
        color_range="full" if keeps_range and is_full else "limited",
    )


def _matrix(frame: VideoFrame) -> str:
    if frame.colorspace in BT601_TAGS:
        return "bt601"
    if frame.colorspace in UNTAGGED or frame.format.is_rgb:
        return "bt709" if frame.height >= HD_HEIGHT else "bt601"
    return "bt709"


class PtsFiller:
    """Gives every frame of a stream a pts: a missing one follows the frame before it."""

    def __init__(self, stream: VideoStream) -> None:
        self.time_base: Fraction = stream.time_base or Fraction(1, 90_000)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        self._step = max(1, rescale_pts(1, 1 / Fraction(rate), self.time_base))
        self.end: int | None = None  # where the frame after the last one belongs

    def fill(self, frame: VideoFrame) -> int:
        """The frame's pts in ticks of `time_base`."""
        pts = frame.pts
        if pts is None:
            pts = self.end or 0
        self.end = pts + (frame.duration or self._step)
        return pts


def audio_caps(stream: AudioStream) -> Caps:
    """The caps of a stream's undecoded packets."""
    codec = stream.codec_context
    return Caps(
        media="packet",
        dtype="uint8",
        device="cpu",
        codec=codec.codec.canonical_name,
        extradata=codec.extradata,
        rate=codec.sample_rate,
        layout=codec.layout.name,
    )


def packet_bytes(packet: Packet[Any]) -> npt.NDArray[np.uint8]:
    """A copy of an undecoded packet, [N] uint8."""
    return np.frombuffer(bytes(packet), np.uint8)
