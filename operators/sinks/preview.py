"""Shows the newest frame of every stream on the live page, small and now and then."""

from __future__ import annotations

from typing import Annotated

import cv2
from msgspec import Meta
from msgspec.structs import replace

from engine import Config, Frame, OpContext, Operator
from engine.device.staging import StagingRing
from operators.ports import NodeVideo
from operators.sinks._pixels import to_bgr


class PreviewConfig(Config, frozen=True):
    """How large and how often: both cost time on the machine that runs the graph."""

    max_width: Annotated[int, Meta(ge=16, le=3840, description="px; smaller frames stay")] = 320
    max_fps: Annotated[float, Meta(gt=0, le=60, description="Hz of pts, per stream")] = 5
    quality: Annotated[int, Meta(ge=1, le=100, description="JPEG; 100 best")] = 70


class Preview(Operator[PreviewConfig]):
    """Publishes JPEG under `preview/<stream id>`. Frames in between are skipped, not queued; from
    a GPU only those come down that are shown.
    """

    devices = ("cpu", "cuda")

    def open(self, ctx: OpContext) -> None:
        self._ctx = ctx
        self._ring = StagingRing(ctx.gpu.device) if ctx.gpu is not None else None
        self._period_ns = round(1e9 / self.config.max_fps)
        self._shown_ns: dict[str, int] = {}  # pts of the last one shown, by stream

    def process(self, frames: NodeVideo) -> None:
        stamp = frames.stamp
        shown_ns = self._shown_ns.get(stamp.stream_id)
        if shown_ns is not None and 0 <= stamp.pts_ns - shown_ns < self._period_ns:
            return
        self._shown_ns[stamp.stream_id] = stamp.pts_ns
        image = to_bgr(self._on_host(frames), self.config.max_width)
        options = [cv2.IMWRITE_JPEG_QUALITY, self.config.quality]
        _, jpeg = cv2.imencode(".jpg", image, options)
        self._ctx.publish(f"preview/{stamp.stream_id}", jpeg.tobytes())

    def _on_host(self, frame: Frame) -> Frame:
        if self._ring is None or self._ctx.gpu is None:
            return frame
        data = self._ring.download(frame.data, self._ctx.gpu.stream, frame.data.dtype_name)
        return frame.with_data(data, replace(frame.caps, device="cpu"))

    def reset(self, stream_id: str) -> None:
        if self._shown_ns.pop(stream_id, None) is not None:
            self._ctx.publish(f"preview/{stream_id}", b"")
