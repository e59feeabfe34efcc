"""A camera, played by a video file behind FFmpeg's opener, and its errors."""

from __future__ import annotations

import errno

import av
import pytest

from engine import FakeClock, OperatorError
from engine.testing import HarnessContext
from operators.sources.camera import CameraSource, CameraSourceConfig
from tests.operators.media import write_clip


@pytest.fixture
def plugged(tmp_path, monkeypatch):
    """A camera that gives five frames and is then pulled out."""
    clip = write_clip(tmp_path / "camera.avi", frames=5, codec="mjpeg", pix_fmt="yuvj420p")
    asked = {}
    real = av.open

    def fake(device, **arguments):
        asked.update(device=device, **arguments)
        return real(str(clip))

    monkeypatch.setattr(av, "open", fake)
    return asked


def test_frames_carry_the_moment_they_were_read(plugged):
    clock = FakeClock(10**9)
    ctx = HarnessContext(mode="live", clock=clock)
    source = CameraSource(CameraSourceConfig(width=64, height=64, fps=15, input_format="mjpeg"))
    source.open(ctx)
    stamps = []
    for _ in range(5):
        stamps.append(source.process().frames.stamp)
        clock.advance(40_000_000)
    with pytest.raises(OperatorError) as caught:
        source.process()
    source.close()
    assert (caught.value.code, caught.value.permanent) == ("DISCONNECTED", False)
    assert [stamp.capture_ns for stamp in stamps] == [10**9 + n * 40_000_000 for n in range(5)]
    assert [stamp.pts_seconds for stamp in stamps] == [0, 0.04, 0.08, 0.12, 0.16]
    assert plugged["device"] == "/dev/video0"
    assert plugged["format"] == "v4l2"
    assert plugged["options"] == {
        "video_size": "64x64",
        "framerate": "15",
        "input_format": "mjpeg",
    }


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, "NOT_FOUND"),
        (errno.ENODEV, "NOT_FOUND"),
        (errno.EBUSY, "BUSY"),
        (errno.EACCES, "PERMISSION"),
        (errno.EINVAL, "UNREADABLE"),
    ],
)
def test_causes_are_typed(monkeypatch, number, code):
    def fake(device, **arguments):
        raise OSError(number, "no")

    monkeypatch.setattr(av, "open", fake)
    with pytest.raises(OperatorError) as caught:
        CameraSource(CameraSourceConfig(device="/dev/video7")).open(HarnessContext())
    assert caught.value.code == code
    assert "/dev/video7" in str(caught.value)


def test_a_camera_that_is_not_there():
    with pytest.raises(OperatorError) as caught:
        CameraSource(CameraSourceConfig(device="/dev/video99")).open(HarnessContext())
    assert caught.value.code == "NOT_FOUND"
