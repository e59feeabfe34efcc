"""Pictures on their way into a model and out of it: small squares of RGB, frames of YUV 4:2:0."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from engine import Caps, OperatorError
from operators.sources._opening import open_media
from operators.video.yuv import planes_of, yuv_matrix

if TYPE_CHECKING:
    from av import VideoFrame

U8 = npt.NDArray[np.uint8]


def draw(rgb: U8, caps: Caps, planes: U8) -> None:
    """RGB [H, W, 3] 0 to 255, stretched to the size of `caps`, into I420 `planes` [H*3/2, W]."""
    matrix, offset = yuv_matrix(caps.colorspace, caps.color_range)
    inverse = np.linalg.inv(matrix)
    yuv = cv2.transform(rgb, np.column_stack([inverse, -inverse @ offset]))
    layers = planes_of(planes, caps.width or 0, caps.height or 0)
    for channel, layer in enumerate(layers):
        height, width = layer.shape
        filtering = cv2.INTER_AREA if width < rgb.shape[1] else cv2.INTER_CUBIC
        layer[:] = cv2.resize(yuv[..., channel], (width, height), interpolation=filtering)


def last_pictures(uri: str, size_px: int, count: int) -> list[U8]:
    """The last `count` pictures of a picture or clip, oldest first, RGB [size_px, size_px, 3].

    Stretched, as what a camera shows is. OperatorError says what is wrong with the file.
    """
    from av.error import FFmpegError

    kept: deque[VideoFrame] = deque(maxlen=count)
    try:
        with open_media(uri) as container:
            kept.extend(container.decode(video=0))
    except FFmpegError as error:
        message = f"{uri}: cannot be decoded to its end ({error.strerror}); check the file"
        raise OperatorError("NOT_MEDIA", message) from error
    if not kept:
        raise OperatorError("NOT_MEDIA", f"{uri}: holds no picture that FFmpeg can decode")
    return [_square(picture, size_px) for picture in kept]


def _square(picture: VideoFrame, size_px: int) -> U8:
    rgb = picture.to_ndarray(format="rgb24")
    shrunk = cv2.resize(rgb, (size_px, size_px), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.uint8)
