"""What `doctor` makes of packages that work, are missing, raise, crash or hang."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from engine.catalog import known_operators
from engine.commands import doctor, doctor_graph
from engine.commands.console import EXIT_FAILED, EXIT_OK
from engine.commands.doctor import Asked, doctor_command, judge
from engine.commands.finding import Finding
from engine.commands.probes import (
    OPTIONAL,
    Outcome,
    Package,
    last_words,
    probe,
    probe_gpu,
    run_code,
)
from engine.device.backends import tensorrt_rtx
from engine.device.backends.inductor import why_no_compiler
from engine.errors import GraphError

UP = """
graph: up
mode: file
nodes:
  pattern:
    op: operators.sources.test_pattern:TestPattern
    config: {frames: 3}
  up:
    op: operators.video.transfer:ToDevice
    device: DEVICE
    inputs:
      frames: {from: pattern, queue: 1, full: block}
"""


FOUND_AND_RECORDED = """
  find:
    op: operators.face.detect:FaceDetect
    device: cuda:0
    batch: {max_size: 4, max_wait_ms: 5}
    inputs:
      frames: {from: up, queue: 1, full: block}
  draw:
    op: operators.video.overlay:Overlay
    device: cuda:0
    inputs:
      frames: {from: find, queue: 1, full: block}
  keep:
    op: operators.sinks.mp4:Mp4Sink
    device: cuda:0
    config: {path: kept.mp4}
    inputs:
      frames: {from: draw, queue: 1, full: block}
"""


def outcome(code: str, distribution: str = "numpy", *, required: bool = False) -> Outcome:
    (found,) = probe([Package(distribution, code, required)])
    return found


def test_a_package_that_works() -> None:
    found = outcome("import sys")
    assert found.works
    assert found.version
    assert judge(found) == Finding("numpy", "ok", found.version)


def test_a_package_that_is_missing() -> None:
    found = outcome("import nothing_like_it", "nothing-like-it")
    assert judge(found) == Finding("nothing-like-it", "missing", "not installed")
    required = outcome("import nothing_like_it", "nothing-like-it", required=True)
    assert judge(required).verdict == "broken"


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("raise RuntimeError('no driver')", "RuntimeError: no driver"),
        ("raise Exception('bare')", "Exception: bare"),
        ("assert False, 'bridge'", "AssertionError: bridge"),
        ("import ctypes; ctypes.string_at(0)", "crashed: killed by signal 11"),
    ],
)
def test_the_exact_cause_is_kept(code: str, cause: str) -> None:
    found = outcome(code)
    assert (found.works, found.note) == (False, cause)
    finding = judge(found)
    assert finding.verdict == "missing"
    assert finding.note.endswith(f"cannot be used: {cause}")


def test_one_that_hangs_is_given_up() -> None:
    assert run_code("import time; time.sleep(60)", 0.2) == (False, "gave no answer within 0.2 s")


def test_the_gpu_is_there_or_there_is_a_reason() -> None:
    found = {outcome.name: outcome for outcome in probe_gpu()}
    assert all(outcome.note for outcome in found.values())
    assert found["codecs"].works
    assert "h264" in found["codecs"].note
    compiler = found["C++ compiler"]
    assert compiler.works == (why_no_compiler("cpu") is None)
    assert "aot" in compiler.note or "C++" in compiler.note


def test_every_package_of_the_engines_is_looked_at() -> None:
    asked = {package.distribution for package in OPTIONAL}
    assert asked >= {"onnx", "onnxscript", "openvino", "tensorrt", "torch-tensorrt"}
    assert asked >= set(tensorrt_rtx.PACKAGES)


@pytest.mark.slow
def test_a_package_that_works_here_is_found_to_work() -> None:
    wanted = [p for p in OPTIONAL if p.distribution in {"openvino", tensorrt_rtx.PACKAGES[0]}]
    assert [found.works for found in probe(wanted)] == [True, True]


def test_what_an_exception_said_is_told_without_its_class() -> None:
    assert last_words("engine.errors.DeviceError: no driver: none") == "no driver: none"
    assert last_words("gave no answer within 60 s") == "gave no answer within 60 s"


def test_a_graph_that_asks_for_a_gpu_that_is_not_there_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "OPTIONAL", ())
    graph = tmp_path / "up.yaml"
    graph.write_text(UP.replace("DEVICE", "cuda:99"))
    assert doctor_command(Asked(str(graph), [], [], None), as_json=True) == EXIT_FAILED
    found = {f["what"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert found["cuda:99"]["verdict"] == "broken"
    assert found["cuda:99"]["note"].startswith("cannot run up: cuda:99 was asked for")
    assert found["cpu"]["note"] == "runs pattern, as the graph says"


def test_what_nodes_need_on_a_gpu_is_tried_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The device opens, CuPy does not compile: such a graph cannot run, and doctor says so."""
    tried: list[str] = []

    def run(code: str) -> tuple[bool, str]:
        tried.append(code)
        if "operators.kernels.launching" in code:
            return False, "ModuleNotFoundError: No module named 'cupy'"
        return True, ""

    monkeypatch.setattr(doctor, "OPTIONAL", ())
    monkeypatch.setattr(doctor_graph, "run_code", run)
    graph = tmp_path / "up.yaml"
    graph.write_text(UP.replace("DEVICE", "cuda:0") + FOUND_AND_RECORDED)
    assert doctor_command(Asked(str(graph), [], [], None), as_json=True) == EXIT_FAILED
    found = {f["what"]: f for f in json.loads(capsys.readouterr().out)["findings"]}
    assert found["cuda:0"]["verdict"] == found["NVENC on cuda:0"]["verdict"] == "ok"
    assert found["NVENC on cuda:0"]["note"] == "runs keep"
    kernels = found["kernels on cuda:0"]
    assert kernels["verdict"] == "broken"
    assert kernels["note"] == "cannot run find, draw: No module named 'cupy'"
    assert sum("try_nvenc('cuda:0')" in code for code in tried) == 1
    assert len(tried) == 3, "the device, NVENC, kernels; each once"


