"""The face networks that come along, as what is compiled: `engines build`, `on_device`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engine.device.networks import Network, RunsBy, runs
from operators.face.blazeface import VARIANTS
from operators.face.encode import SHIPPED

if TYPE_CHECKING:
    from operators.nn.vlm.interface import ImageTower

LITERT = RunsBy("LiteRT")
BATCH, LARGEST_BATCH = 2, 8  # pictures that a detector is given at once
FACES = 4  # speed and deviation are measured on


def compact_image_tower() -> Network:
    """With the weights that come along."""
    from operators.nn.vlm.compact_file import load_compact

    vlm, _, _ = load_compact(SHIPPED)
    return tower_network(vlm.image)


def tower_network(tower: ImageTower) -> Network:
    """An image tower for one to `LARGEST_BATCH` faces, on made-up pictures: soft spots of
    skin's colours on dark ground, with a camera's noise.
    """
    from operators.nn.vlm.preprocess import preprocess

    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:256j, -1:1:256j]
    crops = []
    for _ in range(FACES):
        at, wide = rng.uniform(-0.3, 0.3, 2), rng.uniform(0.3, 0.8)
        spot = np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / wide)[..., None]
        noise = rng.normal(0, 6, (256, 256, 3))
        picture = spot * rng.uniform((150, 100, 80), (230, 180, 160)) + 30 + noise
        crops.append(picture.clip(0, 255).astype(np.uint8))
    module: Any = tower
    free = {"images": {0: (1, LARGEST_BATCH)}}
    return Network(module, (preprocess(crops, tower),), ("fp32", "fp16", "bf16"), None, free)


@runs(LITERT)
def blazeface_short() -> Network:
    """BlazeFace for faces within 2 m."""
    return _detector("blazeface-short", VARIANTS["short"].weights, VARIANTS["short"].size_px)


@runs(LITERT)
def blazeface_full() -> Network:
    """BlazeFace for faces within 5 m."""
    return _detector("blazeface-full", VARIANTS["full"].weights, VARIANTS["full"].size_px)


@runs(LITERT)
def blazeface_back() -> Network:
    """BlazeFace for small faces."""
    return _detector("blazeface-back", VARIANTS["back"].weights, VARIANTS["back"].size_px)


@runs(RunsBy("LiteRT", on_gpu=False))
def face_mesh() -> Network:
    """The mesh of 468 points."""
    return _detector("face-mesh", "face_mesh.tflite", 192)


@runs(RunsBy("onnxruntime", on_gpu=False))
def centerface() -> Network:
    """CenterFace on a picture of 640x480."""
    return _detector("centerface", "centerface.onnx", 640, height_px=480)


def _detector(label: str, weights: str, size_px: int, height_px: int | None = None) -> Network:
    """Soft made-up pictures of a network's own range: blobs, for flat ones tell nothing."""
    import torch

    from operators.face.nets import twin_of
    from operators.nn.static_graph import OnPictures

    batch = 1 if height_px else BATCH
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 8, 8, generator=rng)
    size = (height_px or size_px, size_px)
    pictures = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
    if weights.startswith("blazeface"):
        pictures = pictures * 2 - 1
    if weights.endswith(".onnx"):
        pictures = pictures * 255
    free = {"pictures": {0: (1, LARGEST_BATCH)}} if batch > 1 else {}
    return Network(OnPictures(twin_of(weights), label), (pictures,), ("fp32", "fp16"), None, free)
