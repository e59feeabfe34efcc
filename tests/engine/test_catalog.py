"""Operators are found by name, and listed without importing networks."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.catalog import known_operators, load_operator, module_names, operators_in
from engine.errors import OperatorError
from tests.engine import fakes

OPERATOR = '''
from engine import Frame, Operator

class {name}(Operator):
    def process(self, frames: Frame) -> None:
        return None

class _Hidden({name}):
    def process(self, frames: Frame) -> None:
        return None

class Base(Operator):
    """Has no process."""
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with two operators, and networks that must not be imported."""
    root = tmp_path / "someops"
    for folder in ("", "video", "nn"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / "__init__.py").touch()
    (root / "nn" / "__init__.py").write_text("raise RuntimeError('a network was imported')")
    (root / "video" / "blur.py").write_text(OPERATOR.format(name="Blur"))
    (root / "sink.py").write_text(
        OPERATOR.format(name="Sink") + "\nfrom someops.video.blur import Blur\n"
    )
    (root / "nn" / "net.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return "someops"


def test_operators_are_listed_where_they_are_defined(package: str) -> None:
    assert module_names(package) == ["someops.sink", "someops.video.blur"]
    assert list(known_operators(package)) == ["someops.sink:Sink", "someops.video.blur:Blur"]


def test_an_operator_is_found_by_its_name() -> None:
    assert load_operator("tests.engine.fakes:Blur") is fakes.Blur
    assert operators_in(fakes)["Blur"] is fakes.Blur
    assert "NotAnOperator" not in operators_in(fakes)
    assert "Operator" not in operators_in(fakes)


@pytest.mark.parametrize(
    ("op", "code"),
    [
        ("tests.engine.fakes:Nothing", "NOT_FOUND"),
        ("tests.engine.fakes", "NOT_FOUND"),
        (":Blur", "NOT_FOUND"),
        ("no_such_package.blur:Blur", "NOT_FOUND"),
        ("json:Blur", "NOT_FOUND"),
        ("json.nothing:Blur", "NOT_FOUND"),
        ("..fakes:Blur", "NOT_FOUND"),
        ("tests.engine.broken_module:Any", "IMPORT_FAILED"),
    ],
)
def test_one_that_cannot_be_had_is_told_with_a_code(op: str, code: str) -> None:
    with pytest.raises(OperatorError) as caught:
        load_operator(op)
    assert caught.value.code == code
