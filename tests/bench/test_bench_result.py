"""The JSON of a bench, its bars, and the table made of all of them."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import __main__ as cli
from bench import report, result
from bench.result import RESULTS, Bar, Machine, Result, at_least, at_most, decode, encode, exactly

MACHINE = Machine(
    cpu="A processor",
    cores=2,
    memory_gib=23.5,
    l3_mib=32,
    kernel="6.1",
    python="3.11.2",
    load_1m=0.1,
    others_cores=0.02,
    libraries={"numpy": "2.4.0"},
)


def make_result(**changes: Any) -> Result:
    made = Result(
        "speed", MACHINE, "abc1234", {"a_fps": 60.5, "a_fps_iqr": 1.5}, (at_least("a", 60, 60.5),)
    )
    return msgspec.structs.replace(made, **changes)


@pytest.mark.parametrize(
    ("bar", "want", "ok"),
    [
        (at_least("k", 1.5, 1.5), ">= 1.5", True),
        (at_least("k", 1.5, 1.49999), ">= 1.5", False),
        (at_most("k", 100, 100.0), "<= 100", True),
        (at_most("k", 100, 100.01), "<= 100", False),
        (exactly("k", 0, 0), "== 0", True),
        (exactly("k", 0, 1), "== 0", False),
    ],
)
def test_a_bar_says_what_was_wanted_and_whether_it_is_met(bar: Bar, want: str, ok: bool) -> None:
    assert (bar.want, bar.ok) == (want, ok)


def test_json_is_one_object_of_the_agreed_shape() -> None:
    plain = json.loads(encode(make_result()))
    assert set(plain) == {"name", "machine", "commit", "figures", "bars"}
    assert plain["figures"] == {"a_fps": 60.5, "a_fps_iqr": 1.5}
    assert plain["bars"] == [{"key": "a", "want": ">= 60", "got": 60.5, "ok": True}]


def test_a_result_survives_its_file() -> None:
    assert decode(encode(make_result())) == make_result()


@pytest.mark.parametrize(
    "change", [{"figures": {"a": "fast"}}, {"extra": 1}, {"bars": [{"key": "a"}]}]
)
def test_a_result_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    plain = json.loads(encode(make_result())) | change
    with pytest.raises(msgspec.ValidationError):
        decode(json.dumps(plain).encode())


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_results_in_the_repository_are_valid(path: Path) -> None:
    found = decode(path.read_bytes())
    assert found.name == path.stem
    assert found.name in cli.BENCHES
    assert found.bars
    for bar in found.bars:
        sign, bound = bar.want.split()
        met = {">=": bar.got >= float(bound), "<=": bar.got <= float(bound)}
        assert bar.ok == met.get(sign, bar.got == float(bound)), bar


def test_the_text_shows_figures_with_spread_and_missed_bars() -> None:
    text = report.as_text(make_result(bars=(at_least("a_vs_b", 2, 1.25),)))
    assert "60.5 ± 1.5 (IQR)" in text
    assert "a_fps_iqr" not in text
    assert "NO a_vs_b" in text
    assert "1.25   want >= 2" in text


def test_report_replaces_only_what_is_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for name in ("one", "two"):
        (tmp_path / f"{name}.json").write_bytes(encode(make_result(name=name)))

    report.write(page, tmp_path)

    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| one | a | >= 60 | 60.5 | ok |" in text
    assert "| two | a_fps | 60.5 | 1.5 |" in text
    assert "`two` at abc1234: A processor, 2 cores, 23.5 GiB, 0.02 cores busy" in text
    report.write(page, tmp_path)
    assert page.read_text() == text


def test_report_refuses_a_page_without_marks(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="lacks the line"):
        report.write(page, tmp_path)


class Speed:
    """Stands in for a bench's module."""

    def __init__(self, got: float) -> None:
        self._got = got

    def run(self, quick: bool) -> tuple[dict[str, float], tuple[Bar, ...]]:
        return {"quick": float(quick)}, (at_least("speed", 1, self._got),)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cli, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def run_with(monkeypatch: pytest.MonkeyPatch, got: float, *arguments: str) -> int:
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: Speed(got))
    return cli.main(["links", *arguments])


def test_a_missed_bar_is_exit_code_1(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(monkeypatch, 0.5) == 1
    assert run_with(monkeypatch, 1.0) == 0
    assert "NO speed" in capsys.readouterr().out


def test_json_is_all_there_is_on_stdout(
    results: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    run_with(monkeypatch, 1.0, "--quick", "--json")
    printed = decode(capfdbinary.readouterr().out)
    assert printed.name == "links"
    assert printed.figures == {"quick": 1.0}


def test_only_a_full_run_leaves_a_result(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_with(monkeypatch, 1.0, "--quick")
    assert not results.exists()
    run_with(monkeypatch, 1.0)
    assert decode((results / "links.json").read_bytes()).figures == {"quick": 0.0}


def test_every_bench_has_a_module_with_run() -> None:
    for name in cli.BENCHES:
        module = importlib.import_module(f"bench.{name}")
        assert list(inspect.signature(module.run).parameters) == ["quick"], name


def test_the_commit_says_when_files_differ_from_it(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True)

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-qm", "first")
    clean = result.commit_id(tmp_path)
    (tmp_path / "file").write_text("two")
    assert result.commit_id(tmp_path) == f"{clean}+"
    assert result.commit_id(tmp_path / "missing") == "unknown"


def test_the_largest_cache_is_what_counts(tmp_path: Path) -> None:
    for index, size in enumerate(("48K", "2048K", "32M")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(f"{size}\n")
    assert result.l3_bytes(tmp_path) == 32 << 20
    assert result.l3_bytes(tmp_path / "none") == 0
