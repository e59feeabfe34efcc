"""`predict` as it comes, in real processes, on a clip that lacks half a second."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.predict.feeds import view
from tests.system.cli import frameloom
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
