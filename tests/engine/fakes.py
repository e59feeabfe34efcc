"""Small operators that the tests wire into graphs as `tests.engine.fakes:Name`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from msgspec import Meta

from engine import TUNABLE, Batch, Caps, Config, EndOfStream, Frame, Latest, OpContext, Operator
from engine.testing import make_frame

Video = Annotated[Frame, Caps(media="video")]
Yuv = Annotated[Frame, Caps(media="video", pix_fmt="yuv420p", dtype="uint8")]
Rgb = Annotated[Frame, Caps(media="video", pix_fmt="rgb24|bgr24")]
Sound = Annotated[Frame, Caps(media="packet")]
Same = Annotated[Frame, Caps(like="frames")]


class CameraConfig(Config, frozen=True):
    """A camera that may be told its size."""

    uri: str
    frames: Annotated[int, Meta(ge=0)] = 3
    width: Annotated[int, Meta(ge=0)] = 0  # 0: not known before it is opened
    height: Annotated[int, Meta(ge=0)] = 0
    fps: Annotated[float, Meta(gt=0)] | None = None
    pix_fmt: Literal["yuv420p", "rgb24"] = "yuv420p"


class Camera(Operator[CameraConfig]):
    """Numbered frames until there were enough."""

    def open(self, ctx: OpContext) -> None:
        self._next = 0

    @classmethod
    def output_caps(cls, config: CameraConfig, port: str) -> Caps:
        return Caps(media="video", pix_fmt=config.pix_fmt, dtype="uint8", device="cpu")

    def process(self) -> Video:
        if self._next == self.config.frames:
            raise EndOfStream
        self._next += 1
        return make_frame(np.full((4, 4, 3), self._next, np.uint8), seq=self._next - 1)


class PixelCamera(Operator):
    """Pictures that show faces."""

    def process(self) -> Annotated[Frame, Caps(media="video", pix_fmt="yuv420p", label="raw-face")]:
        raise EndOfStream


class Dream(Operator):
    """Pictures that no camera took."""

    synthesizes = True

    def process(self) -> Yuv:
        raise EndOfStream


class Repaint(Operator):
    """Pictures made of others."""

    synthesizes = True

    def process(self, frames: Video) -> Same:
        return frames


class Badge(Operator):
    """Says on pictures what they are."""

    def process(self, frames: Video) -> Annotated[Frame, Caps(like="frames", cleans="unmarked")]:
        return frames


class Carry(Operator):
    """Every pixel of a picture is in what it gives."""

    pixels = "kept"

    def process(self, frames: Video) -> Same:
        return frames


class Relay(Operator):
    """Shows frames to others and gives them on."""

    network_sink = True

    def process(self, frames: Video) -> Same:
        return frames


class Peek(Operator):
    """Takes frames from anywhere, and does not say that it looks at none."""

    def process(self, frames: Annotated[Frame, Caps(media="video", device="any")]) -> None:
        pass


class Painter(Operator):
    """Draws on fewer layouts on a GPU."""

    devices = ("cpu", "cuda")
    gpu_caps: ClassVar = {"frames": Caps(pix_fmt="yuv420p")}

    def process(
        self, frames: Annotated[Frame, Caps(pix_fmt="yuv420p|rgb24", device="node")]
    ) -> Same:
        return frames


class Tally(Operator):
    """Counts frames, looks at none."""

    pixels = "ignored"

    def process(self, frames: Annotated[Frame, Caps(media="video", device="any")]) -> None:
        pass


class Streams(NamedTuple):
    video: Yuv
    audio: Sound | None


class Clip(Operator):
    """Two outputs."""

    def process(self) -> Streams | None:
        raise EndOfStream


class BlurConfig(Config, frozen=True):
    """How much to blur."""

    radius: Annotated[int, Meta(ge=0, le=50, description="px; 0 keeps the frame"), TUNABLE] = 2
    kind: Literal["box", "gauss"] = "gauss"
    corner: tuple[int, int] = (0, 0)


class Blur(Operator[BlurConfig]):
    """One input, the same out."""

    def process(self, frames: Video) -> Same:
        return frames.with_data(frames.data + self.config.radius)


class ToRgb(Operator):
    """Changes the format."""

    def process(self, frames: Yuv) -> Annotated[Frame, Caps(pix_fmt="rgb24", like="frames")]:
        return frames


class RgbBlur(Operator):
    """Takes RGB in either order and keeps it."""

    def process(self, frames: Rgb) -> Same:
        return frames


class EitherCamera(Operator):
    """Leaves it to its consumer which of two formats it gives."""

    def process(self) -> Annotated[Frame, Caps(media="video", pix_fmt="yuv420p|rgb24")]:
        raise EndOfStream


class ToFloat(Operator):
    """Gray pictures of numbers that are four bytes wide."""

    def process(
        self, frames: Video
    ) -> Annotated[Frame, Caps(pix_fmt="gray", dtype="float32", like="frames")]:
        return frames


class LatestJournal(Operator):
    """An event sink that says it wants the latest only."""

    event_sink = True

    def process(self, frames: Latest[Video]) -> None:
        return None


class Redact(Operator):
    """Takes the label away."""

    def process(self, frames: Video) -> Annotated[Frame, Caps(like="frames", cleans="raw-face")]:
        return frames


class Detect(Operator):
    """Batches, and a threshold that may change."""

    def process(self, frames: Batch[Yuv], threshold: Latest[Video] | None) -> Batch[Same]:
        return frames


class Steer(Operator):
    """Needs the latest of something."""

    def process(self, frames: Video, previous: Latest[Video]) -> Same:
        return frames


class Join(Operator):
    """Two inputs."""

    def process(self, left: Video, right: Video) -> Annotated[Frame, Caps(like="left")]:
        return left


class OnGpu(Operator):
    """Works on a GPU only."""

    devices = ("cuda",)

    def process(self, frames: Annotated[Frame, Caps(device="cuda")]) -> Same:
        return frames


class Upload(Operator):
    """From the host to the node's device."""

    devices = ("cuda",)

    def process(self, frames: Video) -> Annotated[Frame, Caps(device="cuda", like="frames")]:
        return frames


