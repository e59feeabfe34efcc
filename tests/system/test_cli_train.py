"""The commands about models: what they say, and what they do with recipes that are due."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine import recipe
from engine.commands.console import CommandError
from engine.commands.train import TrainOptions, judge_command, parse_settings, train_command
from engine.recipe import Job, RecipeError, Trained, recipe_named
from tests.system.cli import frameloom


class Due:
    """A recipe that wants to be trained."""

    configs = ("compact",)
    about = "for this test"

    def __init__(self, name: str, reason: str | None, *, fails: bool = False) -> None:
        self.name, self._reason, self._fails = name, reason, fails
        self.jobs: list[Job] = []

    def due(self) -> str | None:
        return self._reason

    def train(self, job: Job) -> Trained:
        self.jobs.append(job)
        if self._fails:
            raise RecipeError("no faces there")
        return Trained(job.out / "made", {"auc": 0.5})

    def evaluate(self, job: Job, checkpoint: Path | None) -> Mapping[str, Any]:
        self.jobs.append(job)
        return {"text": "HTER 0.1\n", "checkpoint": str(checkpoint)}

    calibrate = evaluate


def options(folder: Path, **fields: Any) -> TrainOptions:
    given = {"data": None, "config": "compact", "out": folder, "settings": (), "minutes": None}
    return TrainOptions(**(given | {"as_json": False} | fields))


@pytest.mark.slow
def test_without_a_name_there_is_a_list(tmp_path: Path) -> None:
    done = frameloom("train", folder=tmp_path)
    assert done.code == 0, done.err
    assert "vlm-compact" in done.out


@pytest.mark.slow
def test_mistakes_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    for arguments, told in (
        (("train", "vlm-compakt"), "did you mean 'vlm-compact'?"),
        (("train", "vlm-compact", "--config", "huge"), "no config 'huge'; there are compact"),
        (("train", "vlm-compact", "--data", "nowhere"), "there is no such folder"),
        (("train", "vlm-compact", "--set", "steps"), "FIELD=VALUE is needed"),
        (("calibrate", "vlm-compact"), "has no threshold"),
        (("eval", "vlm-compact", "--set", "=1"), "FIELD=VALUE is needed"),
        (("eval", "vlm-compact", "--checkpoint", "nothing"), "nothing"),
    ):
        done = frameloom(*arguments, folder=tmp_path)
        assert done.code == 2, (arguments, done)
        assert told in done.err
        assert "Traceback" not in done.err


def test_the_queue_trains_what_is_due_and_one_failure_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad, done = Due("good", "old"), Due("bad", "missing", fails=True), Due("done", None)
    found = {one.name: one for one in (bad, done, good)}
    monkeypatch.setattr("engine.commands.train.recipes", lambda: found)
    code = train_command(None, options(tmp_path, minutes=2.0), queue=True)
    assert code == 1
    assert [len(one.jobs) for one in (good, bad, done)] == [1, 1, 0]
    assert good.jobs[0].time_limit_s == 120
    assert "made" in capsys.readouterr().out


def test_settings_are_read_as_yaml_does() -> None:
    assert parse_settings(("a=1", "b=x", "c=[1, 2]", "d=")) == {
        "a": 1, "b": "x", "c": [1, 2], "d": None,
    }  # fmt: skip
    with pytest.raises(CommandError, match="FIELD=VALUE"):
        parse_settings(("=1",))


def test_an_unknown_recipe_is_told_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "recipes", lambda: {"vlm-compact": Due("vlm-compact", None)})
    assert recipe_named("vlm-compact").name == "vlm-compact"
    with pytest.raises(RecipeError, match="did you mean 'vlm-compact'"):
        recipe_named("vlm-compakt")


@pytest.mark.parametrize("verb", ["evaluate", "calibrate"])
def test_who_judges_and_who_calibrates_is_told_the_settings(
    verb: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = Due("one", None)
    monkeypatch.setattr(recipe, "recipes", lambda: {"one": one})
    given = (tmp_path, Path("head"), tmp_path / "out")
    judge_command(verb, "one", given, ("protocol=domains", "draws=5"), as_json=False)
    (job,) = one.jobs
    assert job.settings == {"protocol": "domains", "draws": 5}
    assert (job.data, job.out) == (tmp_path, tmp_path / "out")
    shown = capsys.readouterr().out
    assert shown.startswith("HTER 0.1\n")
    assert str(tmp_path / "out") in shown
    judge_command(verb, "one", given, (), as_json=True)
    assert json.loads(capsys.readouterr().out)["checkpoint"] == "head"
