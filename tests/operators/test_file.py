"""Files: every frame and packet comes out, and every way a file can be bad has a name."""

from __future__ import annotations

import shutil
import struct
import traceback
from itertools import pairwise

import av
import numpy as np
import pytest

from engine import EndOfStream, FakeClock, OperatorError
from engine.testing import HarnessContext, run_operator
from operators.records import Packet
from operators.sources.file import FileSource, FileSourceConfig
from tests.operators.media import write_clip


def play(path, ctx=None, limit=10_000, **config):
    made = run_operator(FileSource(FileSourceConfig(uri=str(path), **config)), ctx=ctx, limit=limit)
    frames = [media.frames for media in made if media.frames is not None]
    return frames, [media.audio for media in made if media.audio is not None]


def failure(path, ctx=None):
    with pytest.raises(OperatorError) as caught:
        play(path, ctx)
    assert str(path) in str(caught.value)
    return caught.value.code


def test_frames_are_copied_plane_by_plane(tmp_path):
    path = write_clip(tmp_path / "a.mp4", size=(66, 50), codec="libx264")
    frames, _ = play(path)
    with av.open(str(path)) as container:
        expected = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert len(frames) == len(expected) == 20
    for frame, pixels in zip(frames, expected, strict=True):
        np.testing.assert_array_equal(frame.data, pixels)
        assert frame.data.flags.c_contiguous
    caps = frames[0].caps
    assert (caps.width, caps.height, caps.pix_fmt, caps.dtype) == (66, 50, "yuv420p", "uint8")
    assert (caps.colorspace, caps.color_range) == ("bt601", "limited")
    assert [round(frame.stamp.pts_seconds * 25) for frame in frames] == list(range(20))


def test_hd_without_a_tag_is_bt709(tmp_path):
    frames, _ = play(write_clip(tmp_path / "a.mp4", size=(64, 720), frames=1))
    assert frames[0].caps.colorspace == "bt709"


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [("a.mkv", "ffv1", "yuv444p"), ("a.mkv", "ffv1", "bgr0"), ("a.avi", "mjpeg", "yuvj422p")],
)
def test_other_formats_are_converted(tmp_path, name, codec, pix_fmt):
    path = write_clip(tmp_path / name, codec=codec, pix_fmt=pix_fmt)
    frames, _ = play(path)
    assert len(frames) == 20
    # A grey level g in [0, 255] is 16 + g * 219 / 255 in limited range.
    for number in (0, 19):
        wanted = 16 + (40 + 5 * number) * 219 / 255
        assert abs(float(frames[number].data[:64].mean()) - wanted) < 2.5
        assert abs(float(frames[number].data[64:].mean()) - 128) < 2
    assert frames[0].caps.color_range == "limited"


def test_full_range_is_kept_and_said(tmp_path):
    path = write_clip(tmp_path / "a.avi", codec="mjpeg", pix_fmt="yuvj420p")
    frames, _ = play(path)
    assert frames[0].caps.color_range == "full"
    assert abs(float(frames[0].data[:64].mean()) - 40) < 2.5


def test_odd_sizes_are_cropped(tmp_path):
    path = write_clip(tmp_path / "a.mkv", size=(65, 51), codec="ffv1", pix_fmt="yuv420p")
    frames, _ = play(path)
    assert frames[0].data.shape == (75, 64)
    assert len(np.unique(frames[0].data[:50])) == 1


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)],
    ids=["clockwise", "upside down", "anticlockwise"],
)
def test_a_clip_that_was_filmed_lying_comes_upright(tmp_path, matrix, turns):
    path = write_clip(tmp_path / "a.mp4", frames=3, size=(66, 50), noise=True)
    plain, _ = play(path)
    tag = turned(path, matrix)
    frames, _ = play(tag)
    size = (frames[0].caps.width, frames[0].caps.height)
    assert size == ((50, 66) if turns % 2 else (66, 50))
    for frame, lying in zip(frames, plain, strict=True):
        for plane, before in zip(planes(frame), planes(lying), strict=True):
            np.testing.assert_array_equal(plane, np.rot90(before, turns))


