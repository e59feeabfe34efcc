"""TensorRT-RTX builds real plans without a GPU; they are kept, found again, and not run here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.device.backends import tensorrt, tensorrt_rtx
from engine.device.backends.protocol import CUDA_ONLY
from engine.device.compile import build_engine
from engine.device.engines import EngineStore
from engine.device.job import Job
from engine.device.machine import why_no_cuda
from engine.device.networks import networks
from engine.device.report import Precision, Report
from engine.errors import CompileError
from tests.device.modules import Tiny, images

ROOT = Path(__file__).parents[2]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")


def built(folder: Path, **options: Any) -> Report:
    return build_engine(
        Tiny(), images(), backend="tensorrt_rtx", device="cuda", cache=folder, **options
    )


def refuse(*_: Any) -> bytes:
    raise AssertionError("a hit must not build")


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_plan_in_each_precision(
    precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = built(tmp_path, precision=precision)
    assert (first.precision, first.deviation, first.from_cache) == (precision, None, False)
    monkeypatch.setattr(tensorrt_rtx.TensorRtRtx, "build", refuse)
    second = built(tmp_path, precision=precision)
    assert second.from_cache
    assert second.key == first.key
    with pytest.raises(CompileError, match="a hit must not build"):
        built(tmp_path, precision=precision, dynamic={"images": {0: (1, 4)}})


@pytest.mark.slow
def test_ranges_become_a_profile(tmp_path: Path) -> None:
    fixed = built(tmp_path)
    ranged = built(tmp_path, dynamic={"images": {0: (1, 4)}})
    assert ranged.key != fixed.key
    assert len(EngineStore(tmp_path).entries()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", networks())
def test_every_network_that_comes_along(name: str, tmp_path: Path) -> None:
    """Reading a plan takes a twentieth of building it at most; `bench engines` tells both, and what
    the whole call takes.
    """
    network = networks()[name]()
    reports = [
        build_engine(
            network.module,
            network.example,
            backend="tensorrt_rtx",
            precision="fp16",
            device="cuda",
            cache=tmp_path,
        )
        for _ in range(4)
    ]
    assert [report.from_cache for report in reports] == [False, True, True, True]
    seconds = min(report.seconds for report in reports[1:])
    assert seconds * 20 <= reports[0].seconds


def test_it_does_not_run_without_a_gpu(tmp_path: Path) -> None:
    cause = why_no_cuda()
    if cause is not None:
        with pytest.raises(CompileError, match=r"NO_DEVICE: cuda cannot be had: .*doctor"):
            build_engine(Tiny(), images(), backend="eager", device="cuda", cache=tmp_path)
    assert tensorrt_rtx.BACKEND.why_not("cpu", "fp32") == CUDA_ONLY
    assert tensorrt.BACKEND.why_not("cpu", "fp32") == CUDA_ONLY


@pytest.mark.slow
def test_loading_without_a_driver_says_why(tmp_path: Path) -> None:
    """In a process that sees no GPU, whatever machine this is."""
    plan = tmp_path / "plan"
    plan.write_bytes(tensorrt_rtx.BACKEND.build(Job(Tiny(), images(), "fp16", None, "cuda")))
    code = (
        "import sys; from pathlib import Path;"
        "from engine.device.backends.tensorrt_rtx import BACKEND;"
        "BACKEND.load(Path(sys.argv[1]).read_bytes(), None)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(plan)],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "LOAD_FAILED: the plan cannot be loaded" in last
    assert "cudaError" in last
    assert "frameloom doctor" in last


@pytest.mark.slow
def test_a_builder_without_memory_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the builder itself tells it: no plan, and lines in its log."""
    library = tensorrt_rtx._library()

    class Starved:
        def __init__(self, logger: Any) -> None:
            self.logger, self.real = logger, library.Builder(logger)

        def build_serialized_network(self, *_: Any) -> None:
            severity = library.ILogger.Severity.ERROR
            self.logger.log(severity, "Error Code 2: OutOfMemory (out of memory)")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

    class Starving:
        Builder = Starved

        def __getattr__(self, name: str) -> Any:
            return getattr(library, name)

    monkeypatch.setattr(tensorrt_rtx, "_library", Starving)
    with pytest.raises(CompileError, match=r"out of memory\); free memory on the device") as caught:
        built(tmp_path)
    assert caught.value.code == "OUT_OF_MEMORY"
    assert list(tmp_path.iterdir()) == []
