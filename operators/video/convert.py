"""Another pixel format, with the colour matrix and the range that the frame's caps name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from engine import Caps, CapsError, Config, Frame, OpContext, Operator
from engine.pool import BufferPool
from operators.ports import Video
from operators.video.layers import shape_of
from operators.video.yuv import frame_size, merged_to_rgb, planes_of, yuv_matrix

POOL_FRAMES = 16
U8 = npt.NDArray[np.uint8]
PixFmt = Literal["yuv420p", "rgb24", "bgr24", "gray"]


class ConvertConfig(Config, frozen=True):
    """The wanted format."""

    pix_fmt: Annotated[PixFmt, Meta(description="gray is full range luma")]
    colorspace: Annotated[
        Literal["bt601", "bt709"] | None,
        Meta(description="of yuv420p made here; unset: the frame's own, bt709 if it names none"),
    ] = None
    color_range: Annotated[
        Literal["limited", "full"], Meta(description="of yuv420p made here; the rest is full")
    ] = "limited"


class Convert(Operator[ConvertConfig]):
    """Frames in the wanted format; one that has it already passes as it is."""

    pixels = "kept"

    @classmethod
    def output_caps(cls, config: Any, port: str) -> Caps:
        return Caps(media="video", pix_fmt=config.pix_fmt, like="frames")

    def open(self, ctx: OpContext) -> None:
        self._pool = BufferPool(POOL_FRAMES)

    def process(self, frames: Video) -> Annotated[Frame, Caps(media="video", like="frames")]:
        """The same moment in another format, records kept."""
        caps = self._wanted(frames.caps)
        if _layout(caps) == _layout(frames.caps):
            return frames.with_data(frames.data, caps)
        width, height = frame_size(frames)
        if caps.pix_fmt == "yuv420p" and (width % 2 or height % 2):
            raise CapsError(f"yuv420p needs even sides, not {width}x{height}; put Resize before")
        array = self._pool.take(shape_of(self.config.pix_fmt, width, height), np.uint8)
        if caps.pix_fmt == "gray":
            array[:] = to_gray(frames)
        elif caps.pix_fmt == "yuv420p":
            write_yuv(to_rgb(frames), caps, array)
        else:
            rgb = to_rgb(frames)
            array[:] = rgb if caps.pix_fmt == "rgb24" else rgb[..., ::-1]
        return frames.with_data(array, caps)

    def _wanted(self, given: Caps) -> Caps:
        config = self.config
        changes: dict[str, Any] = {"pix_fmt": config.pix_fmt}
        if config.pix_fmt != given.pix_fmt or config.pix_fmt == "yuv420p":
            made = config.pix_fmt == "yuv420p"
            changes["color_range"] = config.color_range if made else "full"
            changes["colorspace"] = (made and config.colorspace) or given.colorspace or "bt709"
        return msgspec.structs.replace(given, **changes)


def _layout(caps: Caps) -> tuple[str | None, ...]:
    """All that decides what the bytes mean; the colours only where there are planes."""
    colours = (caps.colorspace or "bt709", caps.color_range or "limited")
    return (caps.pix_fmt, *(colours if caps.pix_fmt == "yuv420p" else ()))


def to_rgb(frame: Frame) -> U8:
    """[H, W, 3] RGB 0 to 255 of a frame in any format."""
    if frame.caps.pix_fmt != "yuv420p":
        return merged_to_rgb(frame.data, frame.caps)
    size = frame_size(frame)
    luma, *chroma = planes_of(frame.data, *size)
    full = [cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in chroma]
    return merged_to_rgb(_u8(cv2.merge([luma, *full])), frame.caps)


def to_gray(frame: Frame) -> U8:
    """[H, W] luma, 0 black to 255 white: the Y plane as it is, but for its range."""
    if frame.caps.pix_fmt == "yuv420p":
        luma = planes_of(frame.data, *frame_size(frame)).y
        if frame.caps.color_range == "full":
            return luma
        levels = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255)
        return _u8(cv2.LUT(luma, levels.astype(np.uint8)))
    if frame.caps.pix_fmt == "gray":
        return _u8(frame.data)
    weights = np.linalg.inv(yuv_matrix(frame.caps.colorspace, "full")[0])[:1]
    return _u8(cv2.transform(to_rgb(frame), weights))


def write_yuv(rgb: U8, caps: Caps, array: U8) -> None:
    """RGB [H, W, 3] into the I420 array of `caps`. Chroma is the mean of its four pixels."""
    matrix, offset = yuv_matrix(caps.colorspace, caps.color_range)
    inverse = np.linalg.inv(matrix)
    rows = np.column_stack([inverse, -inverse @ offset])
    height, width = rgb.shape[:2]
    planes = planes_of(array, width, height)
    rgb = np.ascontiguousarray(rgb)
    planes.y[:] = cv2.transform(rgb, rows[:1])
    small = cv2.resize(rgb, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    chroma = cv2.transform(small, rows[1:])
    planes.u[:], planes.v[:] = chroma[..., 0], chroma[..., 1]


def _u8(array: object) -> U8:
    return np.asarray(array, np.uint8)
