"""The sheet of captures that the README shows."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from operators.nn.capture.scene import SUBKINDS
from operators.recipes import capture_sheet
from operators.recipes.capture_sheet import LABEL_PX, SIZE_PX, main, sheet


def test_every_sub_kind_has_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(capture_sheet, "COLUMNS", 1)
    main(tmp_path / "captures.jpg")
    made = cv2.imread(str(tmp_path / "captures.jpg"))
    rows = sum(map(len, SUBKINDS.values()))
    assert made is not None
    assert made.shape == (rows * (SIZE_PX + LABEL_PX), SIZE_PX, 3)
    pictures = made.reshape(rows, SIZE_PX + LABEL_PX, SIZE_PX, 3)[:, LABEL_PX:]
    spread = np.abs(pictures[1:].astype(int) - pictures[0]).mean(axis=(1, 2, 3))
    assert spread.min() > 2, "each attack looks other than the face itself"


def test_a_picture_without_a_face_is_told() -> None:
    with pytest.raises(ValueError, match="no face"):
        sheet(np.zeros((200, 200, 3), np.uint8))