def turned(path, matrix):
    """The same clip with another display matrix (a, b, c, d) in its track header."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    changed = path.with_stem("turned")
    changed.write_bytes(data)
    return changed


def planes(frame):
    width, height = frame.caps.width, frame.caps.height
    luma, chroma = frame.data[:height], frame.data[height:].reshape(2, height // 2, width // 2)
    return luma, chroma[0], chroma[1]


def test_one_pixel_is_refused(tmp_path):
    path = write_clip(tmp_path / "a.mkv", size=(1, 1), codec="ffv1", pix_fmt="yuv444p", frames=1)
    assert failure(path) == "TOO_SMALL"


def test_audio_packets_come_undecoded(tmp_path):
    path = write_clip(tmp_path / "a.mp4", sound=True)
    frames, audio = play(path)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        expected = [packet for packet in container.demux(stream) if packet.size]
        extradata = stream.codec_context.extradata
        assert [packet.data.tobytes() for packet in audio] == [bytes(one) for one in expected]
        assert [packet.stamp.pts for packet in audio] == [one.pts for one in expected]
        assert [packet.of(Packet)[0].duration for packet in audio] == [
            one.duration for one in expected
        ]
    caps = audio[0].caps
    assert (caps.media, caps.codec, caps.rate, caps.layout) == ("packet", "aac", RATE, "stereo")
    assert caps.extradata == extradata
    assert len(frames) == 20
    assert play(path, audio=False)[1] == []


RATE = 44_100


def test_loop_goes_on_in_time(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=5, sound=True)
    ctx = HarnessContext()
    frames, audio = play(path, ctx, limit=40, loop=True)
    ticks = [frame.stamp.pts for frame in frames]
    assert len(ticks) > 10
    assert {b - a for a, b in pairwise(ticks)} == {ticks[1] - ticks[0]}
    heard = [packet.stamp.pts for packet in audio]
    assert heard == sorted(heard)
    assert set(ctx.breaks) == {"LOOP"}


def test_realtime_is_paced_without_drift(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=10)
    clock = FakeClock(5_000_000_000)
    ctx = HarnessContext(clock=clock)
    source = FileSource(FileSourceConfig(uri=str(path), realtime=True))
    due = []
    with ctx.exits:
        source.open(ctx)
        while len(due) < 10:
            media = source.process()
            if media is not None:
                due.append(media.frames.stamp.capture_ns)
                clock.advance(25_000_000)  # the consumer's time must not add up
        source.close()
    assert due == [5_000_000_000 + number * 40_000_000 for number in range(10)]


def test_a_stop_ends_the_waiting(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=10)
    ctx = HarnessContext()
    ctx.stop.set()
    frames, _ = play(path, ctx, realtime=True, loop=True)
    assert len(frames) == 10
    assert ctx.clock.now_ns() == 0


def test_buffers_are_reused(tmp_path):
    path = write_clip(tmp_path / "a.mp4", frames=20)
    source = FileSource(FileSourceConfig(uri=str(path)))
    ctx = HarnessContext()
    source.open(ctx)
    frames, _ = count_frames(source)
    source.close()
    assert frames == 20
    assert source._copier._pool.allocated == 1


def test_missing_pts_are_filled(tmp_path):
    path = write_clip(tmp_path / "a.h264", frames=6, tune="zerolatency")
    frames, _ = play(path)
    ticks = [frame.stamp.pts for frame in frames]
    assert len(ticks) == 6
    assert ticks == sorted(set(ticks))


def test_bad_files_are_named(tmp_path):
    assert failure(tmp_path / "none.mp4") == "NOT_FOUND"
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert failure(empty) == "EMPTY_FILE"
    text = tmp_path / "text.mp4"
    text.write_text("This is no film. " * 200)
    assert failure(text) == "NOT_MEDIA"
    assert failure(tmp_path) == "NOT_MEDIA"
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), layout="stereo")
        silence.sample_rate = 8000
        out.mux(stream.encode(silence))
    assert failure(sound) == "NO_VIDEO"


@pytest.mark.parametrize(
    "address", ["http://user:geheim@127.0.0.1:9/a.mp4", "http://127.0.0.1:9/a.mp4?token=geheim"]
)
def test_what_is_secret_in_an_address_is_not_told(address):
    with pytest.raises(OperatorError) as caught:
        play(address)
    assert caught.value.code == "REFUSED"
    assert "127.0.0.1:9/a.mp4" in str(caught.value)
    told = "".join(traceback.format_exception(caught.value))
    assert "geheim" not in told.replace(repr(address), "").replace(f'"{address}"', "")
    assert "geheim" not in str(caught.value)


def test_cut_off_before_the_index(tmp_path):
    whole = write_clip(tmp_path / "a.mp4")
    whole.write_bytes(whole.read_bytes()[:600])
    assert failure(whole) == "TRUNCATED"


@pytest.mark.parametrize("movflags", ["faststart", "frag_keyframe+empty_moov"])
def test_cut_off_midway_gives_what_is_there_and_fails(tmp_path, movflags):
    whole = write_clip(tmp_path / "a.mp4", frames=40, movflags=movflags, noise=True)
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.7)])
    ctx = HarnessContext()
    source = FileSource(FileSourceConfig(uri=str(whole)))
    source.open(ctx)
    frames, error = count_frames(source)
    source.close()
    assert error.code == "TRUNCATED"
    assert 10 < frames < 40
    assert all(code == "CORRUPT" for code, _ in ctx.reports)  # the end itself is told once, raised


def count_frames(source):
    frames = 0
    while True:
        try:
            frames += source.process() is not None
        except (OperatorError, EndOfStream) as error:
            return frames, error


def test_size_change_gives_new_caps(tmp_path):
    small = write_clip(tmp_path / "a.h264", frames=3, size=(64, 64), tune="zerolatency")
    large = write_clip(tmp_path / "b.h264", frames=3, size=(96, 80), tune="zerolatency")
    with small.open("ab") as joined, large.open("rb") as rest:
        shutil.copyfileobj(rest, joined)
    frames, _ = play(small)
    assert [(frame.caps.width, frame.caps.height) for frame in frames] == [
        *[(64, 64)] * 3,
        *[(96, 80)] * 3,
    ]
    assert frames[-1].data.shape == (120, 96)
