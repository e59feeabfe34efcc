"""Find faces, in any pixel format: BlazeFace where they are few and near, CenterFace in crowds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from msgspec import Meta

from engine import TUNABLE, Batch, Caps, Config, DeviceError, Frame, OpContext, Operator
from engine.contract import OnDevice
from operators.face.blazeface import BlazeFinder
from operators.face.candidates import Candidates
from operators.face.centerface import CenterFace
from operators.face.nets import RUNTIME, Placement, Runtime, placed
from operators.face.records import Face, Unsearched
from operators.kernels.launching import KERNELS
from operators.ports import NodeVideo
from operators.video.yuv import frame_size

if TYPE_CHECKING:
    from operators.engines import Engine
    from operators.face.on_device import DeviceBlaze


class FaceDetectConfig(Config, frozen=True):
    """Which network, and what counts as a face."""

    model: Annotated[
        Literal["short", "full", "back", "crowd"],
        Meta(
            description="short: within 2 m, fastest; full: within 5 m; back: small faces; "
            "crowd: many and tiny faces, six times the work"
        ),
    ] = "full"
    crowd_width_px: Annotated[
        int,
        Meta(
            ge=160,
            le=3840,
            multiple_of=32,
            description="crowd looks at the frame scaled to this width: faces below 16 of these "
            "pixels are missed, the work grows with the square",
        ),
    ] = 640
    min_score: Annotated[
        float, Meta(ge=0.05, le=1, description="0.05 takes nearly anything, 1 nothing"), TUNABLE
    ] = 0.5
    blend_iou: Annotated[
        float, Meta(gt=0, le=1, description="candidates overlapping more become one face")
    ] = 0.3
    min_face_px: Annotated[
        float, Meta(ge=0, description="narrower faces are left out; 0 keeps all"), TUNABLE
    ] = 16
    max_faces: Annotated[int, Meta(ge=1, le=256, description="best scores first")] = 32
    every_n: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="search one frame in so many of each stream; 1 searches all. A tracker "
            "carries faces across the others; redaction needs 1",
        ),
        TUNABLE,
    ] = 1
    runtime: Annotated[Runtime, Meta(description=RUNTIME)] = "auto"


Finder = Callable[[Frame, float, float], Candidates]  # frame, least score, largest overlap
FINDERS: dict[str, Callable[[FaceDetectConfig, Placement], Finder]] = {
    "short": lambda config, place: BlazeFinder("short", place),
    "full": lambda config, place: BlazeFinder("full", place),
    "back": lambda config, place: BlazeFinder("back", place),
    "crowd": lambda config, place: CenterFace(config.crowd_width_px, place),
}


class FaceDetect(Operator[FaceDetectConfig]):
    """Adds one `Face` record per face, best score first. Pixels and stamps pass unchanged.

    A frame that was passed over (`every_n`) gets an `Unsearched` record instead.
    """

    preload = ("ai_edge_litert.interpreter",)
    devices = ("cpu", "cuda")
    gpu_needs: ClassVar = KERNELS
    stream_priority = -1

    def open(self, ctx: OpContext) -> None:
        self._counts = ctx.per_stream(lambda _: count())
        self._on_device: DeviceBlaze | None = None
        if ctx.gpu is not None:
            self._on_device = self._open_on(ctx.gpu, ctx)
            return
        self._find = FINDERS[self.config.model](self.config, placed(self.config.runtime, ctx))

    def process(
        self, frames: Batch[NodeVideo]
    ) -> Batch[Annotated[Frame, Caps(media="video", like="frames", label="raw-face")]]:
        """The same frames with `Face` records; the first of a stream is always searched."""
        due = [self._is_due(frame) for frame in frames.frames]
        searched = [frame for frame, is_due in zip(frames.frames, due, strict=True) if is_due]
        found = iter(self._search(searched))
        return frames.of(
            [
                frame.with_records(*self._records(next(found), *frame_size(frame)))
                if is_due
                else frame.with_records(Unsearched())
                for frame, is_due in zip(frames.frames, due, strict=True)
            ]
        )

    def _open_on(self, gpu: OnDevice, ctx: OpContext) -> DeviceBlaze:
        """DeviceError for what knows the CPU only."""
        from operators.engines import open_engine
        from operators.face.on_device import NETWORKS, DeviceBlaze

        config = self.config
        if config.model == "crowd" or config.runtime == "native":
            what = "model crowd" if config.model == "crowd" else "runtime native"
            raise DeviceError(f"{what} runs on the CPU only; {gpu.device.name} was asked for")
        engine: Engine = "eager" if config.runtime == "torch" else "ready"
        build = f"`frameloom engines build blazeface-{config.model} --device cuda` makes one"
        net = open_engine(NETWORKS[config.model](), "face detector", engine, ctx, build)
        return DeviceBlaze(config.model, gpu, net)

    def _is_due(self, frame: Frame) -> bool:
        return next(self._counts[frame.stamp.stream_id]) % self.config.every_n == 0

    def _search(self, frames: list[Frame]) -> list[Candidates]:
        limits = self.config.min_score, self.config.blend_iou
        if self._on_device is not None:
            return self._on_device(frames, *limits)
        return [self._find(frame, *limits) for frame in frames]

    def _records(self, found: Candidates, width: int, height: int) -> list[Face]:
        limits = np.array([width, height, width, height], np.float32)
        records = []
        for box, score, marks in zip(
            np.clip(found.boxes, 0, limits), found.scores, found.points, strict=True
        ):
            left, top, right, bottom = (float(round(value, 2)) for value in box.tolist())
            if right - left < max(self.config.min_face_px, 1) or bottom - top < 1:
                continue
            marked = tuple((round(x, 2), round(y, 2)) for x, y in marks.tolist())
            records.append(Face((left, top, right, bottom), round(float(score), 4), marked))
        return records[: self.config.max_faces]
