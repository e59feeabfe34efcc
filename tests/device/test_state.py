"""Modules that are not the same after a call: an engine would forget it, so there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.device.compile import build_engine, compile_module
from engine.errors import CompileError
from tests.device.modules import Found, Tiny, images


class Counter(Tiny):
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> Found:
        self.n.add_(1)
        return super().forward(images + self.n)


class Brightest(Counter):
    """Remembers what its output shows only when other images come."""

    def forward(self, images: torch.Tensor) -> Found:
        self.n.copy_(torch.maximum(self.n, images.max()))
        return Tiny.forward(self, images / self.n)


class Learning(Tiny):
    def forward(self, images: torch.Tensor) -> Found:
        self.conv.bias.mul_(1.0)
        return super().forward(images)


class Clipping(Tiny):
    def forward(self, images: torch.Tensor) -> Found:
        return super().forward(images.clamp_(0, 1))


class Plain(Tiny):
    def __init__(self) -> None:
        super().__init__()
        self.n = torch.zeros(())

    def forward(self, images: torch.Tensor) -> Found:
        self.n.add_(1)
        return super().forward(images + self.n)


STATEFUL = {
    Counter: "the module keeps state in buffer 'n': an engine would forget it",
    Brightest: "the module keeps state in buffer 'n': an engine would forget it",
    Learning: "the module changes its parameter 'conv.bias': an engine would not",
    Clipping: "the module writes into its input 'images': an engine would not",
    Plain: "the module keeps state in a tensor that is no buffer",
}


@pytest.mark.parametrize("kind", STATEFUL, ids=lambda kind: kind.__name__)
def test_a_module_that_is_not_the_same_after_a_call_is_refused(
    kind: type[Tiny], tmp_path: Path
) -> None:
    for options in ({}, {"backend": "onnxruntime"}):
        with pytest.raises(CompileError, match=STATEFUL[kind]) as caught:
            compile_module(kind(), images(), cache=tmp_path, **options)
        assert caught.value.code == "BAD_INPUT"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_backends_without_an_export_refuse_state_too(backend: str) -> None:
    with pytest.raises(CompileError, match="BAD_INPUT: Counter keeps state or draws random"):
        compile_module(Counter(), images(), backend=backend)


def test_a_plan_of_a_module_with_state_is_not_built(tmp_path: Path) -> None:
    class Forgetful(Counter):
        def forward(self, images: torch.Tensor) -> Found:
            self.n = self.n + 1  # in a module inside another, the exporter does not see this
            return Tiny.forward(self, images + self.n)

    with pytest.raises(CompileError, match="BAD_INPUT"):
        build_engine(Forgetful(), images(), backend="onnxruntime", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_writing_into_what_it_made_is_no_state(tmp_path: Path) -> None:
    class Thrifty(Tiny):
        def forward(self, images: torch.Tensor) -> Found:
            return super().forward((images * 2).relu_().add_(1))

    compiled = compile_module(Thrifty(), images(), backend="onnxruntime", cache=tmp_path)
    torch.testing.assert_close(compiled(images()).scores, Thrifty()(images()).scores.detach())
