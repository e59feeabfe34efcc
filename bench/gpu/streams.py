"""How many cameras of 1080p at 30 fps one GPU holds: decoded, searched, judged, all of it there.

`guard` without what draws, encodes and shows, live, on paced clips; twice as many streams each
time until frames are lost or late. Needs PyAV on the machine with the GPU.
"""

from __future__ import annotations

import time

import msgspec
import torch

from bench.common import quantile, say, significant
from bench.media import small_clip
from bench.operators import AgeSink, AgeSinkConfig
from bench.result import Bar
from bench.runs import running
from engine.graph import plain_config
from engine.loader import load_graph
from engine.spec import BatchSpec, EdgeSpec, GraphSpec, NodeSpec

FPS, SECONDS, WARM_UP_S = 30, 12, 4.0
MOST = 64
KEPT = ("camera", "detect", "track", "encode", "antispoof", "mask3d", "decision")
AGES = "age.npy"
MEBIBYTE = 1 << 20


def run() -> tuple[dict[str, float], tuple[Bar, ...]]:
    clip = str(small_clip(1920, 1080, FPS))
    figures: dict[str, float] = {"streams": 0}
    free_before = torch.cuda.mem_get_info()[0]
    count = 1
    while count <= MOST:
        with running(graph(clip, count)) as active:
            time.sleep(SECONDS)
            used = free_before - torch.cuda.mem_get_info()[0]
            active.finish()
            noted = active.ages(AGES)
        begin_ns = noted[0, 0] + int(WARM_UP_S * 1e9)
        ages = noted[noted[:, 0] >= begin_ns, 1] / 1e6
        fps = len(ages) / (SECONDS - WARM_UP_S) / count
        say(f"{count} streams: {fps:.1f} fps each, age p99 {quantile(ages, 99):.1f} ms")
        if fps < 0.98 * FPS:
            break
        figures["streams"] = count
        figures["age_p99_ms"] = significant(quantile(ages, 99))
        figures["memory_per_stream_mib"] = significant(used / count / MEBIBYTE)
        count *= 2
    return figures, ()


def graph(clip: str, count: int) -> GraphSpec:
    """The part of `guard` that judges, on cuda:0, for so many streams."""
    spec = load_graph("guard")
    nodes = {name: spec.nodes[name] for name in KEPT}
    for name in ("camera", "detect", "encode"):
        nodes[name] = msgspec.structs.replace(nodes[name], device="cuda:0")
    paced = {"uri": clip, "loop": True, "realtime": True, "audio": False}
    streams = {f"s{n}": {} for n in range(count)}
    nodes["camera"] = msgspec.structs.replace(nodes["camera"], config=paced, streams=streams)
    batch = BatchSpec(max_size=8, max_wait_ms=2)
    nodes["detect"] = msgspec.structs.replace(nodes["detect"], batch=batch)
    faces = {**nodes["encode"].config, "max_faces": 16}
    nodes["encode"] = msgspec.structs.replace(nodes["encode"], config=faces, worker="main")
    nodes["shown"] = NodeSpec(
        op=f"{AgeSink.__module__}:{AgeSink.__qualname__}",
        config=plain_config(AgeSinkConfig(path=AGES)),
        inputs={"frames": EdgeSpec(from_="decision.out", queue=4, full="drop_oldest")},
    )
    return msgspec.structs.replace(spec, mode="live", nodes=nodes, max_in_flight=None)
