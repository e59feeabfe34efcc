"""Every graph that comes along runs on a clip with sound, and gives a film that plays."""

from __future__ import annotations

from pathlib import Path

import av
import pytest

from tests.operators.media import write_clip
from tests.operators.models import random_ar_diffusion
from tests.system.cli import ROOT, frameloom

pytestmark = pytest.mark.slow
GRAPHS = sorted(path.stem for path in (ROOT / "graphs").glob("*.yaml"))
WITHOUT_INPUT = {"test-pattern", "dream"}
MODEL_NODES = {"dream": "dream", "dream-on": "carry"}  # those that need a video model


def settings(name: str) -> tuple[str, ...]:
    """What a graph needs to end by itself, without trained weights."""
    given = ("--mode", "file", "--set", "dream.frames=10") if name == "dream" else ()
    if name in MODEL_NODES:
        given += ("--set", f"{MODEL_NODES[name]}.checkpoint={random_ar_diffusion()}")
    return given


def streams_of(path: Path) -> dict[str, int]:
    """How many packets of each kind, those before time 0 (the decoder's run-up) left out."""
    with av.open(str(path)) as container:
        found = dict.fromkeys((stream.type for stream in container.streams), 0)
        for packet in container.demux():
            if packet.size and packet.pts >= 0:
                found[packet.stream.type] += 1
        return found


@pytest.mark.parametrize("name", GRAPHS)
def test_it_runs(tmp_path: Path, name: str) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=25, size=(160, 96), sound=True)
    inputs = () if name in WITHOUT_INPUT else (clip,)
    arguments = ("run", name, *inputs, *settings(name), "--no-page", "--json", "--out", "o")
    done = frameloom(*arguments, folder=tmp_path)
    assert done.code == 0, done.err
    (film,) = (tmp_path / "o").glob("*.mp4")
    if inputs:
        assert streams_of(film) == streams_of(clip)
    assert all(edge["in_flight"] == 0 for edge in done.data["edges"].values())
    assert done.data["drops"] == {}


@pytest.mark.parametrize("source", ["rtsp://10.0.0.5/door", "/dev/video0"])
@pytest.mark.parametrize("name", sorted(set(GRAPHS) - WITHOUT_INPUT))
def test_it_takes_cameras(tmp_path: Path, name: str, source: str) -> None:
    done = frameloom("check", name, source, *settings(name), folder=tmp_path)
    assert done.code == 0, done.err
    assert "mode live" in done.out
