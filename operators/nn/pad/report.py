"""One report per test run: a plain dict for JSON, and a table in ISO/IEC 30107-3 wording.

The threshold comes in as a value fixed elsewhere; `evaluate` chooses it on development data and
refuses people who are in both sets. Everything that depends on the test labels beyond that (equal
error rate, BPCER at a given APCER, the oracle threshold) is set apart and says so. The wording of
the standard is used, conformance to it is not claimed (method notes, 8.5).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from operators.nn.pad.bootstrap import BootstrapConfig, Interval, Statistic, intervals
from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.metrics import (
    Point,
    Presentations,
    Rate,
    Sweep,
    acer_not_iso,
    apcer_by_species,
    auc,
    bpcer_at_apcer,
    bpcer_rate,
    eer,
    hter,
    non_response,
    sweep,
    tpr_at_fpr,
)
from operators.nn.pad.threshold import (
    ORACLE,
    Threshold,
    ThresholdRule,
    check_separate,
    choose_threshold,
    oracle_threshold,
)

Report = dict[str, Any]
ACER = "ACER (not ISO/IEC 30107-3 conformant)"
STANDARD = (
    "Terms of ISO/IEC 30107-3. A self-made measurement, not a certified or third-party test; "
    "injection attacks are outside its scope."
)
FREE = "depends on the labels of the test data; no single threshold of a deployed system gives it"
POINTS: dict[str, Callable[[Sweep], Point]] = {
    "D-EER": eer,
    "BPCER10": lambda counts: bpcer_at_apcer(counts, 0.10),
    "BPCER20": lambda counts: bpcer_at_apcer(counts, 0.05),
    "BPCER100": lambda counts: bpcer_at_apcer(counts, 0.01),
    "BPCER at APCER=0": lambda counts: bpcer_at_apcer(counts, 0.0),
    "TPR@FPR=1%": lambda counts: tpr_at_fpr(counts, 0.01),
}


def evaluate(
    development: Presentations,
    test: Presentations,
    rule: ThresholdRule,
    bootstrap: BootstrapConfig,
    unit: str,
) -> Report:
    """Choose the threshold on `development`, measure on `test`. `unit`: what a row is ("video")."""
    check_separate(development, test)
    return build_report(test, choose_threshold(development, rule), bootstrap, unit)


def build_report(
    test: Presentations, threshold: Threshold, bootstrap: BootstrapConfig, unit: str
) -> Report:
    """All figures of `test` at a `threshold` fixed on other data; JSON values only.

    Raises EvaluationError where one class has no scored presentation, or the threshold was set on
    the test data.
    """
    if threshold.set_on == ORACLE:
        raise EvaluationError("this threshold was chosen on test data: no result can rest on it")
    counts = sweep(test)
    oracle = oracle_threshold(test)
    interval, missing = _intervals(test, counts, (threshold.value, oracle.value), bootstrap)
    at_threshold = _at_threshold(test, counts, threshold.value, interval)
    return {
        "standard": STANDARD,
        "unit": unit,
        "orientation": "higher score = more bona fide; bona fide when score >= threshold",
        "threshold": threshold.to_dict(),
        "presentations": _sizes(test),
        "non_response": _non_response(test),
        "at_threshold": at_threshold,
        "threshold_free": {"note": FREE, **_free(counts, interval)},
        "oracle": {
            "label": ORACLE,
            "threshold": oracle.value,
            "HTER": _figure(hter(counts, oracle.value), interval["oracle HTER"]),
        },
        "bootstrap": {**asdict(bootstrap), "unit": "identity", "missing": missing},
        "notes": _notes(test, counts),
    }


def to_json(report: Report) -> str:
    """Stable text: sorted by insertion, no NaN, a newline at the end."""
    return json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _statistics(counts: Sweep, threshold: float, oracle_threshold: float) -> dict[str, Statistic]:
    result: dict[str, Statistic] = {
        "AUC": auc,
        "BPCER": lambda drawn: bpcer_rate(drawn, threshold).value,
        "APCER max": lambda drawn: float(drawn.apcer_max[drawn.cut(threshold)]),
        "HTER": lambda drawn: hter(drawn, threshold),
        "ACER": lambda drawn: acer_not_iso(drawn, threshold),
        "oracle HTER": lambda drawn: hter(drawn, oracle_threshold),
    }
    for name, point in POINTS.items():
        result[name] = _value_of(point)
    for species in counts.species:
        result[f"APCER {species}"] = _species_rate(species, threshold)
    return result


def _value_of(point: Callable[[Sweep], Point]) -> Statistic:
    return lambda drawn: point(drawn).value


def _species_rate(species: str, threshold: float) -> Statistic:
    def rate(drawn: Sweep) -> float:
        found = apcer_by_species(drawn, threshold).get(species)
        return found.value if found else float("nan")

    return rate


def _intervals(
    test: Presentations, counts: Sweep, at: tuple[float, float], bootstrap: BootstrapConfig
) -> tuple[dict[str, Interval | None], str]:
    """The intervals, or none of them and why."""
    statistics = _statistics(counts, *at)
    people = len(np.unique(test.identity))
    if people < 2:
        return dict.fromkeys(statistics), f"no intervals: {people} identity"
    return intervals(test, statistics, bootstrap), ""


def _figure(value: float, interval: Interval | None) -> dict[str, Any]:
    """A value with its interval; `undefined` bootstrap draws are told where there were any."""
    if interval is None:
        return {"value": value, "interval": None}
    figure: dict[str, Any] = {"value": value, "interval": [interval.low, interval.high]}
    if interval.undefined:
        figure["undefined_draws"] = interval.undefined
    return figure


def _rate(rate: Rate, interval: Interval | None, people: int) -> dict[str, Any]:
    """A rate with what it rests on; without an error the 3/n bounds over rows and over people."""
    figure = _figure(rate.value, interval)
    figure |= {"errors": int(rate.errors), "n": int(rate.n), "identities": people}
    if rate.upper_95 is not None:
        figure["upper_95"] = rate.upper_95
        figure["upper_95_identities"] = Rate(0.0, 0, people).upper_95
    return figure


def _people(test: Presentations, species: str) -> int:
    return len(np.unique(test.identity[(test.species == species) & test.responded]))


def _at_threshold(
    test: Presentations, counts: Sweep, threshold: float, interval: dict[str, Interval | None]
) -> dict[str, Any]:
    apcer = apcer_by_species(counts, threshold)
    worst = max(apcer, key=lambda name: apcer[name].value)
    return {
        "APCER": {
            name: _rate(rate, interval[f"APCER {name}"], _people(test, name))
            for name, rate in apcer.items()
        },
        "APCER max": {
            "species": worst, **_figure(apcer[worst].value, interval["APCER max"])
        },
        "BPCER": _rate(bpcer_rate(counts, threshold), interval["BPCER"], _people(test, "")),
        "HTER": _figure(hter(counts, threshold), interval["HTER"]),
        ACER: _figure(acer_not_iso(counts, threshold), interval["ACER"]),
    }  # fmt: skip


def _free(counts: Sweep, interval: dict[str, Interval | None]) -> dict[str, Any]:
    figures = {"AUC": _figure(auc(counts), interval["AUC"])}
    for name, point in POINTS.items():
        found = point(counts)
        figures[name] = _figure(found.value, interval[name]) | {"threshold": found.threshold}
    return figures


def _sizes(test: Presentations) -> dict[str, Any]:
    def size(rows: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, int]:
        return {
            "n": int(rows.sum()),
            "responded": int((rows & test.responded).sum()),
            "identities": len(np.unique(test.identity[rows])),
        }

    species = [str(name) for name in np.unique(test.species) if name]
    return {
        "identities": len(np.unique(test.identity)),
        "bona fide": size(test.is_live),
        "attacks": {name: size(test.species == name) for name in species},
    }


def _non_response(test: Presentations) -> dict[str, Any]:
    rates = non_response(test)
    plain = {
        name: {"value": rate.value, "n": int(rate.n), "silent": int(rate.errors)}
        for name, rate in rates.items()
    }
    bona_fide = plain.pop("", None)
    return {"BPNRR": bona_fide, "APNRR": plain}


def _notes(test: Presentations, counts: Sweep) -> list[str]:
    """What a reader must know before believing a figure."""
    notes = []
    if auc(counts) < 0.5:
        notes.append("AUC below 0.5: is a higher score really more bona fide here?")
    for share, name in ((0.1, "BPCER10"), (0.05, "BPCER20"), (0.01, "BPCER100")):
        few = [
            f"{species} ({int(row[0])})"
            for species, row in zip(counts.species, counts.attack, strict=True)
            if 0 < row[0] < 1 / share
        ]
        if few:
            notes.append(f"{name} equals BPCER at APCER=0 for too few attacks: {', '.join(few)}")
    pooled = int(counts.attack[:, 0].sum())
    if pooled < 100:
        notes.append(f"TPR@FPR=1% is that at FPR=0: {pooled} attacks, 100 are needed")
    silent = [name for name in np.unique(test.species) if not _people(test, str(name))]
    if silent:
        shown = ", ".join(str(name) or "bona fide" for name in silent)
        notes.append(f"no presentation could be scored: {shown}")
    return notes
