"""The tests that need a GPU, run with `FRAMELOOM_REQUIRE_CUDA=1`: none may skip."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from bench.result import ROOT, Bar, at_least, exactly


def run() -> tuple[dict[str, float], tuple[Bar, ...]]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "needs_cuda", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env=os.environ | {"FRAMELOOM_REQUIRE_CUDA": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout, file=sys.stderr)
    figures = counts(done.stdout)
    return figures, (
        at_least("passed", 1, figures["passed"]),
        exactly("not_passed", 0, figures["failed"] + figures["errors"] + figures["skipped"]),
        exactly("exit_code", 0, done.returncode),
    )


def counts(output: str) -> dict[str, float]:
    """Of pytest's last line."""
    last = output.strip().splitlines()[-1] if output.strip() else ""
    found = {name.rstrip("s"): int(count) for count, name in re.findall(r"(\d+) (\w+)", last)}
    return {
        "passed": found.get("passed", 0),
        "failed": found.get("failed", 0),
        "errors": found.get("error", 0),
        "skipped": found.get("skipped", 0),
    }
