"""The demo clip: there without a download, with sound, the same every time."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest

from operators import demo_clip


@pytest.fixture
def short(monkeypatch):
    """Its first four seconds: the first picture comes, the second one begins to."""
    monkeypatch.setattr(demo_clip, "SECONDS", 4)


@pytest.mark.slow
def test_clip_has_faces_and_sound(short, tmp_path):
    path = tmp_path / "demo" / "clip.mp4"
    demo_clip.build_demo_clip(path)
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.width, video.height, video.average_rate, video.frames) == (1280, 720, 25, 100)
        assert float(audio.duration * audio.time_base) == pytest.approx(4, abs=0.05)
        images = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        loudest = max(np.abs(frame.to_ndarray()).max() for frame in container.decode(audio=0))
    assert 0.1 < loudest < 1
    assert orange_share(images[0]) < 0.001
    assert orange_share(images[60]) > 0.01  # the astronaut's suit
    assert [file.name for file in path.parent.iterdir()] == ["clip.mp4"]


def orange_share(image):
    hue, saturation, value = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
    return float(((hue > 3) & (hue < 15) & (saturation > 150) & (value > 120)).mean())


@pytest.mark.slow
def test_same_bytes_twice(monkeypatch, tmp_path):
    monkeypatch.setattr(demo_clip, "SECONDS", 2)
    for name in ("a.mp4", "b.mp4"):
        demo_clip.build_demo_clip(tmp_path / name)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_several_at_once_and_none_at_the_ends():
    script = demo_clip._script()
    at_once = [
        sum(picture.centre(tick / 10) is not None for picture in script) for tick in range(201)
    ]
    assert at_once[0] == at_once[-1] == 0
    assert max(at_once) >= 3


def test_missing_package_names_the_remedy(monkeypatch):
    monkeypatch.setattr(demo_clip.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"frameloom\[demo\]"):
        demo_clip.package_file("skimage", "data/astronaut.png")


def test_wrong_call_says_how(monkeypatch):
    monkeypatch.setattr("sys.argv", ["demo_clip"])
    with pytest.raises(SystemExit, match="usage"):
        demo_clip.main()
