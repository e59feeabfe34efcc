"""A sheet of what the capture simulator makes of one face.

`python -m operators.recipes.capture_sheet captures.jpg`. The portrait of scikit-image (NASA, public
domain), a row per sub-kind; the same camera and light in a column, so that what differs down a
column is the attack alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from engine.testing import make_frame
from operators.nn.capture.scene import KINDS, SUBKINDS, render, sample
from operators.recipes.faces import U8, FaceReader, Sampling

SIZE_PX, LABEL_PX, COLUMNS = 128, 16, 7
FIRST_SEED = 7


def sheet(portrait: U8) -> U8:
    """[H, W, 3] RGB: a row per sub-kind, a column per camera."""
    reader = FaceReader(Sampling())
    try:
        found = reader.largest(make_frame(portrait))
    finally:
        reader.close()
    if found is None:
        message = "no face was found in the portrait"
        raise ValueError(message)
    image, points, _ = found
    rows = []
    for kind in KINDS:
        for subkind in SUBKINDS[kind]:
            made = [
                render(image, points, sample(kind, FIRST_SEED + n, "train", subkind), SIZE_PX)
                for n in range(COLUMNS)
            ]
            rows.append(_label(kind, subkind))
            rows.append(np.concatenate([one.image for one in made], axis=1))
    return np.concatenate(rows)


def _label(kind: str, subkind: str) -> U8:
    strip = np.full((LABEL_PX, SIZE_PX * COLUMNS, 3), 255, np.uint8)
    text = kind if kind == "bonafide" else f"{kind}: {subkind}"
    cv2.putText(strip, text, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return strip


def main(path: Path) -> None:
    """Write the sheet."""
    import skimage.data

    made = sheet(np.asarray(skimage.data.astronaut(), np.uint8))  # type: ignore[no-untyped-call]
    if not cv2.imwrite(str(path), made[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82]):
        raise OSError(f"{path}: cannot be written")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "captures.jpg"))
