"""What an engine is found by: the same in every process, another as soon as anything differs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.device.engines import digest_of
from engine.device.job import Job
from tests.device.modules import Tiny, Twice, images

ROOT = Path(__file__).parents[2]
CODE = """
from engine.device.engines import digest_of
from engine.device.job import Job
from tests.device.modules import Tiny, images
ranges = {"images": {0: (1, 8)}}
print(digest_of(Job(Tiny(), images(), "bf16", ranges, "cpu").key("b", {"z": "1", "a": "2"})))
"""


def key_of(job: Job) -> str:
    return digest_of(job.key("b", {"a": "1"}))


@pytest.mark.slow
def test_processes_agree() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", CODE],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1
    assert len(found.pop().strip()) == 64


def test_the_same_module_twice() -> None:
    first, second = (Job(Tiny(), images(), "fp32", None, "cpu") for _ in range(2))
    assert key_of(first) == key_of(second)
    other_values = Job(Tiny(), images(seed=5), "fp32", None, "cpu")
    assert key_of(first) == key_of(other_values), "the example's values do not matter"


def one_weight(module: Tiny) -> None:
    with torch.no_grad():
        module.conv.weight[0, 0, 0, 0] += 1e-6


def one_buffer(module: Tiny) -> None:
    module.offset += 1  # it is in no state_dict


def one_number(module: Tiny) -> None:
    module.gain = 2.0


@pytest.mark.parametrize("change", [one_weight, one_buffer, one_number])
def test_anything_in_the_module_changes_the_key(change: Callable[[Tiny], None]) -> None:
    other = Tiny()
    change(other)
    assert key_of(Job(Tiny(), images(), "fp32", None, "cpu")) != key_of(
        Job(other, images(), "fp32", None, "cpu")
    )


def test_anything_around_it_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(Tiny(), images(), "fp32", None, "cpu")
    ranges = {"images": {0: (1, 8)}}
    keys = [
        job.key("b", {"a": "1"}),
        job.key("c", {"a": "1"}),
        job.key("b", {"a": "2"}),
        job.at("bf16").key("b", {"a": "1"}),
        Job(Tiny(), images(3), "fp32", None, "cpu").key("b", {"a": "1"}),
        Job(Tiny(), images().half(), "fp32", None, "cpu").key("b", {"a": "1"}),
        Job(Tiny(), images(), "fp32", ranges, "cpu").key("b", {"a": "1"}),
        Job(Tiny(), images(), "fp32", None, "cuda").key("b", {"a": "1"}),
    ]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    keys.append(Job(Tiny(), images(), "fp32", None, "cpu").key("b", {"a": "1"}))
    assert len({digest_of(key) for key in keys}) == len(keys)


def test_a_constant_in_the_graph_changes_the_key() -> None:
    class Shifted(Twice):
        def forward(self, x: torch.Tensor, places: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"twice": 2 * x + self.shift, "next": [places + 1]}

    first, second = Shifted(), Shifted()
    first.shift, second.shift = torch.tensor([1.0]), torch.tensor([2.0])
    example = (torch.ones(2, 4), torch.arange(2))
    assert key_of(Job(first, example, "fp32", None, "cpu")) != key_of(
        Job(second, example, "fp32", None, "cpu")
    )
