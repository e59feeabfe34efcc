"""`guard` on a file: what a person gets, the same on every placement; one clear error if not."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest

from engine.check import check
from engine.loader import load_graph
from engine.runtime.supervisor import Run, RunResult
from engine.spec import GraphSpec, WorkerSpec
from tests.operators.faces import astronaut
from tests.operators.media import mux_tone

pytestmark = pytest.mark.slow
FRAMES = 40
SECOND_WORKER = ("overlay", "video")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face that enters, crosses the picture and leaves, with sound; 640x360, 25 Hz."""
    path = tmp_path_factory.mktemp("clip") / "door.mp4"
    portrait = astronaut()[:360]
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
        audio = out.add_stream("aac", rate=44_100)
        for number in range(FRAMES):
            scene = np.full((360, 640 + 2 * 512, 3), 90, np.uint8)
            left = 512 - 300 + number * 20
            scene[:, left : left + 512] = portrait
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(scene[:, 512 : 512 + 640]), format="rgb24"
            )
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
            mux_tone(out, audio, number)
        out.mux(video.encode(None))
        out.mux(audio.encode(None))
    return path


def guard(uri: Path, **workers: Any) -> GraphSpec:
    """The shipped graph on one file; `workers` has overlay and video placed in a second worker."""
    spec = load_graph("guard")
    nodes = dict(spec.nodes)
    nodes["camera"] = msgspec.structs.replace(nodes["camera"], config={"uri": str(uri)})
    for name in SECOND_WORKER if workers else ():
        nodes[name] = msgspec.structs.replace(nodes[name], worker="second")
    placed = {**spec.workers, **workers}
    return msgspec.structs.replace(spec, mode="file", nodes=nodes, workers=placed)


def run(spec: GraphSpec, out: Path) -> RunResult:
    with Run(check(spec), out) as running:
        assert running.wait(30), running.snapshot()
    return running.close()


PLACEMENTS: dict[str, dict[str, WorkerSpec]] = {
    "one worker": {},
    "one worker again": {},
    "two workers": {"second": WorkerSpec()},
    "two workers over tcp": {
        "main": WorkerSpec(host="localhost"),
        "judge": WorkerSpec(host="localhost"),
        "second": WorkerSpec(host="127.0.0.1"),
    },
}


def test_every_placement_gives_the_same_bytes(clip: Path, tmp_path: Path) -> None:
    links = []
    for name, workers in PLACEMENTS.items():
        result = run(guard(clip, **workers), tmp_path / name)
        assert result.exit_code == 0, result.failures
        assert all(
            edge.balanced and edge.sent == edge.consumed for edge in result.snapshot.edges.values()
        )
        links.append(result.snapshot.edges["decision.out->overlay.frames"].link)
    assert links == ["inproc", "inproc", "ipc", "tcp"]
    for file in ("camera.mp4", "events.jsonl"):
        contents = {(tmp_path / name / file).read_bytes() for name in PLACEMENTS}
        assert len(contents) == 1
        assert contents.pop()


def test_the_recording_has_every_frame_and_the_sound_untouched(clip: Path, tmp_path: Path) -> None:
    assert run(guard(clip), tmp_path).exit_code == 0
    played = [packet for packet in packets(clip, "audio") if packet[1] >= 0]  # no encoder priming
    assert packets(tmp_path / "camera.mp4", "audio") == played
    with av.open(str(tmp_path / "camera.mp4")) as recording:
        times = [frame.time for frame in recording.decode(video=0)]
    assert times == pytest.approx([number / 25 for number in range(FRAMES)])


def test_events_name_stream_time_track_box_and_score(clip: Path, tmp_path: Path) -> None:
    run(guard(clip), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert {event["kind"] for event in rows} > {"verdict"}  # see test_guard_verdicts.py
    events = [event for event in rows if event["kind"] != "verdict"]
    assert [event["kind"] for event in events if event["kind"] != "face_seen"] == [
        "face_entered",
        "face_left",
    ]
    for event in events:
        assert event["stream"] == "camera"
        assert event["track_id"] == 1
        assert 0 <= event["pts_seconds"] < FRAMES / 25
        assert 0.5 <= event["score"] <= 1
        left, top, right, bottom = event["box"]
        assert 0 <= left < right <= 640
        assert 0 <= top < bottom <= 360


@pytest.mark.parametrize(
    ("content", "code"), [(b"", "EMPTY_FILE"), (b"hello\n" * 100, "NOT_MEDIA"), (None, "NOT_FOUND")]
)
def test_a_file_that_cannot_be_read_is_one_clear_error(
    content: bytes | None, code: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.mp4"
    if content is not None:
        path.write_bytes(content)
    result = run(guard(path), tmp_path / "out")
    assert result.exit_code == 1
    (failure,) = result.failures
    assert (failure.node, failure.code) == ("camera", code)
    assert "bad.mp4" in failure.message
    assert failure.detail == ""


def test_a_truncated_file_plays_to_its_end_and_fails(clip: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:-30_000])
    result = run(guard(cut), tmp_path / "out")
    assert result.exit_code == 1
    assert result.failures[0].code in ("TRUNCATED", "NOT_MEDIA")


def packets(path: Path, kind: str) -> list[tuple[bytes, float]]:
    with av.open(str(path)) as container:
        stream = container.streams.get(**{kind: 0})[0]
        return [
            (bytes(packet), round(float(packet.pts * packet.time_base), 4))
            for packet in container.demux(stream)
            if packet.pts is not None
        ]
