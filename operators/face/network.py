"""The face networks that come along, as what is compiled: `engines build`, `on_device`."""

from __future__ import annotations

import numpy as np

from engine.device.networks import Network
from operators.face.blazeface import VARIANTS
from operators.face.encode import SHIPPED

BATCH, LARGEST_BATCH = 2, 8  # pictures that a detector is given at once
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


def blazeface_short() -> Network:
    """BlazeFace for faces within 2 m."""
    return _detector(VARIANTS["short"].weights, VARIANTS["short"].size_px, BATCH)


def blazeface_full() -> Network:
    """BlazeFace for faces within 5 m."""
    return _detector(VARIANTS["full"].weights, VARIANTS["full"].size_px, BATCH)


def blazeface_back() -> Network:
    """BlazeFace for small faces."""
    return _detector(VARIANTS["back"].weights, VARIANTS["back"].size_px, BATCH)


def face_mesh() -> Network:
    """The mesh of 468 points."""
    return _detector("face_mesh.tflite", 192, BATCH)


def centerface() -> Network:
    """CenterFace on a picture of 640x480."""
    return _detector("centerface.onnx", 640, 1, height_px=480)


def _detector(weights: str, size_px: int, batch: int, height_px: int | None = None) -> Network:
    """Soft made-up pictures of a network's own range: blobs, for flat ones tell nothing."""
    import torch

    from operators.face.nets import twin_of
    from operators.nn.static_graph import OnPictures

    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 8, 8, generator=rng)
    size = (height_px or size_px, size_px)
    pictures = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
    if weights.startswith("blazeface"):
        pictures = pictures * 2 - 1
    if weights.endswith(".onnx"):
        pictures = pictures * 255
    free = {"pictures": {0: (1, LARGEST_BATCH)}} if batch > 1 else {}
    return Network(OnPictures(twin_of(weights)), (pictures,), ("fp32", "fp16"), None, free)
