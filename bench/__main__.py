"""`python -m bench NAME [--quick] [--json]`: run one bench; `report`: collect all results."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Protocol, cast

from bench import report
from bench.common import Neighbours, say
from bench.result import RESULTS, Bar, Result, commit_id, encode, machine_facts
from engine.runtime.processes import ENVIRONMENT

BENCHES = {
    "links": "how fast frames cross, beside raw pyzmq, imageZMQ, multiprocessing.Queue, memcpy",
    "pipeline": "decode, detect, overlay, encode beside a straight loop and gst-launch-1.0",
    "latency": "a live 30 fps source: age of a frame at the sink, detection included",
    "guard": "720p live with two faces: frame rate, and how old the verdicts are",
    "generate": "`dream`: frame rate, first frame, 10,000 frames, and guard beside it",
    "conceal": "a feed that stalls and loses frames: on time, back without a jump; gaps foretold",
    "engines": "a start with an engine on disk: reading it, and the whole call that does",
    "overload": "a node ten times too slow: age stays bounded, every drop has a cause",
    "churn": "200 streams added and removed: everything is back to where it began",
}

QUIET_CORES = 0.1
EXIT_OK = 0
EXIT_BAR_MISSED = 1


class Bench(Protocol):
    """What a module of this folder offers under its name."""

    def run(self, quick: bool) -> tuple[dict[str, float], tuple[Bar, ...]]:
        """Measure; `quick` ends within 45 s. Figures by key with unit, and the bars."""


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.name == "report":
        say(f"wrote {report.write()}")
        return EXIT_OK
    result = run(options.name, options.quick)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{result.name}.json").write_bytes(encode(result))
    if options.json:
        sys.stdout.buffer.write(encode(result))
    else:
        print(report.as_text(result))
    return EXIT_OK if result.ok else EXIT_BAR_MISSED


def run(name: str, quick: bool) -> Result:
    """One bench, from the machine's facts to the bars."""
    load_1m, neighbours = os.getloadavg()[0], Neighbours()
    commit = commit_id()
    bench = cast(Bench, importlib.import_module(f"bench.{name}"))
    figures, bars = bench.run(quick)
    machine = machine_facts(load_1m, neighbours.cores())
    if machine.others_cores > QUIET_CORES:
        say(f"others kept {machine.others_cores:g} cores busy meanwhile: the figures are noisy")
    return Result(name, machine, commit, figures, bars)


def _parser() -> argparse.ArgumentParser:
    names = "\n".join(f"  {name:10} {about}" for name, about in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"{names}\n  report     one table of all results, into bench/README.md",
        epilog="Exit code 0: every bar is met; 1: one is not. A full run writes bench/results/.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=[*BENCHES, "report"], metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="end within 45 s; writes no result")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def as_a_worker() -> None:
    """Start again in the environment that workers run in: the C library reads it only at start."""
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        os.execve(
            sys.executable,
            [sys.executable, "-m", "bench", *sys.argv[1:]],
            {**os.environ, **ENVIRONMENT},
        )


if __name__ == "__main__":
    as_a_worker()
    sys.exit(main())
