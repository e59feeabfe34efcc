"""The budget states worst cases in bytes and milliseconds, and everything it had to assume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.budget import EVENT_BYTES, PACKET_BYTES, Budget, budget
from engine.check import check
from engine.graph import Graph
from engine.spec import BatchSpec
from tests.engine.fakes import (
    Blur,
    Camera,
    CameraConfig,
    Clip,
    Detect,
    Join,
    Notify,
    OnGpu,
    Screen,
    Steer,
    ToFloat,
    ToRgb,
    Upload,
)

VGA = CameraConfig(uri="x", width=640, height=480, fps=20)


def chain(config: CameraConfig, shm: Path = Path("/dev/shm"), **options: Any) -> Budget:
    """cam -> blur (another worker) -> show."""
    g = Graph("g", **options)
    cam = g.add("cam", Camera, config)
    blur = g.add("blur", Blur, inputs={"frames": cam.edge(queue=3, full="block")}, worker="far")
    shown = blur.edge(queue=2, full="block", window=2)
    g.add("show", Screen, inputs={"frames": shown}, worker="far")
    return budget(check(g.spec()), shm)


def test_known_sizes_and_rates_need_no_assumption() -> None:
    found = chain(VGA)
    first, second = found.edges
    assert (first.frame_bytes, first.frames, first.memory_bytes) == (460_800, 5, 2_304_000)
    assert (first.fps, first.bytes_per_second) == (20, 9_216_000)
    assert first.content == "video yuv420p uint8 640x480 cpu"
    assert (second.frame_bytes, second.frames) == (460_800, 5)
    assert found.memory_bytes == first.memory_bytes + second.memory_bytes
    assert found.bytes_per_second == 2 * 9_216_000
    assert found.assumptions == ()


def test_what_is_not_known_is_assumed_and_said_once() -> None:
    found = chain(CameraConfig(uri="x"))
    assert [edge.frame_bytes for edge in found.edges] == [1280 * 720 * 3 // 2] * 2
    assert found.edges[0].fps == 30
    assert found.assumptions == ("cam: yuv420p 1280x720", "cam: 30 fps")


def test_the_longest_wait_is_that_of_full_queues_and_windows() -> None:
    (path,) = chain(VGA).paths
    assert path.nodes == ("cam", "blur", "show")
    assert path.frames == (3 + 1) + (2 + 2)
    assert path.latency_ms == pytest.approx(8 * 1000 / 20)


def test_a_flow_limit_bounds_the_wait() -> None:
    found = chain(VGA, mode="live", max_in_flight=2, latency_budget_ms=90)
    (path,) = found.paths
    assert (path.frames, path.latency_ms) == (2, pytest.approx(2 * 1000 / 20))
    assert found.latency_ms == path.latency_ms
    assert found.latency_budget_ms == 90
    assert chain(VGA, mode="file", max_in_flight=2).paths[0].frames == 8


def test_only_edges_between_processes_of_one_host_need_shared_memory(tmp_path: Path) -> None:
    found = chain(VGA, shm=tmp_path)
    assert found.shm_bytes == found.edges[0].memory_bytes
    assert found.shm_free_bytes is not None
    assert found.fits_shm == (found.shm_bytes <= found.shm_free_bytes)
    nowhere = chain(VGA, shm=tmp_path / "none")
    assert (nowhere.shm_free_bytes, nowhere.fits_shm) == (None, False)


def test_frames_on_a_gpu_need_none_of_the_hosts_shared_memory() -> None:
    g = Graph("g")
    cam = g.add("cam", Camera, VGA)
    up = cam.edge(queue=3, full="block")
    there = g.add("there", Upload, inputs={"frames": up}, device="cuda:0")
    far = there.edge(queue=2, full="block")
    g.add("work", OnGpu, inputs={"frames": far}, worker="far", device="cuda:0")
    found = budget(check(g.spec()))
    across = found.edges[1]
    assert (across.link, across.device) == ("ipc", "cuda:0")
    assert (found.shm_bytes, found.gpu_shared_bytes) == (0, across.memory_bytes)


def test_streams_of_a_source_add_up() -> None:
    g = Graph("g", mode="live", max_in_flight=1)
    cam = g.add(
        "cam",
        Camera,
        CameraConfig(uri="x", width=64, height=48),
        streams={"a": {"fps": 10}, "b": {"fps": 25}},
    )
    g.add("show", Screen, inputs={"frames": cam.edge(queue=9, full="block")})
    found = budget(check(g.spec()))
    assert found.edges[0].fps == 35
    assert found.paths[0].frames == 2  # one of each stream


def test_formats_packets_and_events_have_their_own_sizes() -> None:
    g = Graph("g")
    clip = g.add("clip", Clip)
    rgb = g.add("rgb", ToRgb, inputs={"frames": clip.edge("video", queue=1, full="block")})
    events = g.add("events", Notify, inputs={"frames": rgb.edge(queue=1, full="block")})
    wide = g.add("wide", ToFloat, inputs={"frames": rgb.edge(queue=1, full="block")})
    g.add("far", Screen, inputs={"frames": wide.edge(queue=1, full="block")})
    g.add("log", Screen, inputs={"frames": events.edge(queue=1, full="block")})
    g.add("sound", Screen, inputs={"frames": clip.edge("audio", queue=1, full="block")})
    found = {edge.edge: edge.frame_bytes for edge in budget(check(g.spec())).edges}
    assert found == {
        "clip.video->rgb.frames": 1280 * 720 * 3 // 2,
        "rgb.out->events.frames": 1280 * 720 * 3,
        "rgb.out->wide.frames": 1280 * 720 * 3,
        "wide.out->far.frames": 1280 * 720 * 4,
        "events.out->log.frames": EVENT_BYTES,
        "clip.audio->sound.frames": PACKET_BYTES,
    }


def test_of_two_ways_the_longer_counts_and_each_pair_has_its_path() -> None:
    g = Graph("g")
    a = g.add("a", Camera, VGA)
    b = g.add("b", Camera, VGA)
    blur = g.add("blur", Blur, inputs={"frames": a.edge(queue=5, full="block")})
    both = {"left": a.edge(queue=1, full="block"), "right": blur.edge(queue=1, full="block")}
    join = g.add("join", Join, inputs=both)
    g.add("one", Screen, inputs={"frames": join.edge(queue=1, full="block")})
    g.add("two", Screen, inputs={"frames": b.edge(queue=1, full="block")})
    assert [path.nodes for path in budget(check(g.spec())).paths] == [
        ("a", "blur", "join", "one"),
        ("b", "two"),
    ]


def test_waiting_for_a_batch_counts_in_live_graphs() -> None:
    def latency_ms(mode: Any) -> float:
        g = Graph("g", mode=mode)
        cam = g.add("cam", Camera, VGA)
        frames = cam.edge(queue=1, full="block")
        batch = BatchSpec(max_size=4, max_wait_ms=7)
        g.add("detect", Detect, inputs={"frames": frames}, batch=batch)
        return budget(check(g.spec())).latency_ms

    assert latency_ms("live") - latency_ms("file") == pytest.approx(7)


def test_a_back_edge_is_no_path_and_does_not_set_the_pace() -> None:
    g = Graph("g")
    cam = g.add("cam", Camera, VGA)
    steer = g.add("steer", Steer, inputs={"frames": cam.edge(queue=1, full="block")})
    steer.feed("previous", steer_back(g, steer))
    found = budget(check(g.spec()))
    assert [path.nodes for path in found.paths] == [("cam", "steer", "blur")]
    assert {edge.fps for edge in found.edges} == {20}


def steer_back(g: Graph, steer: Any) -> Any:
    blur = g.add("blur", Blur, inputs={"frames": steer.edge(queue=1, full="block")})
    return blur.edge(queue=1, full="latest", back_edge=True)
