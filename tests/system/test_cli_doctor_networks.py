"""What `doctor` tells of networks that come along: what runs them here, and why that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch
from torch import nn

from engine.commands import doctor_networks
from engine.commands.doctor_networks import ask_places, network_findings
from engine.device.choice import choice_key, place_of
from engine.device.compile import compile_module
from engine.device.driver import Driver, Gpu
from engine.device.engines import EngineStore
from engine.device.job import Job
from engine.device.networks import Network, RunsBy, runs
from engine.device.report import Candidate, Choice, EngineKey, Machine, Place
from tests.device.modules import key

HERE = Machine("test", "flags", "")
CHOICE = msgspec.json.encode(
    Choice("openvino", "bf16", (Candidate("eager", "fp32", 8.0), Candidate("openvino", "bf16", 2)))
)


class Named(nn.Module):
    """A network as doctor knows them: by its label."""

    label = "named"

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x))


def never() -> Network:
    raise AssertionError("doctor loads no network")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks, and no GPU."""
    own = runs(RunsBy("LiteRT", on_gpu=False))(lambda: never())
    offer(monkeypatch, named=lambda: never(), other=own)
    monkeypatch.setattr(doctor_networks, "_gpus", lambda: ())
    place(monkeypatch, cpu=Place(HERE, {"here": "2"}))


def place(monkeypatch: pytest.MonkeyPatch, **places: Place) -> None:
    """What this computer is said to be, by device."""
    found = {name.replace("_", ":"): one for name, one in places.items()}
    monkeypatch.setattr(doctor_networks, "ask_places", lambda _: (found, ""))


def offer(monkeypatch: pytest.MonkeyPatch, **makers: Callable[[], Network]) -> None:
    entries = [SimpleNamespace(name=name, load=lambda m=make: m) for name, make in makers.items()]
    monkeypatch.setattr(doctor_networks, "network_entries", lambda: entries)


def choice_for(folder: Path, *, payload: bytes = CHOICE, **changes: Any) -> Path:
    """A choice for `named` by this processor with one thread, but for the changes."""
    base: EngineKey = key("auto")
    ours = {"device": "cpu", "machine": HERE, "threads": 1, "versions": {"here": "2"}}
    made = msgspec.structs.replace(base, **{**ours, **changes})
    store = EngineStore(folder)
    store.get(made, "named", lambda: payload).close()
    return store.path_of(made)


def told(folder: Path) -> str:
    return network_findings(EngineStore(folder))[0].note


@pytest.mark.slow
def test_a_choice_is_told_with_its_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the real thing: what `auto` kept is what a process of its own finds to be of here."""
    monkeypatch.setattr(doctor_networks, "ask_places", ask_places)
    store = EngineStore(tmp_path)
    named, other = network_findings(store)
    assert named.note.startswith("torch eager: no engine was built; `frameloom engines build named")
    assert other.note == "LiteRT, its file's own runtime"
    compiled = compile_module(Named(), torch.rand(2, 4), cache=tmp_path)
    compiled.close()
    chosen, other = network_findings(store)
    report = compiled.report
    assert chosen.what == "network named"
    assert chosen.note.startswith(f"{report.backend} in {report.precision} for {report.threads} th")
    assert " ms, eager " in chosen.note
    assert other.note == "LiteRT, its file's own runtime"


@pytest.mark.slow
def test_the_place_of_doctor_is_the_place_of_nodes() -> None:
    found, unknown = ask_places(["cpu"])
    assert unknown == ""
    assert found == {"cpu": place_of("cpu")}
    key = choice_key(Job(Named(), (torch.rand(2, 4),), "fp32", None, "cpu"), None)
    assert (key.machine, key.versions) == (found["cpu"].machine, found["cpu"].versions)


def test_where_no_place_can_be_found_no_choice_is_stated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works = (False, "ModuleNotFoundError: No module named 'torch'")
    monkeypatch.setattr(doctor_networks, "run_code", lambda _: works)
    monkeypatch.setattr(doctor_networks, "ask_places", ask_places)
    choice_for(tmp_path)
    assert told(tmp_path) == "what runs it cannot be told: No module named 'torch'"


def test_a_choice_of_now_and_here(tmp_path: Path) -> None:
    choice_for(tmp_path)
    assert told(tmp_path) == "openvino in bf16 for 1 thread: 2.0 ms, eager 8.0"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"machine": Machine("another", "0", "")}, "made on another computer"),
        ({"machine": Machine("test", "flags", "9")}, "made with driver 9"),
        ({"versions": {"here": "1"}}, "made with here 1"),
        ({"versions": {"here": "2", "gone": "1"}}, "made with gone 1, which is not here any more"),
        ({"versions": {}}, "made without here, which is here now"),
        ({"precision": "bf16"}, "in bf16, for which no node asks"),
    ],
)
def test_a_choice_of_elsewhere_or_before_is_not_stated_as_a_fact(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    choice_for(tmp_path, **changes)
    assert told(tmp_path).startswith(f"torch eager: engines in the cache are {why}; ")


@pytest.mark.parametrize("damage", ["changed", "cut", "no choice"])
def test_damage_is_told_and_the_report_goes_on(damage: str, tmp_path: Path) -> None:
    path = choice_for(tmp_path, payload=b"{}" if damage == "no choice" else CHOICE)
    data = path.read_bytes()
    if damage == "changed":
        path.write_bytes(data[:-20] + b"\xff" + data[-19:])
    if damage == "cut":
        path.write_bytes(data[:-30])
    named, other = network_findings(EngineStore(tmp_path))
    assert named.note.startswith("the choice for 1 thread is measured again: its file ")
    assert other.verdict == "ok"


def test_each_gpu_is_told_what_runs_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = (Gpu(0, "H200", (9, 0), 1), Gpu(1, "H200", (9, 0), 1), Gpu(2, "T4", (7, 5), 1))
    monkeypatch.undo()
    monkeypatch.setattr(doctor_networks, "ask_driver", lambda: Driver((13, 0), gpus))
    offer(monkeypatch, named=lambda: never())
    old, new = (Machine("H200", "9.0", driver) for driver in ("570", "580"))
    on_gpu: dict[str, Any] = {"device": "cuda", "threads": 0, "versions": {"trt": "1"}}
    choice_for(tmp_path, machine=new, precision="fp16", **on_gpu)
    choice_for(tmp_path, machine=new, precision="fp32", **on_gpu)
    places = (Place(machine, {"trt": "1"}) for machine in (new, old, Machine("T4", "7.5", "580")))
    place(monkeypatch, **{f"cuda_{at}": one for at, one in enumerate(places)})
    eager = "`frameloom engines build named --device cuda` measures what is faster"
    _, *parts = told(tmp_path).split("; ")[1:]
    assert parts == [
        "openvino in bf16 for cuda:0: 2.0 ms, eager 8.0",
        "torch eager on cuda:1: engines in the cache are made with driver 580",
        eager,
        "torch eager on cuda:2: engines in the cache are made on another computer",
        eager,
    ]


def test_a_network_of_a_broken_package_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Any:
        raise ImportError("no module named theirs")

    entries = [SimpleNamespace(name="theirs", load=broken)]
    monkeypatch.setattr(doctor_networks, "network_entries", lambda: entries)
    (found,) = network_findings(EngineStore(tmp_path))
    assert (found.verdict, found.note) == ("missing", "cannot be loaded: no module named theirs")
