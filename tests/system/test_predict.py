"""`predict` as it comes, in real processes, on a clip that lacks half a second."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from bench.faults import FaultyFeed, FaultyFeedConfig
from engine import OpContext, Operator
from engine.check import check
from engine.contract import Marked
from engine.graph import Graph
from engine.runtime.supervisor import Run
from operators.ports import Video
from operators.predict.conceal import Conceal, ConcealConfig
from operators.predict.records import Concealed
from operators.video.mark import Mark
from tests.predict.feeds import view
from tests.system.cli import frameloom
from tests.system.faults import assert_settled, finish, wait_for
from tests.system.test_cli_graphs import streams_of

pytestmark = pytest.mark.slow
FRAMES = 60
GAP = range(20, 32)
SIZE = (160, 96)
BADGE = (slice(0, 16), slice(0, 20))  # inside the badge of `Mark`, rows and columns


def write_clip(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        video.codec_context.time_base = Fraction(1, 25)
        for n in set(range(FRAMES)) - set(GAP):
            frame = av.VideoFrame.from_ndarray(view(n, *SIZE) // 4, format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


@pytest.mark.parametrize("motion", ["fitted", "frozen"])
def test_the_gap_of_a_clip_is_filled_and_marked(tmp_path: Path, motion: str) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    assert streams_of(clip)["video"] == FRAMES - len(GAP)
    arguments = ("run", "predict", clip, "--no-page", "--json", "--out", "o")
    done = frameloom(*arguments, "--set", f"conceal.motion={motion}", folder=tmp_path)
    assert done.code == 0, done.err
    (film,) = (tmp_path / "o").glob("*.mp4")
    with av.open(str(film)) as container:
        lumas = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(lumas) == FRAMES
    marked = [n for n, luma in enumerate(lumas) if np.median(luma[BADGE]) > 100]
    assert marked[: len(GAP)] == list(GAP), "and some while it is handed back"
    assert marked[-1] < FRAMES - 1
    assert done.data["drops"] == {}


class Parts(Operator):  # type: ignore[type-arg]
    """Writes of each frame what it is, and whether it is synthetic and marked."""

    def open(self, ctx: OpContext) -> None:
        self._file = ctx.enter(ctx.output_path("parts.txt").open("w", buffering=1))

    def process(self, frames: Video) -> None:
        said, marked = frames.of(Concealed), bool(frames.of(Marked))
        part = said[0].part.replace(" ", "-") if said else "captured"
        self._file.write(f"{part} {frames.stamp.synthetic:d} {marked:d} {frames.stamp.pts}\n")


def test_live_a_stalled_feed_goes_on_with_marked_frames(tmp_path: Path) -> None:
    """How late they are is measured by `bench conceal`, on a machine that does nothing else."""
    clip = write_clip(tmp_path / "clip.mp4")
    g = Graph("stalled", mode="live")
    feed = FaultyFeedConfig(path=str(clip), pictures=40, key_every=30, stall_ms=700, lost=0)
    camera = g.add("camera", FaultyFeed, feed)
    edge = camera.edge("frames", queue=30, full="drop_oldest")
    made = g.add("conceal", Conceal, ConcealConfig(), inputs={"frames": edge})
    mark = g.add("mark", Mark, inputs={"frames": made.edge(queue=8, full="block")})
    g.add("parts", Parts, inputs={"frames": mark.edge(queue=8, full="block")})

    def parts() -> list[list[str]]:
        path = tmp_path / "parts.txt"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    with Run(check(g.spec()), tmp_path) as run:
        wait_for(lambda: sum(row[0] == "made" for row in parts()) >= 5, 20, "made frames")
        result = finish(run)
    assert result.exit_code == 0, result.failures
    assert_settled(result)
    assert all(synthetic == marked == str(int(part != "captured"))
               for part, synthetic, marked, _ in parts())  # fmt: skip
    shown = [int(row[3]) for row in parts()]
    assert shown == sorted(set(shown))
