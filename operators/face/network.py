"""The compact model's image tower as a network to be compiled: `frameloom engines build`."""

from __future__ import annotations

import numpy as np

from engine.device.networks import Network
from operators.face.encode import SHIPPED

FACES = 4  # that `FaceEncode` encodes in one turn
TOLERANCE = 0.1  # fp32 and fp16 stay far below; bf16 is off by 0.04 on faces, 0.08 on noise


def compact_image_tower() -> Network:
    """With the weights that come along, and four made-up pictures: soft spots of skin's colours on
    dark ground, with a camera's noise.
    """
    from operators.nn.vlm.compact_file import load_compact
    from operators.nn.vlm.preprocess import preprocess

    vlm, _, _ = load_compact(SHIPPED)
    tower = vlm.image
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    crops = []
    for _ in range(FACES):
        at, wide = rng.uniform(-0.3, 0.3, 2), rng.uniform(0.3, 0.8)
        spot = np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / wide)[..., None]
        noise = rng.normal(0, 6, (256, 256, 3))
        picture = spot * rng.uniform((150, 100, 80), (230, 180, 160)) + 30 + noise
        crops.append(picture.clip(0, 255).astype(np.uint8))
    return Network(tower, (preprocess(crops, tower),), ("fp32", "fp16", "bf16"), TOLERANCE)
