"""Compiled models on a GPU: the same results, no output overwritten, no host in between."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.device.backends import NAMES, backend_named
from engine.device.compile import compile_module
from engine.device.machine import driver_version, machine_of
from engine.device.report import Precision
from engine.errors import CompileError
from tests.device.modules import Tiny, images

pytestmark = [pytest.mark.needs_cuda, pytest.mark.slow, pytest.mark.timeout(300)]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("backend", NAMES)
def test_it_computes_the_same_or_says_why_not(
    backend: str, precision: Precision, tmp_path: Path
) -> None:
    cause = backend_named(backend).why_not("cuda", precision)
    if cause is not None:
        with pytest.raises(CompileError, match="NO_BACKEND"):
            compile_module(Tiny(), images(), backend=backend, precision=precision, device="cuda")
        return
    compiled = compile_module(
        Tiny(), images(), backend=backend, precision=precision, device="cuda", cache=tmp_path
    )
    x, y = images(seed=3), images(seed=4)
    first = compiled(x.cuda()).scores
    kept = first.clone()
    second = compiled(y.cuda()).scores
    assert torch.equal(first, kept), "a later call wrote over it"
    tolerance = {"fp32": 2e-3, "fp16": 5e-3, "bf16": 3e-2}[precision]
    for found, wanted in ((first, Tiny()(x).scores), (second, Tiny()(y).scores)):
        torch.testing.assert_close(found.cpu(), wanted.detach(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("backend", ["eager", "inductor", "aot"])
def test_ranges(backend: str, tmp_path: Path) -> None:
    compiled = compile_module(
        Tiny(),
        images(),
        backend=backend,
        device="cuda",
        cache=tmp_path,
        dynamic={"images": {0: (1, 8)}},
    )
    for count in (1, 3, 8):
        x = images(count)
        torch.testing.assert_close(
            compiled(x.cuda()).scores.cpu(), Tiny()(x).scores.detach(), rtol=0, atol=2e-3
        )


def test_auto_stays_on_the_gpu(tmp_path: Path) -> None:
    first = compile_module(Tiny(), images(), precision="fp16", device="cuda", cache=tmp_path)
    second = compile_module(Tiny(), images(), precision="fp16", device="cuda", cache=tmp_path)
    assert first(images().cuda()).scores.is_cuda
    assert second.report.backend == first.report.backend
    assert {one.backend for one in first.report.candidates} == set(NAMES)


def test_no_host_synchronisation_in_a_call(tmp_path: Path) -> None:
    compiled = compile_module(Tiny(), images(), backend="inductor", device="cuda", cache=tmp_path)
    x = images().cuda()
    compiled(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        compiled(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_inputs_on_the_processor_are_refused() -> None:
    compiled = compile_module(Tiny(), images(), backend="eager", device="cuda")
    with pytest.raises(CompileError, match="on cpu; the engine is made for"):
        compiled(images())


def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(CompileError, match="NO_DEVICE: cuda:99 cannot be had: there are"):
        compile_module(Tiny(), images(), backend="eager", device="cuda:99")


def test_the_machine_is_told() -> None:
    machine = machine_of("cuda")
    assert machine.name == torch.cuda.get_device_name()
    assert machine.capability.count(".") == 1
    assert machine.driver == driver_version() != ""
