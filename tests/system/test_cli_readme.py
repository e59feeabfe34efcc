"""The examples of the README do what it says."""

from __future__ import annotations

import re
from pathlib import Path

import av
import pytest

from tests.operators.media import write_clip
from tests.system.cli import ROOT, frameloom

README = (ROOT / "README.md").read_text(encoding="utf-8")
pytestmark = pytest.mark.slow


def example(language: str) -> str:
    """The only block of that language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(found)


def mean_luma(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        return [float(frame.to_ndarray(format="gray").mean()) for frame in frames]


def test_the_graph_of_ones_own_runs(tmp_path: Path) -> None:
    assert len(example("yaml").splitlines()) == 12
    (tmp_path / "boxes.yaml").write_text(example("yaml"))
    clip = write_clip(tmp_path / "clip.mp4", frames=20)
    done = frameloom("run", "boxes.yaml", clip, "--no-page", folder=tmp_path)
    assert done.code == 0, done.err
    (made,) = (tmp_path / "out" / "boxes").glob("*.mp4")
    assert len(mean_luma(made)) == 20


def test_the_operator_of_ones_own_runs(tmp_path: Path) -> None:
    assert len([line for line in example("python").splitlines() if line]) <= 12
    (tmp_path / "darken.py").write_text(example("python"))
    graph = (
        example("yaml")
        .replace("operators.video.overlay:Overlay", "darken:Darken")
        .replace("graph: boxes", "graph: dark")
    )
    (tmp_path / "dark.yaml").write_text(graph)
    clip = write_clip(tmp_path / "clip.mp4", frames=20)
    arguments = ("run", "dark.yaml", clip, "--no-page", "--set", "overlay.keep=0.25")
    done = frameloom(*arguments, folder=tmp_path)
    assert done.code == 0, done.err
    (made,) = (tmp_path / "out" / "dark").glob("*.mp4")
    for dark, light in zip(mean_luma(made), mean_luma(clip), strict=True):
        assert dark < light / 2


def test_links_lead_to_files() -> None:
    links = re.findall(r"`((?:engine|graphs|bench|operators|tests)/[\w./-]+)`", README)
    assert "engine/ARCHITECTURE.md" in links
    made_by_bench = "bench/README.md"
    assert [path for path in links if path != made_by_bench and not (ROOT / path).exists()] == []
