"""Files of a data folder: which are pictures, which are videos, and their frames one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from engine import EndOfStream, Frame, OperatorError
from engine.recipe import RecipeError
from engine.testing import HarnessContext, make_frame
from operators.sources.file import FileSource, FileSourceConfig

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
VIDEOS = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm", ".gif"})


def each_frame(path: Path) -> Iterator[Frame]:
    """Every frame of a picture or video, as it is decoded. RecipeError if it cannot be read."""
    if path.suffix.lower() in PICTURES:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise RecipeError(f"{path}: is no picture that can be read; remove it")
        yield make_frame(image)
        return
    try:
        yield from decoded(path)
    except OperatorError as error:
        raise RecipeError(f"{path}: {error}; remove or replace it") from error


def decoded(path: Path) -> Iterator[Frame]:
    """Every frame of a video. OperatorError where it breaks off."""
    source = FileSource(FileSourceConfig(uri=str(path), audio=False))
    context = HarnessContext()
    with context.exits:
        source.open(context)
        try:
            while True:
                media = source.process()
                if media is not None and media.frames is not None:
                    yield media.frames
        except EndOfStream:
            return
        finally:
            source.close()
