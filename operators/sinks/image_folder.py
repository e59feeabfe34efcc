"""Writes every frame as a picture file."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

import cv2
from msgspec import Meta

from engine import Config, Frame, OpContext, Operator
from operators.ports import Video
from operators.sinks._files import disk_errors, fill_in
from operators.sinks._pixels import to_bgr


class ImageFolderSinkConfig(Config, frozen=True):
    """Where to and how."""

    path: Annotated[
        str, Meta(min_length=1, description="folder; {stream} becomes the stream id")
    ] = "{stream}"
    kind: Annotated[Literal["jpg", "png"], Meta(description="png loses nothing")] = "jpg"
    quality: Annotated[int, Meta(ge=1, le=100, description="jpg only; 100 best")] = 90
    every: Annotated[int, Meta(ge=1, description="frames: 1 writes all, 25 every 25th")] = 1


class ImageFolderSink(Operator[ImageFolderSinkConfig]):
    """Files are named by seq, and further ones of the same seq (frames made between captured ones)
    by a number behind it, so they sort; one is whole or absent.
    """

    def open(self, ctx: OpContext) -> None:
        self._ctx = ctx
        self._names = ctx.per_stream(lambda _: Counter[int]())

    def process(self, frames: Video) -> None:
        if frames.stamp.seq % self.config.every == 0:
            self._write(frames)

    def _write(self, frame: Frame) -> None:
        stamp, config = frame.stamp, self.config
        folder = fill_in(config.path, stamp.stream_id)
        names = self._names[stamp.stream_id]
        again = names[stamp.seq]
        names.clear()  # they come in order: only the last one can come again
        names[stamp.seq] = again + 1
        name = f"{stamp.seq:08d}_{again}" if again else f"{stamp.seq:08d}"
        path = self._ctx.output_path(f"{folder}/{name}.{config.kind}")
        options = [cv2.IMWRITE_JPEG_QUALITY, config.quality] if config.kind == "jpg" else []
        _, encoded = cv2.imencode(f".{config.kind}", to_bgr(frame), options)
        draft = path.with_suffix(".part")
        with disk_errors(self._ctx.node, path):
            try:
                draft.write_bytes(encoded.tobytes())
                draft.replace(path)
            except OSError:
                draft.unlink(missing_ok=True)
                raise
