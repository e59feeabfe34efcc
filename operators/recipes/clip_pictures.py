"""Clips as pictures for people: sheets with time from left to right, and a video of many at once.

What was made and what was rendered is written into every picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]

LABEL_PX = 18
GAP_PX = 2
WHITE = 255


def sheet(rows: Sequence[tuple[str, U8]], columns: int, zoom: int = 2) -> U8:
    """[H, W, 3]: each clip [T, S, S, 3] a row of `columns` frames, evenly over its length.

    A row with a name gets a line of text above it. ValueError without rows.
    """
    if not rows:
        raise ValueError("a sheet needs clips")
    parts: list[U8] = []
    for name, clip in rows:
        chosen = np.linspace(0, len(clip) - 1, columns).round().astype(int)
        frames = [_larger(clip[t], zoom) for t in chosen]
        row = np.concatenate(_spaced(frames, axis=1), axis=1)
        if name:
            parts.append(_label(name, row.shape[1]))
        parts += [row, np.full((GAP_PX, row.shape[1], 3), WHITE, np.uint8)]
    return np.concatenate(parts)


def write_picture(path: Path, picture: U8) -> None:
    """PNG of [H, W, 3] RGB. OSError if it cannot be written."""
    if not cv2.imwrite(str(path), picture[..., ::-1]):
        raise OSError(f"{path}: cannot be written")


def write_video(path: Path, clips: Sequence[U8], fps: float, text: str, zoom: int = 2) -> None:
    """MP4 (H.264) of clips [T, S, S, 3] of one length side by side, `text` above them."""
    import av

    frames = list(_walls(clips, text, zoom))
    height, width = frames[0].shape[:2]
    rate = Fraction(fps).limit_denominator(1001)
    draft = path.with_suffix(".part.mp4")
    with av.open(str(draft), "w", format="mp4", container_options={"movflags": "faststart"}) as out:
        container: Any = out
        container.flags |= av.container.Flags.bitexact.value
        video = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.thread_count = 1  # part of what decides the bytes
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    draft.replace(path)


def _walls(clips: Sequence[U8], text: str, zoom: int) -> Iterator[U8]:
    """Every frame: all clips as a wall with about as many rows as columns, sides even."""
    columns = int(np.ceil(np.sqrt(len(clips))))
    for t in range(len(clips[0])):
        frames = [_larger(clip[t], zoom) for clip in clips]
        frames += [np.full_like(frames[0], WHITE)] * (-len(frames) % columns)
        rows = [
            np.concatenate(_spaced(frames[n : n + columns], axis=1), axis=1)
            for n in range(0, len(frames), columns)
        ]
        wall = np.concatenate([_label(text, rows[0].shape[1]), *_spaced(rows, axis=0)])
        height, width = wall.shape[:2]
        more = ((0, height % 2), (0, width % 2), (0, 0))  # 4:2:0 needs even sides
        yield np.pad(wall, more, constant_values=WHITE)


def _spaced(parts: Sequence[U8], axis: int) -> list[U8]:
    """With a white line between neighbours."""
    shape = list(parts[0].shape)
    shape[axis] = GAP_PX
    line = np.full(shape, WHITE, np.uint8)
    found = [parts[0]]
    for part in parts[1:]:
        found += [line, part]
    return found


def _larger(frame: U8, zoom: int) -> U8:
    height, width = frame.shape[:2]
    size = (width * zoom, height * zoom)
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _label(text: str, width: int) -> U8:
    strip = np.full((LABEL_PX, width, 3), WHITE, np.uint8)
    cv2.putText(strip, text, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return strip
