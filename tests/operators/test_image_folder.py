"""Folders of pictures, read as video and written from video."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from engine import Frame, OperatorError
from engine.testing import run_operator
from operators.sinks._pixels import to_bgr
from operators.sinks.image_folder import ImageFolderSink, ImageFolderSinkConfig
from operators.sources.image_folder import ImageFolder, ImageFolderConfig
from tests.operators.media import numbered, write_clip


def write(folder, **shades):
    for name, shade in shades.items():
        cv2.imwrite(str(folder / f"{name}.png"), np.full((20, 30, 3), shade, np.uint8))


def levels(path, limit=100, **config):
    source = ImageFolder(ImageFolderConfig(path=str(path), **config))
    frames = [one.frames for one in run_operator(source, limit=limit)]
    return [round((float(frame.data[0, 0]) - 16) * 255 / 219) for frame in frames], frames


def test_pictures_come_in_natural_order(tmp_path):
    write(tmp_path, shot10=200, shot2=100, shot1=50)
    (tmp_path / "folder.png").mkdir()
    shades, frames = levels(tmp_path, fps=10)
    assert shades == pytest.approx([50, 100, 200], abs=2)
    assert [frame.stamp.pts_seconds for frame in frames] == [0, 0.1, 0.2]
    assert frames[0].caps.pix_fmt == "yuv420p"


def test_pattern_and_loop(tmp_path):
    write(tmp_path, a=50, b=100, other=200)
    shades, frames = levels(tmp_path / "?.png", limit=5, loop=True)
    assert shades == pytest.approx([50, 100, 50, 100, 50], abs=2)
    assert [frame.stamp.pts for frame in frames] == [0, 1, 2, 3, 4]


def test_nothing_there_is_named(tmp_path):
    with pytest.raises(OperatorError, match="NOT_FOUND"):
        levels(tmp_path / "*.png")
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(OperatorError) as caught:
        levels(tmp_path / "*.png")
    assert caught.value.code == "NOT_MEDIA"
    assert "a.png" in str(caught.value)


def test_png_holds_the_very_pixels(tmp_path):
    frames = numbered(3)
    run_operator(ImageFolderSink(ImageFolderSinkConfig(kind="png")), frames, output=tmp_path)
    names = sorted(path.name for path in (tmp_path / "cam").iterdir())
    assert names == ["00000000.png", "00000001.png", "00000002.png"]
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "cam" / names[2])), to_bgr(frames[2]))


def test_jpg_and_every(tmp_path):
    config = ImageFolderSinkConfig(path="shots-{stream}", every=4, quality=95)
    frames = numbered(10)
    run_operator(ImageFolderSink(config), frames, output=tmp_path)
    folder = tmp_path / "shots-cam"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["00000000.jpg", "00000004.jpg", "00000008.jpg"]
    difference = cv2.imread(str(folder / names[1])).astype(int) - to_bgr(frames[4])
    assert np.abs(difference).mean() < 6


def test_full_disk_is_named_and_leaves_no_half_picture(tmp_path):
    (tmp_path / "cam").mkdir()
    (tmp_path / "cam" / "00000000.part").symlink_to("/dev/full")
    with pytest.raises(OperatorError, match=r"DISK_FULL: node: .*00000000\.jpg"):
        run_operator(ImageFolderSink(ImageFolderSinkConfig()), numbered(1), output=tmp_path)
    assert list((tmp_path / "cam").iterdir()) == []


def test_a_video_in_the_folder_is_named(tmp_path):
    write_clip(tmp_path / "clip.mp4", frames=3)
    with pytest.raises(OperatorError) as caught:
        run_operator(ImageFolder(ImageFolderConfig(path=str(tmp_path))))
    assert caught.value.code == "NOT_A_PICTURE"
    assert "clip.mp4" in str(caught.value)


def test_frames_made_between_two_others_take_nobodys_name(tmp_path):
    """They share a seq with a neighbour."""
    frames = numbered(3)
    again = Frame(frames[2].data, frames[1].caps, frames[1].stamp)
    given = [frames[0], frames[1], again, again, frames[2]]
    run_operator(ImageFolderSink(ImageFolderSinkConfig(kind="png")), given, output=tmp_path)
    names = sorted((tmp_path / "cam").iterdir())
    assert [path.stem[6:] for path in names] == ["00", "01", "01_1", "01_2", "02"]
    for path, frame in zip(names, given, strict=True):
        np.testing.assert_array_equal(cv2.imread(str(path)), to_bgr(frame))
