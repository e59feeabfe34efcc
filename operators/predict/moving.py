"""YUV 4:2:0 pictures moved by fields, mixed and compared: [H*3/2, W] uint8, as on frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2

from operators.predict.flow import F32, U8, enlarged, fitted, looked_up
from operators.video.yuv import planes_of

Size = tuple[int, int]  # width, height


class Picture(NamedTuple):
    """One I420 picture and its size."""

    data: U8
    width: int
    height: int

    @property
    def size(self) -> Size:
        """(width, height)"""
        return self.width, self.height

    @property
    def luma(self) -> U8:
        """[H, W], a view."""
        return self.planes()[0]

    def planes(self) -> tuple[U8, U8, U8]:
        """Views: luma [H, W], both chroma planes [H/2, W/2]."""
        return planes_of(self.data, self.width, self.height)

    def with_data(self, data: U8) -> Picture:
        """Another one of the same size."""
        return Picture(data, self.width, self.height)


def move(picture: Picture, field: F32, out: U8) -> Picture:
    """Moved by a field of any size, into `out`. Luma bicubic, chroma bilinear."""
    moved = picture.with_data(out)
    half = (picture.width // 2, picture.height // 2)
    fields = (enlarged(field, picture.size), *[enlarged(field, half)] * 2)
    planes = zip(picture.planes(), moved.planes(), fields, (True, False, False), strict=True)
    for source, target, own, fine in planes:
        target[:] = looked_up(source, own, fine=fine)
    return moved


def mix(first: Picture, second: Picture, share: float, out: U8) -> Picture:
    """`share` (0 to 1) of the second, the rest of the first."""
    for one, other, target in _threefold(first, second, first.with_data(out)):
        cv2.addWeighted(one, 1 - share, other, share, 0, dst=target)
    return first.with_data(out)


def apart(first: Picture, second: Picture) -> float:
    """Mean absolute difference of the lumas, in levels of 255."""
    return float(cv2.norm(first.luma, second.luma, cv2.NORM_L1)) / first.luma.size


def small_luma(picture: Picture, size: Size) -> U8:
    """[h, w] of (width, height), a copy of its own."""
    small = fitted(picture.luma, size)
    return small.copy() if small is picture.luma or small.base is not None else small


def _threefold(*pictures: Picture) -> Iterator[tuple[U8, ...]]:
    return zip(*(picture.planes() for picture in pictures), strict=True)
