"""A folder of pictures as a video: every file that matches, in the order of the names."""

from __future__ import annotations

import glob
import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from engine import Config, EndOfStream, Frame, OpContext, Operator, OperatorError
from operators.sources._av import FrameCopier
from operators.sources._opening import open_media
from operators.sources._outputs import Pictures
from operators.sources._pacing import Pacer

if TYPE_CHECKING:
    from av import VideoFrame


class ImageFolderConfig(Config, frozen=True):
    """Which pictures, and how fast."""

    path: Annotated[str, Meta(min_length=1, description="folder, or pattern such as shots/*.png")]
    fps: Annotated[float, Meta(gt=0, le=1000, description="Hz; decides the pts")] = 25
    loop: Annotated[bool, Meta(description="begin again after the last picture")] = False
    realtime: Annotated[
        bool, Meta(description="one picture per period; false: as fast as they are taken")
    ] = False


class ImageFolder(Operator[ImageFolderConfig]):
    """Numbers in names count as numbers: shot2 comes before shot10. Sizes may differ."""

    preload = ("av",)

    def open(self, ctx: OpContext) -> None:
        config = self.config
        self._ctx = ctx
        self._files = _matching(config.path)
        self._copier = FrameCopier(config.path)
        self._pacer = Pacer(ctx)
        self._time_base = 1 / Fraction(config.fps).limit_denominator(1001)
        self._count = 0

    def process(self) -> Pictures:
        number = self._count
        last = number >= len(self._files) and not self.config.loop
        if last or self._ctx.stopping():
            raise EndOfStream
        path = self._files[number % len(self._files)]
        data, caps = self._copier.copy(_decoded(path))
        if self.config.realtime:
            self._pacer.wait_until(round(number * self._time_base * 10**9))
        self._count += 1
        return Pictures(Frame(data, caps, self._ctx.stamp(number, self._time_base)))


def _decoded(path: Path) -> VideoFrame:
    from av.error import FFmpegError

    with open_media(str(path)) as container:
        if not container.format.name.endswith("_pipe") and container.format.name != "image2":
            kind = container.format.long_name or container.format.name
            message = f"{path}: is no picture ({kind}); videos are inputs of their own, name them"
            raise OperatorError("NOT_A_PICTURE", message)
        try:
            return next(container.decode(video=0))
        except (FFmpegError, StopIteration) as error:
            message = f"{path}: no picture that FFmpeg can decode; remove or replace it"
            raise OperatorError("NOT_MEDIA", message) from error


def _matching(pattern: str) -> list[Path]:
    folder = Path(pattern)
    names = folder.iterdir() if folder.is_dir() else map(Path, glob.glob(pattern))  # noqa: PTH207
    shown = (path for path in names if path.is_file() and not path.name.startswith("."))
    files = sorted(shown, key=_natural)
    if not files:
        raise OperatorError("NOT_FOUND", f"{pattern}: no picture matches; check folder and pattern")
    return files


def _natural(path: Path) -> list[tuple[bool, int, str]]:
    parts = re.split(r"(\d+)", str(path))
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
