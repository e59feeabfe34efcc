"""The rules that no single file can break unseen: layers, lint, types, sizes, light imports."""

from __future__ import annotations

import ast
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
CODE = ("engine", "operators", "graphs", "bench", "tests")
HEAVY = ("torch", "zmq", "av", "onnxruntime", "ai_edge_litert")
FILE_P90, FILE_MOST = 250, 500  # lines
FUNCTION_P90, FUNCTION_MOST = 30, 60


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "command",
    [
        ("lint-imports", "--no-cache"),
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("mypy",),
    ],
    ids=" ".join,
)
def test_tools_find_nothing(command: tuple[str, ...]) -> None:
    done = run(BIN / command[0], *command[1:])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "code",
    [
        "from engine.commands.check import check_command;"
        "check_command('guard', [], [], None, as_json=True)",
        "import engine.cli",
        "from engine.catalog import known_operators; assert known_operators()",
    ],
    ids=["check guard", "help", "every operator"],
)
def test_heavy_libraries_stay_out(code: str) -> None:
    """Names, caps and cycles are checked at once on any laptop, without CUDA or sockets."""
    tell = "import sys, json; sys.stderr.write(json.dumps(sorted(sys.modules)))"
    done = run(sys.executable, "-c", f"{code}\n{tell}")
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stderr.splitlines()[-1]))
    assert "msgspec" in loaded
    assert loaded.isdisjoint(HEAVY)


def python_files() -> list[Path]:
    return [path for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))]


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(file:name, lines without decorators and docstring) of every function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            told = ast.get_docstring(node) is not None and len(node.body) > 1
            words = (first.end_lineno or 0) - first.lineno + 1 if told else 0
            length = (node.end_lineno or 0) - node.lineno + 1 - words
            yield f"{path.relative_to(ROOT)}:{node.name}", length


def percentile_90(values: list[int]) -> float:
    return statistics.quantiles(values, n=10)[-1]


def test_files_are_short() -> None:
    sizes = {str(path.relative_to(ROOT)): lines(path) for path in python_files()}
    assert len(sizes) > 50
    assert {name: size for name, size in sizes.items() if size > FILE_MOST} == {}
    assert percentile_90(list(sizes.values())) <= FILE_P90


def test_functions_are_short() -> None:
    sizes = dict(found for path in python_files() for found in functions(path))
    assert len(sizes) > 300
    assert {name: size for name, size in sizes.items() if size > FUNCTION_MOST} == {}
    assert percentile_90(list(sizes.values())) <= FUNCTION_P90


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in python_files()
        if path.read_text(encoding="utf-8").strip()
        and ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) is None
    ]
    assert silent == []


def test_every_graph_says_what_it_is_for() -> None:
    graphs = sorted((ROOT / "graphs").glob("*.yaml"))
    assert [path.name for path in graphs if not path.read_text().startswith("# ")] == []
    assert "guard.yaml" in [path.name for path in graphs]
