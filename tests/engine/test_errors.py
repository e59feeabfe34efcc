"""Messages of errors: grouped by node, countable, catchable by what went wrong."""

from __future__ import annotations

import pytest

from engine.errors import (
    CapsError,
    DeviceError,
    EngineError,
    GraphError,
    OperatorError,
    Problem,
    TransportError,
)


def test_problems_are_grouped_by_node_with_hints() -> None:
    error = GraphError(
        "guard",
        [
            Problem("blur", "config.radius", "expected `int`", "did you mean 3?"),
            Problem("", "workers.gpu", "no node runs in this worker"),
            Problem("blur", "", "is no name"),
        ],
    )
    assert str(error).splitlines() == [
        "graph 'guard' has 3 problems:",
        "  blur",
        "    config.radius: expected `int` (did you mean 3?)",
        "    is no name",
        "  (graph)",
        "    workers.gpu: no node runs in this worker",
    ]
    assert error.graph == "guard"
    assert [problem.node for problem in error.problems] == ["blur", "", "blur"]


def test_one_problem_is_not_called_problems() -> None:
    assert str(GraphError("g", [Problem("a", "b", "c")])).startswith("graph 'g' has 1 problem:")


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (GraphError, ValueError),
        (CapsError, ValueError),
        (TransportError, OSError),
        (DeviceError, RuntimeError),
        (OperatorError, RuntimeError),
    ],
)
def test_every_error_is_the_engines_and_a_builtin_one(
    kind: type[Exception], builtin: type[Exception]
) -> None:
    assert issubclass(kind, EngineError)
    assert issubclass(kind, builtin)


def test_operator_errors_carry_a_code_for_machines() -> None:
    error = OperatorError("NOT_FOUND", "no such clip", permanent=False)
    assert (error.code, error.message, error.permanent) == ("NOT_FOUND", "no such clip", False)
    assert str(error) == "NOT_FOUND: no such clip"
    assert OperatorError("X", "y").permanent
