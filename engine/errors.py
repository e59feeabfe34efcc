"""The exceptions of the engine: one small tree; each says what came, what is allowed, a remedy."""

from __future__ import annotations

from collections.abc import Sequence


class EngineError(Exception):
    """Base of everything the engine raises on purpose."""


class GraphError(EngineError, ValueError):
    """A graph cannot run as written. Carries every problem found, not only the first."""

    def __init__(self, graph: str, problems: Sequence[Problem]) -> None:
        self.graph = graph
        self.problems = tuple(problems)
        super().__init__(format_problems(graph, self.problems))


class CapsError(EngineError, ValueError):
    """A frame is not what a port or an operator accepts."""


class TransportError(EngineError, OSError):
    """A link cannot be made, or a peer sent what it must not."""


class DeviceError(EngineError, RuntimeError):
    """A node asked for a device that it cannot have. The engine never falls back silently."""


class DeviceLostError(DeviceError):
    """A kernel broke the device's context: every later call of this process would fail too."""


class CompileError(DeviceError):
    """A model cannot be compiled as asked, or what came out is not the model.

    `code` is for machines: `BAD_INPUT`, `NO_BACKEND`, `NO_DEVICE`, `BUILD_FAILED`, `LOAD_FAILED`,
    `OUT_OF_MEMORY`, `INACCURATE`.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


class OperatorError(EngineError, RuntimeError):
    """An operator cannot do its work, and says why and what to do about it.

    Raised by operators. `code` is a short upper-case word that machines can match on
    (`NOT_FOUND`, `AUTH_FAILED`, `DISK_FULL`, ...). `permanent` tells whether trying again may help.
    """

    def __init__(self, code: str, message: str, *, permanent: bool = True) -> None:
        self.code = code
        self.message = message
        self.permanent = permanent
        super().__init__(f"{code}: {message}")


class EndOfStream(Exception):  # noqa: N818  the normal end of a source is not an error
    """Raised by a source's `process` when there is nothing more to come."""


class Problem:
    """One thing that is wrong with a graph: where, what, and what to do."""

    __slots__ = ("field", "hint", "message", "node")

    def __init__(self, node: str, field: str, message: str, hint: str = "") -> None:
        self.node = node
        self.field = field
        self.message = message
        self.hint = hint

    def __repr__(self) -> str:
        return f"Problem({self.node!r}, {self.field!r}, {self.message!r}, {self.hint!r})"


def format_problems(graph: str, problems: Sequence[Problem]) -> str:
    """The problems as an indented tree, grouped by node."""
    lines = [f"graph '{graph}' has {len(problems)} problem{'s' if len(problems) != 1 else ''}:"]
    for node in dict.fromkeys(problem.node for problem in problems):
        lines.append(f"  {node or '(graph)'}")
        for problem in problems:
            if problem.node == node:
                where = f"{problem.field}: " if problem.field else ""
                hint = f" ({problem.hint})" if problem.hint else ""
                lines.append(f"    {where}{problem.message}{hint}")
    return "\n".join(lines)
