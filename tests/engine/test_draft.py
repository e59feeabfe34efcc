"""Nodes before they are wired: what must be there on the disk."""

from __future__ import annotations

from pathlib import Path

from tests.engine.graphs import CAM, node, plan_of, problems_of


def test_a_checkpoint_that_is_not_there_is_told(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    nodes = {
        "cam": CAM,
        "model": node("WithWeights", {"frames": "cam"}, config={"weights": str(weights)}),
    }
    (problem,) = problems_of(nodes)
    assert problem.startswith(f"model|config.weights: there is no checkpoint {weights}")
    weights.touch()
    assert set(plan_of(nodes).nodes) == {"cam", "model"}
