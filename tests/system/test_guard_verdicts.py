"""`guard` as a door sees it: what it is told of a face, and that nothing broken is told `live`."""

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
from engine.errors import GraphError
from engine.loader import load_graph
from engine.runtime.supervisor import Run, RunResult
from engine.spec import GraphSpec
from tests.operators.faces import astronaut
from tests.operators.models import (
    DIM,
    backbone_sha,
    certain_head,
    random_compact,
    save_random_head,
)
from tests.system.faults import assert_settled, codes, finish, frames, kill_worker, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_tempdir")]
FRAMES = 60
ODD = "tests.system.pad_operators"
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def models() -> None:
    """Made before any test looks at what is left behind in the temporary folder."""
    backbone_sha()
    for log_odds in (4.0, -4.0):
        certain_head(log_odds)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return door(tmp_path_factory.mktemp("clip") / "door.mp4", FRAMES)


def door(path: Path, count: int) -> Path:
    """A person who stands at the door and sways; 640x360, 25 Hz."""
    portrait = astronaut()[:360]
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 640, 360, "yuv420p"
        for number in range(count):
            scene = np.full((360, 640, 3), 90, np.uint8)
            left = 64 + round(8 * np.sin(number / 6))
            scene[:, left : left + 512] = portrait
            frame = av.VideoFrame.from_ndarray(scene, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    return path


def guard(clip: Path, *, live: bool = False, **antispoof: Any) -> GraphSpec:
    """The shipped graph with tiny models and one head; `antispoof` is that node's config.

    The mask head is left out and not required: here one head is enough.
    """
    spec = load_graph("guard")
    op = antispoof.pop("op", spec.nodes["antispoof"].op)
    configs: dict[str, dict[str, Any]] = {
        "camera": {"uri": str(clip), "loop": live, "realtime": live},
        "encode": {"checkpoint": str(random_compact()), "max_faces": 1},
        "antispoof": {"checkpoint": str(certain_head(4.0))} | antispoof,
        "decision": {"required": ["antispoof"]},
    }
    nodes = {name: node for name, node in spec.nodes.items() if name != "mask3d"}
    for name, config in configs.items():
        nodes[name] = msgspec.structs.replace(nodes[name], config=config)
    decision = nodes["decision"]
    inputs = {port: edge for port, edge in decision.inputs.items() if port != "mask3d"}
    nodes["decision"] = msgspec.structs.replace(decision, inputs=inputs)
    nodes["antispoof"] = msgspec.structs.replace(nodes["antispoof"], op=op)
    return msgspec.structs.replace(spec, mode="live" if live else "file", nodes=nodes)


def run(spec: GraphSpec, out: Path) -> RunResult:
    with Run(check(spec), out) as running:
        assert running.wait(30), running.snapshot()
    return running.close()


def events(out: Path) -> Rows:
    path = out / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def verdicts(out: Path) -> Rows:
    return [event for event in events(out) if event["kind"] == "verdict"]


def outcomes(out: Path) -> list[str]:
    return [event["outcome"] for event in verdicts(out)]


# ---- on a file


@pytest.mark.parametrize(
    ("log_odds", "outcome", "attack"), [(4.0, "live", ""), (-4.0, "spoof", "presentation")]
)
def test_a_verdict_is_an_event_when_it_changes(
    log_odds: float, outcome: str, attack: str, clip: Path, tmp_path: Path
) -> None:
    result = run(guard(clip, checkpoint=str(certain_head(log_odds))), tmp_path)
    assert result.exit_code == 0, result.failures
    assert_settled(result)
    first, second = verdicts(tmp_path)
    assert (first["outcome"], first["opens"]) == ("unsure", False)
    assert first["reason"]
    assert (second["outcome"], second["attack"]) == (outcome, attack)
    assert second["opens"] == (outcome == "live")
    assert second["pts_seconds"] > first["pts_seconds"] + 0.5, "not without enough evidence"
    assert second["age_ms"] <= 300
    assert second["n_scored"] >= 4
    assert abs(second["score"]) == pytest.approx(4.0, abs=0.01)
    assert second["checkpoints"][0].startswith("antispoof:")


def test_one_process_or_two_tell_the_same(clip: Path, tmp_path: Path) -> None:
    spec = guard(clip)
    together = {
        name: msgspec.structs.replace(node, worker="main") for name, node in spec.nodes.items()
    }
    placements = {
        "beside": spec,
        "together": msgspec.structs.replace(spec, nodes=together, workers={}),
    }
    for name, placed in placements.items():
        assert run(placed, tmp_path / name).exit_code == 0
    for file in ("camera.mp4", "events.jsonl"):
        assert len({(tmp_path / name / file).read_bytes() for name in placements}) == 1


def missing(path: Path) -> Path:
    return path


def corrupt(path: Path) -> Path:
    path.write_bytes(save_random_head(path).read_bytes()[:-7])
    return path


def of_another_shape(path: Path) -> Path:
    return save_random_head(path, certain_calibration(), dim=DIM + 3)


def of_other_weights(path: Path) -> Path:
    return save_random_head(path, certain_calibration(), backbone_sha="e" * 64)


def certain_calibration() -> Any:
    from operators.nn.pad.calibration import LabelledCalibration

    return LabelledCalibration(1.0, 50.0, "logit")


def with_doors(spec: GraphSpec, doors: dict[str, dict[str, Any]]) -> GraphSpec:
    """More doors on the same features: by name, what its anti-spoofing node is configured with."""
    nodes = dict(spec.nodes)

    def moved(name: str, door: str, **changes: Any) -> None:
        sources = {"antispoof.out", "decision.out", "events.out"}
        inputs = {
            port: msgspec.structs.replace(edge, from_=edge.from_.replace(".", f"-{door}."))
            if edge.from_ in sources
            else edge
            for port, edge in spec.nodes[name].inputs.items()
        }
        node = msgspec.structs.replace(spec.nodes[name], inputs=inputs, **changes)
        nodes[f"{name}-{door}"] = node

    for door, config in doors.items():
        moved("antispoof", door, config=config)
        moved("decision", door)
        moved("events", door)
        moved("log", door, config={"path": f"{door}/events.jsonl"})
    return msgspec.structs.replace(spec, nodes=nodes)


def test_with_a_checkpoint_that_does_not_do_nobody_is_live(clip: Path, tmp_path: Path) -> None:
    makers = {
        make.__name__: make for make in (missing, corrupt, of_another_shape, of_other_weights)
    }
    doors = {
        name.replace("_", "-"): {"checkpoint": str(make(tmp_path / name)), "required": False}
        for name, make in makers.items()
    }
    result = run(with_doors(guard(clip), doors), tmp_path / "out")
    assert result.exit_code == 0, result.failures
    assert outcomes(tmp_path / "out") == ["unsure", "live"], "the door with a good one"
    assert [outcomes(tmp_path / "out" / door) for door in doors] == [["unsure"]] * len(doors)
    told = [event.code for event in result.snapshot.events if event.node.startswith("antispoof-")]
    assert sorted(told) == ["BAD_CHECKPOINT", "NOT_JUDGED", "NOT_JUDGED", "NO_CHECKPOINT"]
    assert result.snapshot.nodes["video"].frames == FRAMES, "the film is whole"


def test_a_door_that_cannot_judge_says_so_before_it_starts(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(GraphError, match=r"antispoof[\s\S]*there is no checkpoint .*gone"):
        check(guard(clip, checkpoint=str(tmp_path / "gone.safetensors")))
    bad = corrupt(tmp_path / "bad.safetensors")
    result = run(guard(clip, checkpoint=str(bad)), tmp_path / "out")
    assert result.exit_code == 1
    failure = result.failures[0]
    assert (failure.node, failure.code) == ("antispoof", "BAD_CHECKPOINT")
    assert "bad.safetensors" in failure.message
    assert "live" not in outcomes(tmp_path / "out")


def test_a_mask_head_that_is_missing_keeps_the_door_shut(clip: Path, tmp_path: Path) -> None:
    spec, shipped = guard(clip), load_graph("guard").nodes
    absent = {"checkpoint": str(tmp_path / "gone.safetensors"), "required": False}
    nodes = {
        **spec.nodes,
        "mask3d": msgspec.structs.replace(shipped["mask3d"], config=absent),
        "decision": msgspec.structs.replace(shipped["decision"], config={}),
    }
    assert run(msgspec.structs.replace(spec, nodes=nodes), tmp_path).exit_code == 0
    (verdict,) = verdicts(tmp_path)
    assert verdict["outcome"] == "unsure"


def test_a_head_that_begins_to_fail_takes_live_back(clip: Path, tmp_path: Path) -> None:
    result = run(guard(clip, op=f"{ODD}:FailingAntiSpoof"), tmp_path)
    assert "QUARANTINED" in codes(result.snapshot)
    assert result.snapshot.nodes["video"].frames == FRAMES, "the film is whole"
    assert outcomes(tmp_path) == ["unsure", "live", "unsure"]
    assert "stale" in verdicts(tmp_path)[-1]["reason"]


# ---- live


def test_a_judge_that_dies_takes_live_back_and_comes_again(tmp_path: Path) -> None:
    long = door(tmp_path / "long.mp4", 400)  # a break of its own would hide what is looked for
    with Run(check(guard(long, live=True)), tmp_path) as run:
        wait_for(lambda: "live" in outcomes(tmp_path), 15, "a live verdict")
        begin = len(outcomes(tmp_path))
        kill_worker(run, "judge")
        wait_for(lambda: len(outcomes(tmp_path)) > begin, 3, "the live verdict gone")
        gone = verdicts(tmp_path)[begin]
        film = frames(run, "video")
        wait_for(lambda: frames(run, "video") > film + 10, 3, "the film to go on")
        wait_for(lambda: "live" in outcomes(tmp_path)[begin:], 20, "live again by its next life")
        result = finish(run)
    assert_settled(result)
    assert (gone["outcome"], gone["opens"]) == ("unsure", False)
    assert gone["reason"] == "antispoof: no report", "what a former life said does not count"


def test_a_slow_head_does_not_hold_up_the_film(clip: Path, tmp_path: Path) -> None:
    with Run(check(guard(clip, live=True, op=f"{ODD}:SlowAntiSpoof")), tmp_path) as run:
        wait_for(lambda: frames(run, "antispoof") >= 1, 15, "the first slow verdict")
        film, judged = frames(run, "video"), frames(run, "antispoof")
        used_s = wait_for(lambda: frames(run, "video") >= film + 50, 4, "two seconds of film")
        judged = frames(run, "antispoof") - judged
        result = finish(run)
    assert used_s < 3, "25 Hz, though a batch of verdicts takes ten frames"
    assert judged < 50
    assert_settled(result)
    assert all(
        event["age_ms"] is None or event["age_ms"] <= 600
        for event in verdicts(tmp_path)
        if event["opens"]
    )
