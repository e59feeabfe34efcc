"""MP4 files: in sync, the same bytes twice, playable whatever happens."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from engine import Caps, Frame, OperatorError, Stamp
from engine.testing import HarnessContext, make_frame, run_operator
from operators.sinks.mp4 import Mp4Sink, Mp4SinkConfig
from operators.sources.file import FileSource, FileSourceConfig
from tests.operators.media import decoded, numbered, write_clip


def record(output, frames, ctx=None, **config):
    ctx = ctx or HarnessContext(output=output)
    run_operator(Mp4Sink(Mp4SinkConfig(**config)), {"frames": frames}, ctx=ctx)
    return ctx


def remux(clip, output):
    made = run_operator(FileSource(FileSourceConfig(uri=str(clip))))
    feeds = {
        "frames": [media.frames for media in made],
        "audio": [media.audio for media in made],
    }
    run_operator(Mp4Sink(Mp4SinkConfig()), feeds, output=output)
    return made, output / "test.mp4"


def test_every_frame_comes_back_with_its_pts(tmp_path):
    record(tmp_path, numbered(40), crf=18)
    assert decoded(tmp_path / "cam.mp4") == [(number / 25, number) for number in range(40)]


def test_two_runs_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        record(tmp_path / name, numbered(30))
    first, second = ((tmp_path / name / "cam.mp4").read_bytes() for name in ("a", "b"))
    assert first == second
    assert b"Lavf" not in first


def test_sound_is_untouched_and_in_sync(tmp_path):
    made, path = remux(write_clip(tmp_path / "in.mp4", frames=50, sound=True), tmp_path)
    with av.open(str(path)) as container:
        audio = [one for one in container.demux(audio=0) if one.size]
        sent = [media.audio for media in made if media.audio and media.audio.stamp.pts >= 0]
        assert [bytes(one) for one in audio] == [one.data.tobytes() for one in sent]
        assert [float(one.pts * one.time_base) for one in audio] == pytest.approx(
            [one.stamp.pts_seconds for one in sent], abs=1e-4
        )
        stream = container.streams.audio[0].codec_context
        assert (stream.sample_rate, stream.layout.name) == (44_100, "stereo")
    with av.open(str(path)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) >= 2 * 44_100
    with av.open(str(path)) as container:
        assert len(list(container.decode(video=0))) == 50
        video = container.streams.video[0]
        assert float(video.duration * video.time_base) == pytest.approx(2.0, abs=1e-4)


def test_sound_that_comes_too_late_is_said_and_left_out(tmp_path):
    made = run_operator(
        FileSource(FileSourceConfig(uri=str(write_clip(tmp_path / "in.mp4", sound=True))))
    )
    ctx = HarnessContext(output=tmp_path)
    feeds = {
        "frames": [media.frames for media in made if media.frames],
        "audio": [None] * 20 + [media.audio for media in made if media.audio][1:4],
    }
    run_operator(Mp4Sink(Mp4SinkConfig(audio_wait_ms=100)), feeds, ctx=ctx)
    assert [code for code, _ in ctx.reports] == ["AUDIO_LEFT_OUT"]
    with av.open(str(tmp_path / "test.mp4")) as container:
        assert len(list(container.decode(video=0))) == 20


def test_other_formats_are_converted(tmp_path):
    image = np.zeros((48, 64, 3), np.uint8)
    image[..., 0] = 200
    caps = Caps(
        media="video", pix_fmt="rgb24", dtype="uint8", width=64, height=48, colorspace="bt601"
    )
    frames = [Frame(image, caps, Stamp("cam", n, Fraction(1, 25), 0, n)) for n in range(3)]
    record(tmp_path, frames, crf=5)
    with av.open(str(tmp_path / "cam.mp4")) as container:
        colour = next(container.decode(video=0)).to_ndarray(format="rgb24").mean(axis=(0, 1))
    assert colour == pytest.approx((200, 0, 0), abs=6)


def test_one_file_per_stream_and_none_is_overwritten(tmp_path):
    for _ in range(2):
        mixed = [
            f for pair in zip(*(numbered(3, stream_id=s) for s in "ab"), strict=True) for f in pair
        ]
        record(tmp_path, mixed, path="rec/{stream}.mp4")
    names = sorted(path.name for path in (tmp_path / "rec").iterdir())
    assert names == ["a-2.mp4", "a.mp4", "b-2.mp4", "b.mp4"]
    assert all(len(decoded(path)) == 3 for path in (tmp_path / "rec").iterdir())


def test_stream_id_cannot_leave_the_folder(tmp_path):
    record(tmp_path / "out", numbered(2, stream_id="../../x/y"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".._.._x_y.mp4"]


def test_size_change_begins_a_new_file(tmp_path):
    large = numbered(12, size=(192, 96))[5:]
    ctx = record(tmp_path, [*numbered(5), *large])
    assert len(decoded(tmp_path / "cam.mp4")) == 5
    assert decoded(tmp_path / "cam-2.mp4") == [(n / 25, n) for n in range(5, 12)]
    assert [code for code, _ in ctx.reports] == ["SIZE_CHANGED"]


def test_pts_that_do_not_rise_are_left_out(tmp_path):
    frames = numbered(6)
    ctx = record(tmp_path, [*frames[:4], frames[2], frames[3], *frames[4:]])
    assert [number for _, number in decoded(tmp_path / "cam.mp4")] == list(range(6))
    assert [code for code, _ in ctx.reports] == ["PTS_NOT_RISING"]


def test_full_disk_is_an_error_and_the_rest_plays(tmp_path):
    sink = Mp4Sink(Mp4SinkConfig(crf=0, fragment_ms=40, audio_wait_ms=0))
    ctx = HarnessContext(output=tmp_path)
    sink.open(ctx)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    try:
        with pytest.raises(OperatorError) as caught:
            feed(sink, numbered(400))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    sink.close()
    assert caught.value.code == "DISK_FULL"
    assert "cam.mp4" in str(caught.value)
    assert "node" in str(caught.value)
    shown = decoded(tmp_path / "cam.mp4")
    assert len(shown) > 5
    assert shown == [(number / 25, number) for number in range(len(shown))]


@pytest.mark.parametrize("limit_bytes", [4_000, 10_000, 20_000, 40_000])
def test_a_full_disk_with_sound_is_an_error_too(tmp_path, limit_bytes):
    """PyAV's own words on closing must not hide the cause, nor may anything be written after."""
    clip = write_clip(tmp_path / "in.mp4", frames=60, sound=True, noise=True)
    made = run_operator(FileSource(FileSourceConfig(uri=str(clip))))
    sink = Mp4Sink(Mp4SinkConfig(crf=10, fragment_ms=40))
    sink.open(HarnessContext(output=tmp_path / "out"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    codes = []
    try:
        for media in made:
            try:
                sink.process(media.frames, media.audio)
            except OperatorError as error:
                codes.append((error.code, error.permanent))
                break
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert codes == [("DISK_FULL", False)]
    sink.process(None, made[-1].audio)  # as a lane that tries again does
    sink.close()
    (path,) = (tmp_path / "out").iterdir()
    shown = decoded(path) if path.stat().st_size else []
    assert shown == sorted(shown)


def test_what_is_too_small_for_the_encoder_is_told_with_the_least_size(tmp_path):
    sink = Mp4Sink(Mp4SinkConfig())
    sink.open(HarnessContext(output=tmp_path))
    with pytest.raises(OperatorError, match=r"TOO_SMALL.*16x2 pixels.*4x4"):
        feed(sink, [make_frame(np.zeros((2, 16, 3), np.uint8))])
    sink.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_does_not_keep_the_other_files_open(tmp_path):
    sink = Mp4Sink(Mp4SinkConfig(crf=0))
    sink.open(HarnessContext(output=tmp_path))
    feed(sink, numbered(20, stream_id="large", size=(320, 240)))
    feed(sink, numbered(3, stream_id="small", size=(64, 64)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OperatorError, match=r"DISK_FULL.*large\.mp4"):
            sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(decoded(tmp_path / "small.mp4")) == 3


def feed(sink, frames):
    for frame in frames:
        sink.process(frame, None)


KILLED = """
import sys, pathlib
from engine.testing import HarnessContext
from operators.sinks.mp4 import Mp4Sink, Mp4SinkConfig
from tests.operators.media import numbered
sink = Mp4Sink(Mp4SinkConfig(fragment_ms=200))
sink.open(HarnessContext(output=pathlib.Path(sys.argv[1])))
for frame in numbered(60):
    sink.process(frame, None)
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_playable_after_kill_9(tmp_path):
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"written\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    shown = decoded(tmp_path / "cam.mp4")
    assert shown == [(number / 25, number) for number in range(len(shown))]
    assert len(shown) >= 60 - 2 * 5  # at most the open fragment and one frame on its way
