"""`python -m bench.gpu [PART ...]`: all that only a GPU can tell, part by part, each in its time.

A part is a module of this folder with `run() -> (figures, bars)`, started in a process of its own:
one that raises, crashes or hangs costs nothing but itself. Each writes its result when it is done,
`bench/results/gpu/PART.json`; one of this very commit and machine is not run again unless it is
named. When all are asked for, what there is becomes one result, `bench/results/gpu.json`.
Without a GPU it says why there is none, runs nothing and ends with exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bench import report
from bench.common import say
from bench.result import RESULTS, ROOT, Bar, Result, commit_id, decode, encode, machine_facts
from engine.device.driver import ask_driver
from engine.errors import DeviceError

PARTS = {
    "memory": "how fast memory is copied: within the device, to it, from it",
    "tests": "the tests marked needs_cuda, none of them skipped",
    "kernels": "each fused kernel: time, bytes moved, share of the memory's speed",
    "engines": "every shipped network: eager, and every backend that there is",
    "replay": "captured graphs beside single launches, every network",
    "operators": "each operator that works on a GPU, on 1080p frames: p50 and p99",
    "waits": "how often the host waits for the device while an operator works",
    "overlap": "nodes on streams of their own: the graph's time by its slowest node's",
    "generate": "video models: a call and a picture, compact and published size",
    "streams": "cameras of 1080p at 30 fps until it does not keep up; needs PyAV there",
}
PARTS_FOLDER = RESULTS / "gpu"
PART_S = 240.0  # at most for one part
ALL_S = 600.0  # for all: no part begins behind it
EXIT_OK, EXIT_BAR_MISSED, EXIT_NO_GPU = 0, 1, 2


class Outcome(msgspec.Struct, frozen=True):
    """What the process of a part prints as its last line."""

    figures: dict[str, float]
    bars: tuple[Bar, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.part:
        return _child(options.part)
    try:
        driver = ask_driver()
    except DeviceError as error:
        say(f"nothing was run: {error}")
        return EXIT_NO_GPU
    say(f"{driver.gpus[0].name}, driver for CUDA {driver.cuda[0]}.{driver.cuda[1]}")
    results = run_parts(options.names or list(PARTS), again=bool(options.names))
    print(report.as_markdown(results))
    if results and not options.names:
        (RESULTS / "gpu.json").write_bytes(encode(merged(results)))
    done = {result.name for result in results}
    missing = [name for name in options.names or PARTS if f"gpu-{name}" not in done]
    for name in missing:
        say(f"{name}: no result")
    return EXIT_OK if not missing and all(r.ok for r in results) else EXIT_BAR_MISSED


def run_parts(
    names: Sequence[str],
    *,
    again: bool,
    folder: Path = PARTS_FOLDER,
    run_one: Callable[[str, float], Outcome] | None = None,
    all_s: float = ALL_S,
) -> list[Result]:
    """The results of those that came through, one after the other; each is on disk at once."""
    folder.mkdir(exist_ok=True, parents=True)
    commit, begin, results = commit_id(), time.monotonic(), []
    for name in names:
        path = folder / f"{name}.json"
        kept = None if again else _kept(path, commit)
        left_s = all_s - (time.monotonic() - begin)
        if kept is not None:
            say(f"{name}: {path.name} is of this commit and machine")
            results.append(kept)
            continue
        if left_s <= 0:
            say(f"{name}: no time left; run it again, what is done is kept")
            continue
        say(f"{name}: {PARTS.get(name, '')}")
        try:
            outcome = (run_one or run_process)(name, min(PART_S, left_s))
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            say(f"{name}: FAILED: {error}")
            continue
        machine = machine_facts(os.getloadavg()[0], 0.0)
        result = Result(f"gpu-{name}", machine, commit, outcome.figures, outcome.bars)
        path.write_bytes(encode(result))
        results.append(result)
        say(report.as_text(result))
    return results


def merged(results: Sequence[Result]) -> Result:
    """One result of all parts: figures and bars as `part_key`, the machine of the last."""
    figures: dict[str, float] = {}
    bars: list[Bar] = []
    for result in results:
        part = result.name.removeprefix("gpu-")
        figures |= {f"{part}_{key}": value for key, value in result.figures.items()}
        bars += [msgspec.structs.replace(bar, key=f"{part}_{bar.key}") for bar in result.bars]
    return Result("gpu", results[-1].machine, results[-1].commit, figures, tuple(bars))


def run_process(name: str, limit_s: float) -> Outcome:
    """One part in a process of its own. ValueError or SubprocessError where it gives no result."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu", "--part", name],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=limit_s,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        raise ValueError(f"ended with {done.returncode} and no result")
    return msgspec.json.decode(lines[-1], type=Outcome)


def _kept(path: Path, commit: str) -> Result | None:
    """The result on disk if it is of this commit and machine, and the commit is all there is."""
    if not path.exists() or commit.endswith("+") or commit == "unknown":
        return None
    result = decode(path.read_bytes())
    loads = {"load_1m": result.machine.load_1m, "others_cores": result.machine.others_cores}
    here = msgspec.structs.replace(machine_facts(0.0, 0.0), **loads)
    return result if (result.commit, result.machine) == (commit, here) else None


def _child(name: str) -> int:
    import importlib

    figures, bars = importlib.import_module(f"bench.gpu.{name}").run()
    told = msgspec.to_builtins(Outcome(figures, tuple(bars)))
    print(json.dumps(told))
    return EXIT_OK


def _part(name: str) -> str:
    if name not in PARTS:
        raise argparse.ArgumentTypeError(f"there is no part '{name}', only {', '.join(PARTS)}")
    return name


def _parser() -> argparse.ArgumentParser:
    names = "\n".join(f"  {name:10} {about}" for name, about in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=names,
        epilog="Exit code 0: every bar is met; 1: one is not, or a part failed; 2: no GPU.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", type=_part, metavar="PART")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
