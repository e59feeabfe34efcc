"""A 720p clip: faces found, boxed, recorded; a graph beside a straight loop and GStreamer."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import gst
from bench.common import interleave, median, put, ratios, say
from bench.media import demo_clip, frame_count, short_clip
from bench.operators import FACES, FixedFaces
from bench.result import Bar, at_least, exactly
from bench.runs import running, unbalanced
from bench.straight import straight_loop
from engine.contract import Operator
from engine.graph import Graph
from engine.spec import BatchSpec, GraphSpec
from operators.face.detect import FaceDetect, FaceDetectConfig
from operators.sinks.mp4 import Mp4Sink, Mp4SinkConfig
from operators.sources.file import FileSource, FileSourceConfig
from operators.video.overlay import Overlay, OverlayConfig

RUN_S = 120.0
QUICK_S = 20.0  # after which --quick begins no further round


def run(quick: bool) -> tuple[dict[str, float], tuple[Bar, ...]]:
    """Everything with x264 ultrafast at CRF 23. Bars compare with one thread per library."""
    clip = short_clip() if quick else demo_clip()
    with tempfile.TemporaryDirectory(prefix="frameloom-bench-") as folder:
        job = Job(clip, Path(folder), frame_count(clip))
        cases = job.cases() if quick else job.cases() | job.more_cases()
        say(f"pipeline: {job.frames} frames through {', '.join(cases)}")
        rounds, warm_up, budget_s = (3, 0, QUICK_S) if quick else (5, 1, math.inf)
        fps = interleave(cases, rounds, warm_up=warm_up, budget_s=budget_s)
    figures: dict[str, float] = {"frames": job.frames}
    for name, values in fps.items():
        put(figures, f"{name}_fps", values)
    for name, size in job.sizes.items():
        figures[f"{name}_output_mib"] = round(size / 2**20, 2)
    bars = [at_least("detect_vs_straight", 1.5, _ratio(fps, "detect", "straight_detect"))]
    if gst.available():
        bars.append(at_least("draw_vs_gst_boxes", 1.2, _ratio(fps, "draw", "gst_boxes")))
    else:
        say("pipeline: gst-launch-1.0 is not installed; its bar counts as missed")
        bars.append(at_least("draw_vs_gst_boxes", 1.2, 0.0))
    bars.append(exactly("frames_missing", 0, job.missing))
    bars.append(exactly("unbalanced_edges", 0, job.unbalanced))
    return figures, tuple(bars)


def _ratio(fps: dict[str, list[float]], ours: str, theirs: str) -> float:
    return median(ratios(fps[ours], fps[theirs]))


@dataclass
class Job:
    """One clip, everything that is done with it, and what came out."""

    clip: Path
    folder: Path
    frames: int
    sizes: dict[str, int] = field(default_factory=dict)  # bytes of the last output, by case
    missing: int = 0
    unbalanced: int = 0

    def cases(self) -> dict[str, Callable[[], float]]:
        """What the bars need."""
        cases = {
            "detect": lambda: self.graph("detect", detecting(self.clip)),
            "straight_detect": lambda: self.straight("straight_detect", detectors(), 1),
            "draw": lambda: self.graph("draw", drawing(self.clip)),
        }
        if gst.available():
            boxes = gst.boxes(FACES, self.folder)
            cases["gst_boxes"] = lambda: self.gst("gst_boxes", boxes)
        return cases

    def more_cases(self) -> dict[str, Callable[[], float]]:
        """Without a bar: what the others reach when they use all cores as well."""
        cases = {
            "straight_detect_threads": lambda: self.straight(
                "straight_detect_threads", detectors(), 0
            ),
            "straight_draw": lambda: self.straight("straight_draw", drawers(), 1),
            "straight_draw_threads": lambda: self.straight("straight_draw_threads", drawers(), 0),
        }
        if gst.available():
            boxes = gst.boxes(FACES, self.folder)
            cases["gst_boxes_queues"] = lambda: self.gst("gst_boxes_queues", boxes, queues=True)
            cases["gst_text"] = lambda: self.gst("gst_text", gst.TEXT)
            cases["gst_text_queues"] = lambda: self.gst("gst_text_queues", gst.TEXT, queues=True)
        return cases

    def graph(self, name: str, spec: GraphSpec) -> float:
        """Frames per second from the moment the sources may go to the finished file."""
        with running(spec) as active:
            start = time.time()
            result = active.wait_end(RUN_S)
            file = active.out_dir / "clip.mp4"
            seconds = file.stat().st_mtime - start
            self.unbalanced += len(unbalanced(result.snapshot))
            return self._book(name, file, seconds)

    def straight(self, name: str, operators: list[Operator[Any]], threads: int) -> float:
        file = self.folder / f"{name}.mp4"
        return self._book(name, file, straight_loop(self.clip, file, operators, threads))

    def gst(self, name: str, draw: str, *, queues: bool = False) -> float:
        file = self.folder / f"{name}.mp4"
        command = gst.line(self.clip, file, draw, queues=queues)
        idle = gst.start_up_seconds()
        return self._book(name, file, gst.seconds(command) - idle)

    def _book(self, name: str, file: Path, seconds: float) -> float:
        self.sizes[name] = file.stat().st_size
        self.missing += abs(frame_count(file) - self.frames)
        file.unlink()
        return self.frames / seconds


def detecting(clip: Path) -> GraphSpec:
    """decode -> detect -> overlay -> encode, one lane each."""
    g = Graph("pipeline-detect", mode="file")
    source = g.add("clip", FileSource, FileSourceConfig(uri=str(clip), audio=False))
    frames = source.edge("frames", queue=4, full="block")
    detect = g.add(
        "detect",
        FaceDetect,
        FaceDetectConfig(model="full"),
        inputs={"frames": frames},
        batch=BatchSpec(max_size=1),
    )
    return _recorded(g, detect.edge(queue=4, full="block"))


def drawing(clip: Path) -> GraphSpec:
    """decode -> draw -> encode, one lane each."""
    g = Graph("pipeline-draw", mode="file")
    source = g.add("clip", FileSource, FileSourceConfig(uri=str(clip), audio=False))
    frames = source.edge("frames", queue=4, full="block")
    faces = g.add("faces", FixedFaces, inputs={"frames": frames})
    return _recorded(g, faces.edge(queue=4, full="block"))


def _recorded(g: Graph, frames: Any) -> GraphSpec:
    overlay = g.add("overlay", Overlay, OverlayConfig(), inputs={"frames": frames})
    recorded = overlay.edge(queue=4, full="block")
    g.add("file", Mp4Sink, Mp4SinkConfig(path="{stream}.mp4"), inputs={"frames": recorded})
    return g.spec()


def detectors() -> list[Operator[Any]]:
    return [FaceDetect(FaceDetectConfig(model="full")), Overlay(OverlayConfig())]


def drawers() -> list[Operator[Any]]:
    return [FixedFaces(FixedFaces.config_type()), Overlay(OverlayConfig())]
