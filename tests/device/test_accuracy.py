"""The guard between a compiled model and whoever calls it."""

from __future__ import annotations

import pytest
import torch

from engine.device.accuracy import named_outputs, sizes_to_check, steady_reference, worst_deviation
from engine.device.job import Job
from engine.errors import CompileError
from tests.device.modules import Found, Tiny, Twice, images

EAGER = Found(torch.tensor([[1.0, -4.0]]), torch.tensor([[0.5, 0.25]]))


def test_the_worst_output_is_told() -> None:
    found = [EAGER.scores + 0.04, EAGER.means - 0.01]
    worst = worst_deviation(EAGER, found, 0.05, "x")
    assert worst.output == "means"
    assert worst.absolute == pytest.approx(0.01, rel=1e-4)
    assert worst.relative == pytest.approx(0.02, rel=1e-4)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ([EAGER.scores, EAGER.means + 0.1], r"output 'means' lies 0\.1 .* 0\.2 of .* 0\.05 is all"),
        ([EAGER.scores * torch.nan, EAGER.means], "output 'scores' lies inf"),
        ([EAGER.scores, EAGER.means[:, :1]], r"'means' is float32\[1,1\], eager .*\[1,2\]"),
        ([EAGER.scores], "1 outputs, eager gives 2"),
    ],
    ids=["too far", "not a number", "shape", "count"],
)
def test_what_is_refused(found: list[torch.Tensor], words: str) -> None:
    with pytest.raises(CompileError, match=words) as caught:
        worst_deviation(EAGER, found, 0.05, "Tiny by fake")
    assert caught.value.code == "INACCURATE"


def test_whole_numbers_keep_their_type() -> None:
    whole = torch.tensor([1, 2])
    assert worst_deviation(whole, [whole.clone()], 0.0, "x").relative == 0
    with pytest.raises(CompileError, match=r"torch\.int32"):
        worst_deviation(whole, [whole.int()], 0.1, "x")


def test_zeros_stay_zeros() -> None:
    zeros = torch.zeros(3)
    assert worst_deviation(zeros, [zeros], 0.0, "x").relative == 0
    with pytest.raises(CompileError, match="lies 1e-06"):
        worst_deviation(zeros, [zeros + 1e-6], 0.1, "x")


def test_an_example_that_eager_cannot_do() -> None:
    with pytest.raises(CompileError, match="not finite: take another example"):
        worst_deviation(torch.tensor([torch.inf]), [torch.ones(1)], 0.1, "x")


def test_outputs_that_are_no_tensors() -> None:
    with pytest.raises(CompileError, match=r"\['n'\] is no tensor"):
        worst_deviation({"n": 3}, [torch.ones(1)], 0.1, "x")


def test_complex_outputs_have_no_guard_and_are_refused() -> None:
    wanted = torch.tensor([1 + 1j])
    with pytest.raises(CompileError, match=r"BAD_INPUT.*'output' is complex.*view_as_real"):
        worst_deviation(wanted, [wanted.real.to(torch.complex64)], 0.1, "x")


class Remembering(Tiny):
    """Gives something else at every call, in a way that no exporter sees."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: torch.Tensor) -> Found:
        self.calls += 1
        return super().forward(images * self.calls)


def test_a_module_that_gives_something_else_when_called_again_is_refused() -> None:
    job = Job(Remembering(), images(2), "fp32", None, "cpu")
    with pytest.raises(CompileError, match=r"Remembering keeps state or draws .*a second call: ou"):
        steady_reference(job)
    steady = Job(Tiny(), images(2), "fp32", None, "cpu")
    with torch.inference_mode():
        wanted = Tiny()(images(2))
    torch.testing.assert_close(steady_reference(steady), wanted)


def test_names_of_nested_outputs() -> None:
    module = Twice()
    found = named_outputs(module(torch.ones(2, 4), torch.arange(2)))
    assert list(found) == ["['twice']", "['next'][0]"]
    assert list(named_outputs(torch.ones(1))) == ["output"]


def test_ranges_are_checked_at_both_ends() -> None:
    job = Job(Tiny(), images(2), "fp32", {"images": {0: (1, 5)}}, "cpu")
    example, least, most = (inputs[0] for inputs in sizes_to_check(job))
    assert [len(x) for x in (example, least, most)] == [2, 1, 5]
    assert torch.equal(most, example[[0, 1, 0, 1, 0]])
    assert len(sizes_to_check(Job(Tiny(), images(2), "fp32", None, "cpu"))) == 1
