"""A folder of people: one portrait, made different enough to be several."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import skimage.data

SUBJECTS = ("anna", "bert", "carl", "dora")


def people(folder: Path, subjects: tuple[str, ...] = SUBJECTS) -> Path:
    """`office/live/SUBJECT/1.png` of each; the picture shows one face of about 200 pixels."""
    portrait = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2BGR)
    for number, subject in enumerate(subjects):
        place = folder / "office" / "live" / subject
        place.mkdir(parents=True)
        shade = np.clip(portrait.astype(float) * (0.7 + 0.1 * number), 0, 255).astype(np.uint8)
        cv2.imwrite(str(place / "1.png"), shade[:, ::-1] if number % 2 else shade)
    return folder
