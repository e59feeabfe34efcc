"""One line of what `doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "missing", "broken"]


@dataclass(frozen=True)
class Finding:
    """What was looked at, and how it is."""

    what: str
    verdict: Verdict  # broken: something required; missing: something is slower or not to be had
    note: str