class Count(Operator):
    """Reads records, never pixels."""

    pixels = "ignored"

    def process(
        self, frames: Annotated[Frame, Caps(media="video", device="any")]
    ) -> Annotated[Frame, Caps(like="frames")]:
        return frames


class Screen(Operator):
    """A sink that takes anything."""

    def process(self, frames: Frame) -> None:
        return None


class RgbScreen(Operator):
    """A sink that takes RGB."""

    def process(self, frames: Rgb) -> None:
        return None


class PublishConfig(Config, frozen=True):
    """Where to listen."""

    host: str = "0.0.0.0"


class Publish(Operator[PublishConfig]):
    """A sink that others can see."""

    network_sink = True

    @classmethod
    def reaches_beyond_host(cls, config: PublishConfig) -> bool:
        return config.host != "127.0.0.1"

    def process(self, frames: Frame) -> None:
        return None


class Journal(Operator):
    """A sink that must not lose anything."""

    event_sink = True

    def process(self, frames: Frame) -> None:
        return None


class Broken(Operator):
    """Cannot describe its output, and is like an input it does not have."""

    @classmethod
    def output_caps(cls, config: Any, port: str) -> Caps:
        message = "no idea"
        raise RuntimeError(message)

    def process(self, frames: Frame) -> Frame:
        return frames


class Unlike(Operator):
    """Its output is like an input it does not have."""

    def process(self, frames: Frame) -> Annotated[Frame, Caps(like="frame")]:
        return frames


class NotAnOperator:
    """Something else."""


class Lonely(Operator):
    """Can do without its only input."""

    def process(self, maybe: Video | None) -> Frame | None:
        return maybe


class Notify(Operator):
    """Says what it saw, without pixels."""

    def process(self, frames: Video) -> Annotated[Frame, Caps(media="event")]:
        return frames


class WeightsConfig(Config, frozen=True):
    """A model from a file."""

    weights: str


class WithWeights(Operator[WeightsConfig]):
    """Reads a checkpoint when it is opened."""

    @classmethod
    def checkpoints(cls, config: WeightsConfig) -> dict[str, Path]:
        return {"weights": Path(config.weights)}

    def process(self, frames: Video) -> Same:
        return frames
