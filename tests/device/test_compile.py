"""`compile_module` on a processor: every backend for real, every refusal, the choice of `auto`."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from engine.device import choice
from engine.device.backends import NAMES, aot, backend_named, eager, onnxruntime, openvino
from engine.device.backends.protocol import CUDA_ONLY
from engine.device.compile import FP16_NOTE, build_engine, compile_chosen, compile_module
from engine.device.engines import EngineCacheWarning
from engine.device.report import Precision, Report
from engine.errors import CompileError, DeviceError
from tests.device.modules import Found, Tiny, Twice, images

pytestmark = pytest.mark.slow  # an export takes a third of a second, ONNX another
CPU = [("eager", "fp32"), ("eager", "bf16"), ("onnxruntime", "fp32"), ("openvino", "fp32")]
ROOT = Path(__file__).parents[2]
KEEPING = {"onnxruntime": onnxruntime.OnnxRuntime, "openvino": openvino.OpenVino}


def refuse(*_: Any) -> bytes:
    raise AssertionError("a hit must not build")


@pytest.mark.parametrize(("backend", "precision"), CPU)
def test_it_computes_the_same(backend: str, precision: Precision, tmp_path: Path) -> None:
    module, x = Tiny(), images(seed=7)
    before = copy.deepcopy(module.state_dict())
    compiled = compile_module(
        module, images(), precision=precision, backend=backend, cache=tmp_path
    )
    found = compiled(x)
    with torch.inference_mode():
        wanted = module(x)
    assert isinstance(found, Found)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=0, atol=0.03 if precision == "bf16" else 1e-5)
    torch.testing.assert_close(compiled(images=x).scores, found.scores)
    assert module.training
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    report = compiled.report
    assert (report.backend, report.precision, report.device) == (backend, precision, "cpu")
    assert (report.inputs, report.outputs) == (
        ("float32[2,3,16,16]",),
        ("float32[2,4]", "float32[2,8]"),
    )
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    compiled.close()


def test_outputs_are_left_alone_by_later_calls(tmp_path: Path) -> None:
    for backend, precision in CPU:
        compiled = compile_module(
            Tiny(), images(), precision=precision, backend=backend, cache=tmp_path
        )
        first = compiled(images(seed=1)).scores
        kept = first.clone()
        compiled(images(seed=2))
        assert torch.equal(first, kept), backend


@pytest.mark.parametrize("backend", KEEPING)
def test_a_second_start_builds_nothing(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compile_module(Tiny(), images(), backend=backend, cache=tmp_path)
    monkeypatch.setattr(KEEPING[backend], "build", refuse)
    second = compile_module(Tiny(), images(), backend=backend, cache=tmp_path)
    assert (first.report.from_cache, second.report.from_cache) == (False, True)
    assert first.report.key == second.report.key
    assert torch.equal(first(images()).scores, second(images()).scores)
    with pytest.raises(CompileError, match="a hit must not build"):  # another weight: another key
        compile_module(Tiny(seed=1), images(), backend=backend, cache=tmp_path)


@pytest.mark.parametrize("backend", KEEPING)
def test_a_truncated_engine_is_built_again(backend: str, tmp_path: Path) -> None:
    compile_module(Tiny(), images(), backend=backend, cache=tmp_path).close()
    (path,) = tmp_path.glob("*.engine")
    path.write_bytes(path.read_bytes()[:-7])
    again = compile_module(Tiny(), images(), backend=backend, cache=tmp_path)
    assert not again.report.from_cache
    assert "was built again" in again.report.notes[0]
    torch.testing.assert_close(again(images()).scores, Tiny()(images()).scores.detach())


def test_without_a_cache_it_works_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(EngineCacheWarning):
        compiled = compile_module(
            Tiny(), images(), backend="onnxruntime", cache=tmp_path / "file" / "engines"
        )
    assert "engines cannot be kept" in compiled.report.notes[0]
    assert compiled(images()).scores.shape == (2, 4)


@pytest.mark.parametrize("backend", ["eager", "onnxruntime", "openvino"])
def test_sizes_within_ranges(backend: str, tmp_path: Path) -> None:
    compiled = compile_module(
        Tiny(), images(), backend=backend, cache=tmp_path, dynamic={"images": {0: (1, 8)}}
    )
    for count in (1, 3, 8):
        x = images(count, seed=count)
        torch.testing.assert_close(compiled(x).scores, Tiny()(x).scores.detach())
    with pytest.raises(CompileError, match=r"float32\[9,3,16,16\] .* made for float32\[1\.\.8,3"):
        compiled(images(9))


@pytest.mark.parametrize("backend", ["eager", "onnxruntime", "openvino"])
def test_several_inputs_and_a_dictionary(backend: str, tmp_path: Path) -> None:
    example = (torch.ones(3, 4), torch.arange(3))
    compiled = compile_module(Twice(), example, backend=backend, cache=tmp_path)
    found = compiled(torch.full((3, 4), 4.0), places=torch.tensor([7, 8, 9]))
    assert found["twice"][0].tolist() == [8.0] * 4
    assert found["next"][0].tolist() == [8, 9, 10]
    strided = torch.arange(12.0).reshape(4, 3).T
    torch.testing.assert_close(compiled(strided, example[1])["twice"], 2 * strided)


WRONG_INPUTS: dict[str, Callable[[], tuple[torch.Tensor, ...]]] = {
    "size": lambda: (images(3),),
    "rank": lambda: (images()[0],),
    "type": lambda: (images().half(),),
    "count": lambda: (images(), images()),
    "device": lambda: (images().to("meta"),),
}


@pytest.mark.parametrize("wrong", WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_inputs_that_it_was_not_made_for(wrong: Callable[[], tuple[torch.Tensor, ...]]) -> None:
    compiled = compile_module(Tiny(), images(), backend="eager")
    with pytest.raises(CompileError, match="BAD_INPUT"):
        compiled(*wrong())


def test_a_name_that_forward_does_not_have() -> None:
    compiled = compile_module(Tiny(), images(), backend="eager")
    with pytest.raises(CompileError, match=r"BAD_INPUT: the inputs do not fit forward: .*'images'"):
        compiled(image=images())


def test_fp16_is_bf16_on_a_processor_and_says_so() -> None:
    compiled = compile_module(Tiny(), images(), precision="fp16", backend="eager")
    assert compiled.report.precision == "bf16"
    assert compiled.report.asked_precision == "fp16"
    assert compiled.report.notes == (FP16_NOTE,)


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "backend": ({"backend": "openvin"}, "NO_BACKEND", "did you mean 'openvino'"),
    "precision": ({"precision": "fp8"}, "BAD_INPUT", "no precision 'fp8'"),
    "of backend": ({"backend": "onnxruntime", "precision": "bf16"}, "NO_BACKEND", "fp32 only"),
    "gpu backend": ({"backend": "tensorrt_rtx"}, "NO_BACKEND", "for NVIDIA GPUs only: device cuda"),
    "device": ({"device": "tpu"}, "NO_DEVICE", "cpu, cuda or cuda:N"),
    "index": ({"device": "cuda:x"}, "NO_DEVICE", "cpu, cuda or cuda:N"),
    "name": ({"dynamic": {"image": {0: (1, 8)}}}, "BAD_INPUT", "did you mean 'images'"),
    "range": ({"dynamic": {"images": {0: (3, 8)}}}, "BAD_INPUT", "cannot have .3, 8. at 0"),
    "place": ({"dynamic": {"images": {4: (1, 8)}}}, "BAD_INPUT", "at 4"),
    "half a size": ({"dynamic": {"images": {0: (1.5, 8)}}}, "BAD_INPUT", "whole numbers"),
    "no range": ({"dynamic": {"images": {0: 8}}}, "BAD_INPUT", "least and most"),
    "tolerance": ({"tolerance": -1}, "BAD_INPUT", "a tolerance of -1: .* 0 or more"),
    "endless": ({"tolerance": float("inf")}, "BAD_INPUT", "a tolerance of inf"),
}


@pytest.mark.parametrize(("options", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_had_is_an_error(options: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(DeviceError, match=words) as caught:
        compile_module(Tiny(), images(), **{"backend": "eager", **options})
    assert isinstance(caught.value, CompileError)
    assert caught.value.code == code


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "missing", lambda *_, extra: f"gone: pip install '[{extra}]'")
    with pytest.raises(CompileError, match=r"openvino cannot be had.*pip install '\[compile\]'"):
        compile_module(Tiny(), images(), backend="openvino")


@pytest.mark.parametrize("example", [(), 3, (1.0,), (images(), images())])
def test_examples_that_do_not_fit(example: Any) -> None:
    given = example if isinstance(example, tuple) else (example,)
    with pytest.raises(CompileError, match="the example"):
        compile_module(Tiny(), given, backend="eager")


def test_what_cannot_be_exported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Branching(Tiny):
        def forward(self, images: torch.Tensor) -> Found:
            return super().forward(images if images.sum() > 0 else -images)

    with pytest.raises(CompileError, match="cannot be exported as a graph") as caught:
        compile_module(Branching(), images(), cache=tmp_path)
    assert caught.value.code == "BUILD_FAILED"
    assert capfd.readouterr() == ("", ""), "the error says it, torch's own pages do not"
    assert compile_module(Branching(), images(), backend="eager")(images()).scores.shape == (2, 4)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "OUT_OF_MEMORY"),
        (RuntimeError("[Cuda] Error: out of memory"), "OUT_OF_MEMORY"),
        (MemoryError(), "OUT_OF_MEMORY"),
        (RuntimeError("an operator is unknown\nand more"), "BUILD_FAILED"),
    ],
)
def test_builders_that_fail(
    error: Exception, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> bytes:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(onnxruntime.OnnxRuntime, "build", fail)
        with pytest.raises(CompileError, match="Tiny by onnxruntime in fp32 on cpu") as caught:
            compile_module(Tiny(), images(), backend="onnxruntime", cache=tmp_path)
    assert caught.value.code == code
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    again = compile_module(Tiny(), images(), backend="onnxruntime", cache=tmp_path)
    assert not again.report.from_cache


def spoil(monkeypatch: pytest.MonkeyPatch, kind: type) -> None:
    """A backend whose second output is a little wrong."""
    real = kind.load

    def load(self: Any, payload: Any, job: Any) -> Any:
        run = real(self, payload, job)

        def wrong(inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            scores, means = run(inputs)
            return [scores, means * 1.01]

        return wrong

    monkeypatch.setattr(kind, "load", load)


def test_an_engine_that_computes_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, onnxruntime.OnnxRuntime)
    with pytest.raises(CompileError, match=r"output 'means' lies .* 0\.01 of") as caught:
        compile_module(Tiny(), images(), backend="onnxruntime", cache=tmp_path)
    assert caught.value.code == "INACCURATE"
    compiled = compile_module(
        Tiny(), images(), backend="onnxruntime", cache=tmp_path, tolerance=0.02
    )
    assert compiled.report.deviation is not None
    assert compiled.report.deviation.relative == pytest.approx(0.01, rel=0.01)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What each candidate is said to take; `auto` without the compiler, which takes its time."""
    ms = {"eager fp32": 3.0, "eager bf16": 4.0, "onnxruntime fp32": 2.0, "openvino fp32": 1.0}
    names = tuple(name for name in NAMES if name != "aot")
    monkeypatch.setattr(choice, "NAMES", names)
    monkeypatch.setattr(
        choice,
        "median_ms",
        lambda compiled, _: ms[f"{compiled.report.backend} {compiled.report.precision}"],
    )
    return ms


