"""The GPU bench without a GPU: what it says, what it keeps, what one failing part costs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.gpu import __main__ as gpu
from bench.gpu import operators, streams
from bench.gpu.__main__ import EXIT_NO_GPU, Outcome, main, run_parts
from bench.gpu.tests import counts
from bench.result import Bar, decode
from engine.check import check
from engine.errors import DeviceError
from engine.testing import HarnessContext

GOOD = Outcome({"copies_gbps": 4000.0}, (Bar("ratio", "<= 1.15", 1.1, True),))


def test_without_a_gpu_it_says_why_and_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none() -> None:
        raise DeviceError("there is no NVIDIA driver")

    monkeypatch.setattr(gpu, "ask_driver", none)
    monkeypatch.setattr(gpu, "run_parts", lambda *_: pytest.fail("it ran"))
    assert main([]) == EXIT_NO_GPU
    assert "nothing was run: there is no NVIDIA driver" in capsys.readouterr().err


def test_a_part_that_fails_costs_itself_alone(tmp_path: Path) -> None:
    asked: list[str] = []

    def one(name: str, limit_s: float) -> Outcome:
        asked.append(name)
        if name == "tests":
            raise subprocess.TimeoutExpired("tests", limit_s)
        if name == "overlap":
            raise ValueError("ended with -11 and no result")
        return GOOD

    results = run_parts(["memory", "tests", "overlap"], again=False, folder=tmp_path, run_one=one)
    assert asked == ["memory", "tests", "overlap"]
    assert [result.name for result in results] == ["gpu-memory"]
    assert [path.name for path in tmp_path.iterdir()] == ["gpu-memory.json"]
    assert decode((tmp_path / "gpu-memory.json").read_bytes()).figures == GOOD.figures


def test_what_is_done_is_not_done_again_until_the_commit_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def one(name: str, limit_s: float) -> Outcome:
        asked.append(name)
        return GOOD

    for commit, again in (("aaa", False), ("aaa", False), ("aaa", True), ("bbb", False)):
        monkeypatch.setattr(gpu, "commit_id", lambda commit=commit: commit)
        (result,) = run_parts(["memory"], again=again, folder=tmp_path, run_one=one)
        assert (result.commit, result.ok) == (commit, True)
    assert len(asked) == 3
    monkeypatch.setattr(gpu, "commit_id", lambda: "bbb+")  # a checkout with changes says nothing
    run_parts(["memory"], again=False, folder=tmp_path, run_one=one)
    assert len(asked) == 4


def test_no_part_begins_when_the_time_is_over(tmp_path: Path) -> None:
    def one(name: str, limit_s: float) -> Outcome:
        pytest.fail(f"{name} ran")

    assert run_parts(["memory"], again=True, folder=tmp_path, run_one=one, all_s=0.0) == []


@pytest.mark.parametrize(
    ("last", "found"),
    [
        ("12 passed, 3 deselected in 4.1s", (12, 0, 0, 0)),
        ("1 failed, 2 passed, 1 error in 1s", (2, 1, 1, 0)),
        ("2 skipped, 7 deselected", (0, 0, 0, 2)),
        ("", (0, 0, 0, 0)),
    ],
)
def test_what_the_tests_said_is_counted(last: str, found: tuple[int, ...]) -> None:
    assert tuple(counts(f"....\n{last}\n").values()) == found


@pytest.mark.slow
def test_a_part_that_ends_without_a_result_is_no_figure() -> None:
    with pytest.raises(ValueError, match="ended with 2 and no result"):
        gpu.run_process("no-such-part", 50.0)


def test_the_graph_of_the_streams_is_right_without_a_gpu() -> None:
    """`check` asks no device: what is wrong with the graph shows here, not on a rented machine."""
    plan = check(streams.graph("clip.mp4", 3))
    on_gpu = [node.name for node in plan.nodes.values() if node.device == "cuda:0"]
    assert sorted(on_gpu) == ["camera", "detect", "encode"]
    assert len(plan.nodes["camera"].streams) == 3
    assert {edge.link for edge in plan.edges if edge.consumer in on_gpu} == {"inproc"}


@pytest.mark.slow
def test_what_is_timed_does_its_work() -> None:
    """On the processor, where the operator knows it: faces are encoded, the badge is drawn."""
    made = {}
    for name, operator in operators.cases().items():
        assert "cuda" in type(operator).devices
        if "cpu" in type(operator).devices:
            ctx = HarnessContext()
            operator.open(ctx)
            frame = operators.frame(0, operator, "yuv420p")
            made[name] = operator.process(operators.given(operator, frame)), frame
    encoded, _ = made["face_encode"]
    assert encoded.frames[0].data.shape[0] == len(operators.FACES)
    for name in ("overlay", "mark"):
        after, before = made[name]
        assert (after.data != before.data).any()
    assert set(made) == {"face_detect", "face_encode", "overlay", "mark"}


def test_every_part_is_a_module() -> None:
    folder = Path(gpu.__file__).parent
    for name in gpu.PARTS:
        assert "def run() ->" in (folder / f"{name}.py").read_text()
