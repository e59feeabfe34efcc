"""Pictures of rooms: what may stand behind the faces that training renders.

Layout: `DOMAIN/rooms/*`, pictures and videos of anything but people who are to be told apart.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from operators.recipes.faces import U8
from operators.recipes.media import PICTURES, VIDEOS, each_frame
from operators.video.convert import to_rgb

SHORTER_PX = 360  # side of a kept picture, at most


def read_rooms(folder: Path, per_file: int) -> dict[str, list[U8]]:
    """By file name: at most so many pictures [H, W, 3] RGB, spread evenly over a video.

    None where there is no such folder. RecipeError for a file that cannot be read.
    """
    found = {}
    for path in sorted(folder.glob("*/rooms/*")):
        if path.suffix.lower() not in PICTURES | VIDEOS:
            continue
        frames = list(each_frame(path))
        step = max(1, len(frames) // per_file)
        found[path.name] = [_small(to_rgb(frame)) for frame in frames[::step][:per_file]]
    return found


def _small(picture: U8) -> U8:
    height, width = picture.shape[:2]
    scale = min(1.0, SHORTER_PX / min(height, width))
    size = (round(width * scale), round(height * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
