"""The GPU bench without a GPU: what it says, what it keeps, what one failing part costs."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from msgspec import structs
from msgspec.structs import replace

from bench.gpu import __main__ as gpu
from bench.gpu import operators, streams, timing, waits
from bench.gpu.__main__ import EXIT_NO_GPU, Outcome, main, merged, run_parts
from bench.gpu.engines import judged
from bench.gpu.tests import counts
from bench.result import Bar, Result, decode, machine_facts
from engine.check import check
from engine.device.report import Candidate
from engine.errors import DeviceError
from engine.testing import HarnessContext

MACHINE = machine_facts(0.0, 0.0)
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
    assert [path.name for path in tmp_path.iterdir()] == ["memory.json"]
    assert decode((tmp_path / "memory.json").read_bytes()).figures == GOOD.figures


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


def test_another_machine_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def one(name: str, limit_s: float) -> Outcome:
        asked.append(name)
        return GOOD

    real = gpu.machine_facts
    monkeypatch.setattr(gpu, "commit_id", lambda: "aaa")
    for name, load in (("T4", 0.5), ("T4", 3.0), ("H200", 0.5)):
        monkeypatch.setattr(
            gpu,
            "machine_facts",
            lambda *_, n=name, x=load: replace(real(0, 0), gpu=n, load_1m=x),
        )
        (result,) = run_parts(["memory"], again=False, folder=tmp_path, run_one=one)
        assert result.machine.gpu == name
    assert len(asked) == 2


def test_all_parts_become_one_result() -> None:
    parts = [Result(f"gpu-{name}", MACHINE, "aaa", *structs.astuple(GOOD)) for name in "ab"]
    made = merged(parts)
    assert made.figures == {"a_copies_gbps": 4000.0, "b_copies_gbps": 4000.0}
    assert [bar.key for bar in made.bars] == ["a_ratio", "b_ratio"]
    assert (made.name, made.commit, made.ok) == ("gpu", "aaa", True)


def test_an_unknown_part_is_refused_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["nosuch"])
    told = capsys.readouterr().err
    assert f"there is no part 'nosuch', only {', '.join(gpu.PARTS)}" in told
    assert "[]" not in told


CHOSEN = Candidate("inductor", "fp16", 2.0)


@pytest.mark.parametrize(
    ("others", "ratio"),
    [
        ([Candidate("eager", "fp32", 8.0), Candidate("eager", "fp16", 3.0)], 4.0),
        ([Candidate("eager", "fp32", why_not="OUT_OF_MEMORY")], 0.0),
    ],
)
def test_what_is_judged_is_the_chosen_one_by_eager_in_fp32(
    others: list[Candidate], ratio: float
) -> None:
    """Where eager could not be measured the bar is missed, and the other networks go on."""
    report = SimpleNamespace(candidates=(*others, CHOSEN), backend="inductor", precision="fp16")
    figures, bar = judged("net", report)  # type: ignore[arg-type]
    assert (bar.key, bar.got, bar.ok) == ("net_over_eager_fp32", ratio, ratio >= 1.5)
    assert figures["net_inductor_fp16_ms"] == 2.0
    assert "net_eager_fp32_ms" in figures or ratio == 0


def test_waits_are_those_that_the_profiler_does_not_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter(
        (
            Counter(cudaDeviceSynchronize=1),
            Counter(cudaDeviceSynchronize=1, cudaStreamSynchronize=3, cudaEventSynchronize=20),
        )
    )
    monkeypatch.setattr(timing, "_calls", lambda work: next(seen))
    assert timing.host_waits(lambda: None) == (3, 20)


@pytest.mark.needs_cuda
@pytest.mark.slow
def test_a_wait_is_counted() -> None:
    def wait() -> None:
        for _ in range(3):
            torch.ones(1, device="cuda").add_(1).item()
        torch.cuda.synchronize()

    assert timing.host_waits(wait).blocking >= 4
    assert timing.host_waits(lambda: None) == (0, 0)


def test_every_operator_whose_waits_are_counted_is_timed_too() -> None:
    assert waits.EVENTS.keys() <= operators.cases().keys()


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