def test_a_device_that_is_not_there_is_the_whole_story(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor_graph, "run_code", lambda code: (False, "DeviceError: no driver"))
    graph = tmp_path / "up.yaml"
    graph.write_text(UP.replace("DEVICE", "cuda:0") + FOUND_AND_RECORDED)
    findings = doctor_graph.graph_findings(str(graph), [], [], None)
    assert [f.what for f in findings if f.verdict == "broken"] == ["cuda:0"]


def test_every_need_is_a_function_that_can_be_called() -> None:
    needs = {
        place
        for operator in known_operators().values()
        for place in operator.gpu_needs.values()
        if "cuda" in operator.devices
    }
    assert needs >= {"operators.kernels.launching:try_out", "operators.sources._cuda:try_out"}
    for place in needs:
        module, _, function = place.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_a_graph_that_is_wrong_does_not_cost_the_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "OPTIONAL", ())
    graph = tmp_path / "up.yaml"
    graph.write_text(UP.replace("DEVICE", "gpu"))
    with pytest.raises(GraphError, match="there is no device 'gpu'"):
        doctor_command(Asked(str(graph), [], [], None), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert not told["ok"]
    assert "codecs" in {finding["what"] for finding in told["findings"]}


def test_a_graph_that_can_run_is_exit_code_0(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "OPTIONAL", ())
    assert doctor_command(Asked("test-pattern", [], [], None), as_json=True) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["ok"]


def test_something_required_that_is_broken_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "OPTIONAL", (Package("torch", "raise SystemError"),))
    monkeypatch.setattr(doctor, "REQUIRED", (Package("numpy", "import numpy", required=True),))
    assert doctor_command(as_json=True) == EXIT_OK
    monkeypatch.setattr(doctor, "REQUIRED", (Package("numpy", "raise ImportError", required=True),))
    assert doctor_command(as_json=False) == EXIT_FAILED
    assert "BROKEN" in capsys.readouterr().out


def test_little_shared_memory_is_told_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "SHM_WANTED_BYTES", 1 << 60)
    memory, _ = doctor._shared_memory(tmp_path)
    assert memory.verdict == "missing"
    assert "--shm-size" in memory.note
    (gone,) = doctor._shared_memory(tmp_path / "gone")
    assert "copied through sockets" in gone.note
