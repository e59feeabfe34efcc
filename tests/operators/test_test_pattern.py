"""The test pattern: the same on every machine, numbered, paced."""

from __future__ import annotations

import hashlib
from itertools import islice

import cv2
import numpy as np
import pytest

from engine import EndOfStream, FakeClock
from engine.testing import HarnessContext, run_operator
from operators.sources.test_pattern import (
    TestPattern,
    TestPatternConfig,
    read_number,
    write_number,
)


def made(**config):
    config = {"width": 128, "height": 96, "realtime": False, **config}
    return [one.frames for one in run_operator(TestPattern(TestPatternConfig(**config)))]


def test_frames_are_numbered_and_end():
    frames = made(frames=70)
    assert [read_number(frame.data) for frame in frames] == list(range(70))
    assert [frame.stamp.pts for frame in frames] == list(range(70))
    assert frames[30].stamp.pts_seconds == 1.0
    assert frames[0].data.shape == (144, 128)


def test_same_config_same_pixels():
    def digest(**config):
        frames = made(frames=5, **config)
        return hashlib.sha256(b"".join(frame.data.tobytes() for frame in frames)).hexdigest()

    assert digest(seed=3) == digest(seed=3) != digest(seed=4)


def test_box_moves_and_stays_inside():
    for earlier, later in zip(islice(made(frames=300), 299), made(frames=300)[1:], strict=True):
        assert (earlier.data[8:96] != later.data[8:96]).any()


def test_bars_have_their_colours():
    bgr = cv2.cvtColor(made(frames=1, width=640, height=64)[0].data, cv2.COLOR_YUV2BGR_I420)
    row = bgr[32, 45::91].astype(int)
    wanted = [
        (191, 191, 191),
        (0, 191, 191),
        (191, 191, 0),
        (0, 191, 0),
        (191, 0, 191),
        (0, 0, 191),
        (191, 0, 0),
    ]
    assert np.abs(row - wanted).max() <= 6


@pytest.mark.parametrize("number", [0, 1, 0xABCDEF, 2**32 - 1])
@pytest.mark.parametrize("width", [64, 200, 1920])
def test_number_survives_lossy_coding(number, width):
    luma = np.full((64, width), 100, np.uint8)
    write_number(luma, number)
    _, jpeg = cv2.imencode(".jpg", luma, [cv2.IMWRITE_JPEG_QUALITY, 50])
    assert read_number(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)) == number


def test_realtime_is_paced_without_drift():
    clock = FakeClock(1_000)
    ctx = HarnessContext(clock=clock)
    source = TestPattern(TestPatternConfig(width=64, height=64, fps=50))
    source.open(ctx)
    due = []
    for _ in range(5):
        due.append(source.process().frames.stamp.capture_ns)
        clock.advance(7_000_000)
    assert due == [1_000 + number * 20_000_000 for number in range(5)]
    ctx.stop.set()
    with pytest.raises(EndOfStream):
        source.process()
