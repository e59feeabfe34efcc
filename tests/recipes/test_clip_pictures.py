"""Sheets and videos of clips."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from operators.recipes.clip_pictures import GAP_PX, LABEL_PX, sheet, write_picture, write_video


def ramp(first: int) -> np.ndarray:
    """[9, 8, 8, 3]: frame t has the value first + 10 t."""
    values = np.uint8(first + 10 * np.arange(9))
    return np.broadcast_to(values[:, None, None, None], (9, 8, 8, 3)).copy()


def test_a_sheet_shows_time_from_left_to_right_and_names_above() -> None:
    made = sheet([("one", ramp(0)), ("", ramp(100))], columns=3, zoom=2)
    assert made.shape == (LABEL_PX + 2 * (16 + GAP_PX), 3 * 16 + 2 * GAP_PX, 3)
    at = [8 + k * (16 + GAP_PX) for k in range(3)]
    assert made[LABEL_PX + 8, at, 0].tolist() == [0, 40, 80]
    assert made[LABEL_PX + 16 + GAP_PX + 8, at, 0].tolist() == [100, 140, 180]
    assert (made[:LABEL_PX] < 100).any(), "the name is written"
    with pytest.raises(ValueError, match="needs clips"):
        sheet([], 3)


def test_pictures_are_written_as_rgb(tmp_path: Path) -> None:
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    write_picture(tmp_path / "red.png", red)
    assert cv2.imread(str(tmp_path / "red.png"))[0, 0].tolist() == [0, 0, 255]
    with pytest.raises(OSError, match="cannot be written"):
        write_picture(tmp_path / "no" / "red.png", red)


def test_a_video_holds_every_frame_of_every_clip(tmp_path: Path) -> None:
    clips = [np.repeat(np.repeat(ramp(n), 4, axis=1), 4, axis=2) for n in (0, 60, 120)]
    write_video(tmp_path / "all.mp4", clips, 15.0, "synthetic", zoom=1)
    with av.open(str(tmp_path / "all.mp4")) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == 15
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 9
    assert all(side % 2 == 0 for side in frames[0].shape[:2])
    for t in (0, 8):
        first, second = (int(frames[t][LABEL_PX + 16, x].mean()) for x in (16, 48 + GAP_PX))
        assert second - first == pytest.approx(60, abs=8)
        assert first == pytest.approx(10 * t, abs=8)
    assert not (tmp_path / "all.part.mp4").exists()