def test_auto_takes_the_fastest_and_remembers(
    measured: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = compile_module(Tiny(), images(), cache=tmp_path)
    assert (first.report.backend, first.report.asked_backend) == ("openvino", "auto")
    told = {one.backend: one for one in first.report.candidates}
    assert told["openvino"].why_not == ""
    assert told["onnxruntime"].why_not == "slower than openvino"
    assert told["onnxruntime"].ms == 2.0
    assert told["tensorrt"].why_not == CUDA_ONLY
    assert told["inductor"].why_not.startswith("aot is the same compiler")
    measured.clear()  # measuring again would fail
    monkeypatch.setattr(openvino.OpenVino, "build", refuse)
    second = compile_module(Tiny(), images(), cache=tmp_path)
    assert second.report.backend == "openvino"
    assert second.report.from_cache
    assert second.report.candidates == first.report.candidates
    assert "the choice was made at an earlier start" in second.report.notes


def test_auto_refuses_what_is_inaccurate(
    measured: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, openvino.OpenVino)
    generous = compile_module(Tiny(), images(), cache=tmp_path, tolerance=0.02).report
    assert generous.backend == "openvino"
    report = compile_module(Tiny(), images(), cache=tmp_path).report
    assert report.backend == "onnxruntime"
    told = {one.backend: one.why_not for one in report.candidates}
    assert told["openvino"].startswith("INACCURATE: Tiny by openvino in fp32: output 'means'")


def test_auto_survives_a_candidate_without_memory(
    measured: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> bytes:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(openvino.OpenVino, "build", fail)
    report = compile_module(Tiny(), images(), cache=tmp_path).report
    assert report.backend == "onnxruntime"
    assert {one.backend: one.why_not for one in report.candidates}["openvino"].startswith("OUT_OF")
    assert "the next start measures again" in report.notes[0]
    monkeypatch.undo()
    monkeypatch.setattr(choice, "NAMES", ("eager", "openvino"))
    monkeypatch.setattr(choice, "median_ms", lambda compiled, _: len(compiled.report.key))
    again = compile_module(Tiny(), images(), cache=tmp_path).report
    assert {one.backend: one.ms for one in again.candidates} == {"eager": 0, "openvino": 64}


def test_auto_may_stay_at_a_higher_precision(
    measured: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured["openvino bf16"] = 2.5
    monkeypatch.setattr(eager, "has_bf16", lambda: True)
    monkeypatch.setattr(openvino.OpenVino, "why_not", lambda *_: None)
    report = compile_module(Tiny(), images(), precision="bf16", cache=tmp_path).report
    assert (report.backend, report.precision) == ("onnxruntime", "fp32")
    tried = [(one.backend, one.precision) for one in report.candidates if one.ms is not None]
    assert tried == [
        ("eager", "fp32"),
        ("eager", "bf16"),
        ("onnxruntime", "fp32"),
        ("openvino", "bf16"),
    ]


def test_median_of_calls() -> None:
    compiled = compile_module(Tiny(), images(), backend="eager")
    calls = []
    compiled._run = lambda inputs: calls.append(1) or (inputs[0],)  # type: ignore[func-returns-value]
    compiled._structure = torch.utils._pytree.tree_flatten(images())[1]
    assert 0 < choice.median_ms(compiled, (images(),)) < 50
    assert len(calls) == choice.WARM_UPS + choice.MOST_RUNS


def test_only_what_auto_has_chosen_before_is_taken(
    measured: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert compile_chosen(Tiny(), images(), cache=tmp_path / "none") is None
    compile_module(Tiny(), images(), backend="onnxruntime", cache=tmp_path)
    assert compile_chosen(Tiny(), images(), cache=tmp_path) is None
    compile_module(Tiny(), images(), cache=tmp_path)
    measured.clear()
    exports: list[Any] = []
    real = torch.export.export
    monkeypatch.setattr(torch.export, "export", lambda *a, **k: exports.append(a) or real(*a, **k))
    chosen = compile_chosen(Tiny(), images(), cache=tmp_path)
    assert chosen is not None
    assert (chosen.report.backend, chosen.report.asked_backend) == ("openvino", "auto")
    assert len(exports) == 1, "an export takes most of a start"


def test_building_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = build_engine(Tiny(), images(), backend="onnxruntime", cache=tmp_path)
    assert report.deviation is None
    monkeypatch.setattr(onnxruntime.OnnxRuntime, "build", refuse)
    compiled = compile_module(Tiny(), images(), backend="onnxruntime", cache=tmp_path)
    assert compiled.report.from_cache
    assert compiled.report.key == report.key


def test_openvino_sends_nothing() -> None:
    """Its import alone would start a thread that reports to its maker."""
    code = (
        "from engine.device.backends import openvino; openvino._core(); import sys, threading;"
        "assert 'openvino' in sys.modules and 'openvino_telemetry' not in sys.modules;"
        "assert threading.active_count() == 1"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_backend_has_a_reason_or_none() -> None:
    for name in NAMES:
        backend = backend_named(name)
        assert backend.name == name
        cause = backend.why_not("cpu", "fp32")
        assert (cause is None) == (name not in {"tensorrt", "tensorrt_rtx"})


@pytest.mark.timeout(300)
def test_aot_checks_what_its_package_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ahead of time on a processor; then another shape, which the package itself lets through."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    folder = tmp_path / "engines"
    first = compile_module(Tiny(), images(), backend="aot", cache=folder)
    monkeypatch.setattr(aot.Aot, "build", refuse)
    second = compile_module(Tiny(), images(), backend="aot", cache=folder)
    assert second.report.from_cache
    assert second.report.seconds * 20 < first.report.seconds
    x = images(seed=3)
    torch.testing.assert_close(second(x).scores, Tiny()(x).scores.detach())
    across = x.to(memory_format=torch.channels_last)
    torch.testing.assert_close(second(across).scores, Tiny()(x).scores.detach())
    with pytest.raises(CompileError, match="BAD_INPUT"):
        second(images(3))


@pytest.mark.timeout(300)
def test_inductor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    compiled = compile_module(Tiny(), images(), backend="inductor")
    x = images(seed=3)
    torch.testing.assert_close(compiled(x).scores, Tiny()(x).scores.detach())
    assert compiled.report.key == ""
