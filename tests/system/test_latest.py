"""Nodes that use the latest of something beside their frames: how they begin, go on and end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.runtime.supervisor import Run
from tests.engine.graphs import plan_of
from tests.system.faults import assert_settled, finish, kill_worker, op, records, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_tempdir")]
PLACED = pytest.mark.parametrize("worker", ["main", "far"])


def steered(worker: str) -> dict[str, Any]:
    return {
        "cam": op("Count", config={"fps": 100}),
        "steer": op("Count", config={"fps": 20}, worker=worker),
        "node": op("Steered", {"frames": "cam", "steer": {"from": "steer"}}),
        "rec": op("Recorder", {"frames": "node"}),
    }


def values(out: Path) -> list[int]:
    """What the recorder has seen so far: frames of `steer` by number."""
    path = out / "seen.txt"
    return [byte for *_, byte in records(path)] if path.exists() else []


@PLACED
def test_one_value_serves_many_frames_and_the_end_waits_for_none(
    worker: str, tmp_path: Path
) -> None:
    with Run(plan_of(steered(worker), mode="live"), tmp_path) as run:
        wait_for(lambda: 10 in values(tmp_path), 10, "steered by the 11th frame")
        result = finish(run, 4)
    assert result.exit_code == 0, result.failures
    assert_settled(result)
    found = values(tmp_path)
    assert 255 not in found, "it waits for the first value"
    assert found == sorted(found), "always the newest value there is"
    assert len(set(found)) < len(found) / 2


def test_a_node_goes_on_when_who_steers_dies(tmp_path: Path) -> None:
    with Run(plan_of(steered("far"), mode="live"), tmp_path) as run:
        wait_for(lambda: 10 in values(tmp_path), 10, "steered by the 11th frame")
        kill_worker(run, "far")
        wait_for(lambda: values(tmp_path)[-1] < 10, 3, "the second life, which counts from 0")
        result = finish(run, 4)
    assert result.exit_code == 3, result.failures
    assert_settled(result)
    assert 255 not in values(tmp_path)


@PLACED
def test_what_comes_round_is_not_waited_for_and_the_end_is_found(
    worker: str, tmp_path: Path
) -> None:
    nodes = {
        "cam": op("Count", config={"frames": 50}),
        "node": op("Steered", {"frames": "cam", "steer": {"from": "pass", "back_edge": True}}),
        "pass": op("Pass", {"frames": "node"}, worker=worker),
        "rec": op("Recorder", {"frames": "pass"}),
    }
    with Run(plan_of(nodes, mode="file"), tmp_path) as run:
        assert run.wait(6), run.snapshot()
    result = run.close()
    assert result.exit_code == 0, result.failures
    assert_settled(result)
    assert values(tmp_path) == [255] * 50, "the first frame found nothing, and that came round"
