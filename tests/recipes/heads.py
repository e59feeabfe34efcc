"""A head that any file may stand for, and folders of live and attack media to judge it on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from operators.nn.pad.calibration import Calibration
from operators.nn.pad.listing import MediaItem
from operators.nn.pad.scoring import FrameResult, ScoredItem
from operators.nn.pad.threshold import Threshold
from operators.nn.prompts.head import HeadScores
from tests.operators.media import write_clip
from tests.operators.models import DIM, random_compact
from tests.recipes.people import people

STORED = Threshold(0.5, "bpcer", 0.05, "development", 200, 0)


@dataclass
class PlainHead:
    """The score is the logistic of the first number of the pooled feature."""

    backbone_sha: str = field(
        default_factory=lambda: hashlib.sha256(random_compact().read_bytes()).hexdigest()
    )
    thresholds: Mapping[str, Threshold] = field(default_factory=lambda: {"": STORED})
    calibration: Calibration | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    name: str = "antispoof"
    attack: str = "presentation"
    dim: int = DIM
    sha: str = "5e" * 32
    elements: tuple[str, ...] = ("a printed face",)

    def __call__(self, features: torch.Tensor) -> HeadScores:
        none = torch.zeros(len(features))
        return HeadScores(torch.sigmoid(features[:, 0, 0]), none.long(), none)


def picture(path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[H, W, 3] BGR of a file that is one."""
    return np.asarray(cv2.imread(str(path)), np.uint8)


def judged(folder: Path) -> Path:
    """Four live people and prints of them; a print without a face, one too small, one broken."""
    people(folder)
    for place in sorted(folder.glob("office/live/*/1.png")):
        attack = folder / "office" / "spoof" / "print" / place.parent.name
        attack.mkdir(parents=True)
        cv2.imwrite(str(attack / "1.png"), picture(place).mean(axis=2))
    attack = folder / "office" / "spoof" / "print" / "anna"
    small = cv2.resize(picture(attack / "1.png"), (180, 180))
    page = np.full((300, 300, 3), 127, np.uint8)
    page[60:240, 60:240] = small
    cv2.imwrite(str(attack / "small.png"), page)
    write_clip(attack / "empty.mp4", frames=8, size=(160, 120))
    (attack / "broken.png").write_bytes((attack / "1.png").read_bytes()[:60])
    return folder


def item(identity: str, species: str = "", name: str = "1.png") -> MediaItem:
    """`domain/subject` of a folder that is not there."""
    domain, subject = identity.split("/")
    return MediaItem(
        domain, species, subject, Path("/data", domain, species, subject, name), "image"
    )


def scored(identity: str, species: str = "", *frames: FrameResult) -> ScoredItem:
    """An item with its results; the number of frames makes its name."""
    return ScoredItem(item(identity, species, f"{len(frames)}.mp4"), frames)
