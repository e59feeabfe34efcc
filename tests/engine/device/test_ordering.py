"""Nothing on a device happens in an order that was not asked for; and each thing that asks for it
is needed: with its line removed, one of the scenarios fails.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from engine.device import graphs, ipc, scope, staging, streams
from engine.device.interface import U8
from engine.device.simulated import OrderingError, SimulatedDevice
from tests.engine.device.scenarios import SCENARIOS, Scenario, picture

MODULES = (graphs, ipc, scope, staging, streams)
# Told to the simulated device only, so that it can look; without them it would look away.
INSTRUMENTS = {"host_reads", "host_writes"}


def library(*modules: ModuleType) -> SimpleNamespace:
    names: dict[str, object] = {}
    for module in modules:
        names |= vars(module)
    return SimpleNamespace(**names)


def called(statement: ast.stmt) -> str | None:
    """The method of a statement that is nothing but a call of one."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    is_call = isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute)
    return value.func.attr if is_call else None


def statements(module: ModuleType) -> Iterator[tuple[int, str]]:
    """Line and text of every statement that is done for what it does, not for what it gives."""
    source = Path(str(module.__file__)).read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt) and called(node) not in {None, *INSTRUMENTS}:
            yield node.lineno, ast.unparse(node)


class Without(ast.NodeTransformer):
    """Takes one statement out."""

    def __init__(self, line: int) -> None:
        self.line = line

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        return ast.copy_location(ast.Pass(), node) if node.lineno == self.line else node


def without(module: ModuleType, line: int) -> ModuleType:
    """A copy of the module that lacks one statement."""
    tree = Without(line).visit(ast.parse(Path(str(module.__file__)).read_text()))
    copy = ModuleType(module.__name__)
    exec(compile(tree, f"{module.__name__} without line {line}", "exec"), vars(copy))
    return copy


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_everything_is_in_order(scenario: Scenario) -> None:
    scenario(library(*MODULES))


MUTANTS = [(module, line, text) for module in MODULES for line, text in statements(module)]


@pytest.mark.parametrize(
    ("module", "line", "text"), MUTANTS, ids=[f"{m.__name__}:{text}" for m, _, text in MUTANTS]
)
def test_every_line_that_orders_is_needed(module: ModuleType, line: int, text: str) -> None:
    lib = library(*MODULES, without(module, line))
    failures = []
    for scenario in SCENARIOS:
        try:
            scenario(lib)
        except Exception as error:  # noqa: BLE001  whatever tells that the line is missing
            failures.append(error)
    assert failures, f"nothing tells that `{text}` is missing"


def test_removed_lines_are_those_that_order() -> None:
    """The search for lines finds them: a change of style must not empty the test above."""
    removed = {text.partition("(")[0].rpartition(".")[2] for _, _, text in MUTANTS}
    assert {"wait", "keep", "use", "admit", "wait_host", "copy", "upload", "clear"} <= removed
    assert importlib.import_module("engine.device.scope") in MODULES


def test_race_names_both_sides() -> None:
    device = SimulatedDevice()
    one, other = device.stream(0), device.stream(0)
    array = device.empty((2,), "float32", one)
    device.launch(lambda: None, writes=[array], stream=one)
    with pytest.raises(
        OrderingError, match=r"a launch on stream1 and a launch on stream0: nothing"
    ):
        device.launch(lambda: None, reads=[array], stream=other)


def test_host_must_wait_before_it_reads() -> None:
    device = SimulatedDevice()
    stream = device.stream(0)
    memory = device.pinned(picture(1).nbytes).view("float32")
    array = device.empty(memory.shape, "float32", stream)
    device.upload(memory, array, stream)
    device.download(array, memory, stream)
    with pytest.raises(OrderingError, match="a read by the host and a download on stream0"):
        device.host_reads(memory)
    stream.record().wait_host()
    device.host_reads(memory)


def test_memory_that_nobody_wrote_is_not_read() -> None:
    device = SimulatedDevice()
    stream = device.stream(0)
    array = device.empty((2,), "float32", stream)
    with pytest.raises(OrderingError, match="where nobody wrote"):
        device.launch(lambda: None, reads=[array], stream=stream)
    device.clear(array, stream)
    del array
    again = device.empty((2,), "float32", stream)  # the same place
    with pytest.raises(OrderingError, match="where nobody wrote"):
        device.launch(lambda: None, reads=[again], stream=stream)


def test_pageable_memory_is_refused() -> None:
    device = SimulatedDevice()
    stream = device.stream(0)
    target = device.empty((4, 6), "float32", stream)
    with pytest.raises(OrderingError, match="not page-locked"):
        device.upload(picture(1), target, stream)


def test_arrays_may_die_while_the_ring_allocates() -> None:
    """The garbage collector runs where memory is asked for, also under the ring's lock."""
    held: list[object] = []

    class Collecting(SimulatedDevice):
        def pinned(self, nbytes: int) -> U8:
            held.clear()
            return super().pinned(nbytes)

    device = Collecting()
    stream = device.stream(0)
    sent = staging.StagingRing(device).upload(picture(1), stream)
    rim = staging.StagingRing(device, 1)
    held.append(rim.download(sent, stream, "float32"))
    again = rim.download(sent, stream, "float32")
    assert held == []
    assert (again == picture(1)).all()


def test_what_a_library_raises_comes_through_as_it_is() -> None:
    device = SimulatedDevice()
    node = scope.DeviceScope(device, device.stream(0))
    with pytest.raises(ValueError, match="no") as caught:
        node.call(lambda: int("no"), [])
    assert caught.value.__cause__ is None
