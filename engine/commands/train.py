"""`frameloom train`, `eval` and `calibrate`: a recipe, a folder, a progress bar."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.commands.console import (
    EXIT_FAILED,
    EXIT_OK,
    CommandError,
    print_error,
    print_json,
    stderr,
    stdout,
)
from engine.commands.tables import make_table
from engine.document import read_value
from engine.errors import EngineError
from engine.recipe import Job, Recipe, Trained, recipe_named, recipes


@dataclass(frozen=True)
class TrainOptions:
    """What the command line says, beside the recipe."""

    data: Path | None
    config: str
    out: Path | None  # None: out/RECIPE
    settings: tuple[str, ...]
    minutes: float | None
    as_json: bool


def train_command(name: str | None, options: TrainOptions, *, queue: bool) -> int:
    """Train one recipe, all that is due, or list them; the exit code."""
    if queue:
        return _train_due(options)
    if name is None:
        _list_recipes()
        return EXIT_OK
    recipe = recipe_named(name)
    if options.config not in recipe.configs:
        known = ", ".join(recipe.configs)
        raise CommandError(f"{name} has no config '{options.config}'; there are {known}")
    _tell_trained(name, _train(recipe, options), options)
    return EXIT_OK


def judge_command(
    verb: Literal["evaluate", "calibrate"],
    name: str,
    given: tuple[Path | None, Path | None, Path | None],  # data, checkpoint, out
    settings: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Have a recipe judge or calibrate a checkpoint, and show what it found."""
    recipe = recipe_named(name)
    data, checkpoint, out = given
    with _job(data, _folder(out, name), "compact", settings, None) as job:
        report = getattr(recipe, verb)(job, checkpoint)
    if as_json:
        print_json(report)
        return
    console = stdout()
    console.print(report.get("text", ""), markup=False, highlight=False, soft_wrap=True)
    console.print(f"wrote   {job.out}", markup=False, highlight=False, soft_wrap=True)


def parse_settings(assignments: tuple[str, ...]) -> dict[str, Any]:
    """`field=value` with the value as YAML reads it."""
    found: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name:
            raise CommandError(f"--set {assignment}: FIELD=VALUE is needed")
        try:
            found[name] = read_value(text)
        except yaml.YAMLError as error:
            raise CommandError(f"--set {assignment}: {error}") from error
    return found


def _train_due(options: TrainOptions) -> int:
    code = EXIT_OK
    for name, recipe in recipes().items():
        reason = recipe.due()
        stderr().print(f"{name}: {reason or 'nothing to do'}", markup=False, highlight=False)
        if reason is None:
            continue
        try:
            _tell_trained(name, _train(recipe, options), options)
        except EngineError as error:  # the next one may do
            print_error(error)
            code = EXIT_FAILED
    return code


def _train(recipe: Recipe, options: TrainOptions) -> Trained:
    out = _folder(options.out, recipe.name)
    with _job(options.data, out, options.config, options.settings, options.minutes) as job:
        return recipe.train(job)


def _folder(out: Path | None, name: str) -> Path:
    folder = out or Path("out") / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{folder}: cannot write there: {error.strerror}; choose another with --out"
        raise CommandError(message) from error
    return folder


@contextmanager
def _job(
    data: Path | None, out: Path, config: str, settings: tuple[str, ...], minutes: float | None
) -> Iterator[Job]:
    """A job with a progress bar; SIGINT and SIGTERM ask it to save and end."""
    if data is not None and not data.is_dir():
        raise CommandError(f"{data}: there is no such folder")
    stop = threading.Event()
    limit_s = float("inf") if minutes is None else minutes * 60
    with _progress() as progress:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=of)
            progress.update(tasks[what], completed=done, total=of)

        before = {
            number: signal.signal(number, lambda *_: stop.set())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield Job(data, out, config, parse_settings(settings), limit_s, tell, stop)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=stderr(), transient=True, disable=not stderr().is_terminal,
    )  # fmt: skip


def _tell_trained(name: str, trained: Trained, options: TrainOptions) -> None:
    where = None if trained.checkpoint is None else str(trained.checkpoint)
    if options.as_json:
        print_json({"recipe": name, "checkpoint": where, "figures": dict(trained.figures)})
        return
    console = stdout()
    told = where or "not finished: the same command goes on"
    console.print(f"{name}: {told}", markup=False, highlight=False, soft_wrap=True)
    console.print(_figures(trained.figures))


def _figures(figures: Mapping[str, float]) -> Any:
    table = make_table("figure", ">value")
    for key, value in figures.items():
        table.add_row(key, f"{value:.4g}")
    return table


def _list_recipes() -> None:
    table = make_table("recipe", "configs", "about")
    for name, recipe in recipes().items():
        table.add_row(name, ", ".join(recipe.configs), recipe.about)
    stdout().print(table)
