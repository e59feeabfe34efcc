"""Results as text, and all of them as the table in bench/README.md."""

from __future__ import annotations

from pathlib import Path

from bench.result import RESULTS, ROOT, Result, decode

README = ROOT / "bench" / "README.md"
BEGIN = "<!-- results: written by `python -m bench report` -->"
END = "<!-- end of results -->"


def as_text(result: Result) -> str:
    """Figures and bars for a terminal."""
    width = max(len(key) for key in (*result.figures, *(bar.key for bar in result.bars)))
    lines = [f"{result.name}  {result.commit}  {result.machine.cpu}, {result.machine.cores} cores"]
    lines += [
        f"  {key:{width}}  {value:12g}{_spread(result.figures, key)}"
        for key, value in result.figures.items()
        if not key.endswith("_iqr")
    ]
    lines += [
        f"{'ok' if bar.ok else 'NO'} {bar.key:{width - 1}}  {bar.got:12.4g}   want {bar.want}"
        for bar in result.bars
    ]
    return "\n".join(lines)


def write(readme: Path = README, results: Path = RESULTS) -> Path:
    """Put the table of all results between the two marks of the page."""
    text = readme.read_text()
    head, _, rest = text.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        message = f"{readme} lacks the line {BEGIN!r} or {END!r}"
        raise ValueError(message)
    readme.write_text(f"{head}{BEGIN}\n\n{as_markdown(load(results))}\n{END}{tail}")
    return readme


def load(results: Path) -> list[Result]:
    """Every result of the folder, by name."""
    return [decode(path.read_bytes()) for path in sorted(results.glob("*.json"))]


def as_markdown(results: list[Result]) -> str:
    """One table of bars, one of figures, and the machine of each bench."""
    lines = ["| bench | bar | want | got | |", "|---|---|---|---|---|"]
    for result in results:
        lines += [
            f"| {result.name} | {bar.key} | {bar.want} | {bar.got:.4g} | {_mark(bar.ok)} |"
            for bar in result.bars
        ]
    lines += ["", "| bench | figure | median | IQR |", "|---|---|---|---|"]
    for result in results:
        lines += [
            f"| {result.name} | {key} | {value:g} | {_iqr(result.figures, key)} |"
            for key, value in result.figures.items()
            if not key.endswith("_iqr")
        ]
    lines += ["", *(_machine_line(result) for result in results)]
    return "\n".join(lines) + "\n"


def _mark(ok: bool) -> str:
    return "ok" if ok else "**missed**"


def _machine_line(result: Result) -> str:
    machine = result.machine
    versions = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    return (
        f"- `{result.name}` at {result.commit}: {machine.cpu}, {machine.cores} cores,"
        f" {machine.memory_gib:g} GiB, {machine.others_cores:g} cores busy with other work,"
        f" Linux {machine.kernel}, Python {machine.python}; {versions}"
    )


def _iqr(figures: dict[str, float], key: str) -> str:
    spread = figures.get(f"{key}_iqr")
    return "" if spread is None else f"{spread:g}"


def _spread(figures: dict[str, float], key: str) -> str:
    spread = figures.get(f"{key}_iqr")
    return "" if spread is None else f" ± {spread:g} (IQR)"
