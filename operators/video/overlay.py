"""Draw boxes, labels and trails, straight on the planes of YUV frames or on RGB/BGR pictures.

On a GPU the host draws small masks, and one kernel lays them all on the frame, which stays there.
"""

from __future__ import annotations

import colorsys
import math
from collections import deque
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from engine import TUNABLE, Caps, Config, Frame, OpContext, Operator
from engine.pool import BufferPool
from operators.face.records import Box, Face, Track
from operators.face.verdicts import Verdict
from operators.kernels.launching import KERNELS
from operators.video.canvas import ON_GPU, RGB, Canvas, Drawable, make_canvas
from operators.video.kernel_canvas import KernelCanvas
from operators.video.yuv import frame_size

GOLDEN_ANGLE = 0.38196601  # of the colour circle: neighbours in number are far apart in hue
WHITE: RGB = (255, 255, 255)
OUTCOMES: dict[str, RGB] = {"live": (70, 205, 95), "spoof": (255, 80, 70), "unsure": (255, 190, 0)}
POOL_FRAMES = 16
SMOOTHING_NS = 80_000_000  # how far a trail lags behind
TRAIL_POINTS = 256  # per track, whatever the frame rate


class OverlayConfig(Config, frozen=True):
    """What to draw."""

    boxes: Annotated[bool, TUNABLE] = True
    labels: Annotated[bool, TUNABLE] = True
    points: Annotated[bool, Meta(description="the detector's face points"), TUNABLE] = False
    trail_ms: Annotated[
        int, Meta(ge=0, le=10_000, description="length of trails in pts; 0 draws none"), TUNABLE
    ] = 1500
    caption: Annotated[bool, Meta(description="stream and time in the corner"), TUNABLE] = True
    thickness_px: Annotated[int, Meta(ge=1, le=20, description="at 720 lines")] = 3


class Trail:
    """Where a track has been: (pts in ns, x, y), without the trembling of single detections."""

    def __init__(self) -> None:
        self.points: deque[tuple[int, float, float]] = deque(maxlen=TRAIL_POINTS)

    def add(self, now_ns: int, x: float, y: float) -> None:
        if self.points:
            before_ns, last_x, last_y = self.points[-1]
            share = 1 - math.exp((before_ns - now_ns) / SMOOTHING_NS) if now_ns > before_ns else 0.0
            x, y = last_x + share * (x - last_x), last_y + share * (y - last_y)
        self.points.append((now_ns, x, y))


class Overlay(Operator[OverlayConfig]):
    """Gives a new frame with the drawing; records are kept. Tracks are drawn, else bare faces.

    A track with a `Verdict` is green (live), red (spoof) or amber (unsure), and its label says so.
    On a GPU it takes yuv420p and nv12.
    """

    devices = ("cpu", "cuda")
    gpu_caps: ClassVar = {"frames": ON_GPU}
    gpu_needs: ClassVar = KERNELS

    def open(self, ctx: OpContext) -> None:
        self._gpu = ctx.gpu
        self._trails = ctx.per_stream(lambda _: dict[int, Trail]())
        self._pool = BufferPool(POOL_FRAMES)

    def process(self, frames: Drawable) -> Annotated[Frame, Caps(media="video", like="frames")]:
        """Same size and format; drawn on a copy."""
        if self._gpu is not None:
            sheet = KernelCanvas(frames)
            self._draw(frames, sheet)
            return frames.with_data(sheet.drawn(self._gpu))
        array = self._pool.take(frames.data.shape, frames.data.dtype)
        np.copyto(array, frames.data)
        self._draw(frames, make_canvas(frames, array))
        return frames.with_data(array)

    def _draw(self, frames: Frame, canvas: Canvas) -> None:
        _, height = frame_size(frames)
        scale = height / 720
        tracks = frames.of(Track)
        self._draw_trails(canvas, frames, tracks, scale)
        verdicts = {verdict.track_id: verdict for verdict in frames.of(Verdict)}
        for track in tracks:
            if not track.lost:  # a box where nothing is would only puzzle the viewer
                label, colour = tag_of(track, verdicts.get(track.track_id))
                self._draw_one(canvas, track.box, label, colour, scale)
        for face in frames.of(Face) if not tracks else ():
            self._draw_one(canvas, face.box, f"{face.score:.2f}", WHITE, scale)
        if self.config.points:
            for face in frames.of(Face):
                for x, y in face.points:
                    canvas.dot((x, y), max(round(2 * scale), 1), WHITE)
        if self.config.caption:
            stamp = frames.stamp
            text = f"{stamp.stream_id}  {stamp.pts_seconds:8.2f} s"
            canvas.label((8 * scale, height - 8 * scale), text, 0.5 * scale, (20, 20, 20), WHITE)

    def _draw_one(self, canvas: Canvas, box: Box, label: str, colour: RGB, scale: float) -> None:
        thick = max(round(self.config.thickness_px * scale), 1)
        if self.config.boxes:
            canvas.box(box, colour, thick)
        if self.config.labels:
            canvas.label((box[0] - thick / 2, box[1] - thick / 2), label, 0.6 * scale, colour)

    def _draw_trails(self, canvas: Canvas, frame: Frame, tracks: list[Track], scale: float) -> None:
        trails = self._trails[frame.stamp.stream_id]
        now_ns = frame.stamp.pts_ns
        for track in tracks:
            if track.lost:
                continue
            left, _, right, bottom = track.box
            trail = trails.setdefault(track.track_id, Trail())
            trail.add(now_ns, (left + right) / 2, bottom)
        oldest_ns = now_ns - self.config.trail_ms * 1_000_000
        for track_id, trail in list(trails.items()):
            while trail.points and trail.points[0][0] < oldest_ns:
                trail.points.popleft()
            if not trail.points:
                del trails[track_id]
            elif len(trail.points) > 1:
                way = [(x, y) for _, x, y in trail.points]
                canvas.line(way, colour_of(track_id), max(round(2 * scale), 1))


def tag_of(track: Track, verdict: Verdict | None) -> tuple[str, RGB]:
    """What stands beside a track's box, and in which colour."""
    if verdict is None:
        return f"#{track.track_id}  {track.score:.2f}", colour_of(track.track_id)
    return f"#{track.track_id}  {verdict.label}", OUTCOMES[verdict.outcome]


def colour_of(track_id: int) -> RGB:
    """A bright colour that neighbouring ids do not share."""
    red, green, blue = colorsys.hsv_to_rgb(track_id * GOLDEN_ANGLE % 1, 0.75, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)
