"""Every number of prompts and every ablation, over seeds: what each part of the method is worth.

K = 1, 2, 4, 8, 16 as the paper sweeps it; each term of the loss left out; independence on raw text
features, on centred ones, or off. The table tells all of it, also where leaving a term out helps.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from engine.recipe import Job
from operators.nn.pad.bootstrap import BootstrapConfig
from operators.nn.prompts.training import OptimiserConfig, RunLimits
from operators.nn.spoof_prompts.data import RealFaces
from operators.nn.spoof_prompts.model import SpoofConfig, p_real
from operators.nn.spoof_prompts.priors import Priors
from operators.nn.spoof_prompts.properties import prompt_properties
from operators.nn.spoof_prompts.trainer import TrainedPrompts, train_spoof_prompts
from operators.nn.vlm.compact_file import write_whole
from operators.nn.vlm.interface import Vlm
from operators.recipes.antispoof_data import Featured
from operators.recipes.judge_captures import area, judge_captures
from operators.recipes.zero_shot import zero_shot

COUNTS = (1, 2, 4, 8, 16)  # K
FULL = "as configured"
GROUPS = ("print+replay", "mask3d")
ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    FULL: {},
    "without L_con (contrastive)": {"con": 0.0},
    "without L_mar (margin)": {"mar": 0.0},
    "without L_pri (relaxed prior)": {"pri": 0.0},
    "without L_div (independence off)": {"div": 0.0},
    "without L_oc (one-class)": {"oc": 0.0},
    "independence raw": {"independence": "raw"},
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """What every variant is trained and measured on."""

    vlm: Vlm
    real: RealFaces
    priors: Priors
    development: Featured  # real faces of other people, for the properties
    test: Featured
    optimiser: OptimiserConfig
    draws: int


def variants(config: SpoofConfig) -> dict[str, SpoofConfig]:
    """By name. "independence centred" where the config itself is raw."""
    found = {name: replace(config, **fields) for name, fields in ABLATIONS.items()}
    if config.independence == "raw":
        del found["independence raw"]
        found["independence centred"] = replace(config, independence="centred")
    return found | {f"K = {count}": replace(config, spoof_prompts=count) for count in COUNTS}


def sweep(bench: Bench, config: SpoofConfig, seeds: int, job: Job) -> dict[str, Any] | None:
    """Train all, write `out/ablations.json` and `.txt`; the table, None if time was up.

    Rows that are there already, of the same data and settings, are not trained again.
    """
    end_s = time.monotonic() + job.time_limit_s
    path = job.out / "ablations.json"
    fingerprint = _fingerprint(bench, config)
    rows = _kept(path.read_bytes(), fingerprint) if path.exists() else []
    wanted = [
        (name, replace(made, seed=config.seed + number))
        for number in range(seeds)
        for name, made in variants(config).items()
    ]
    done = {(row["variant"], row["seed"]) for row in rows}
    for number, (name, made) in enumerate(wanted, 1):
        if (name, made.seed) not in done:
            limits = RunLimits(time_limit_s=end_s - time.monotonic(), stop=job.stop)
            row = _row(bench, name, made, limits)
            if row is None:
                return None
            rows.append(row)
            _write(path, fingerprint, rows, {})
        job.tell("ablations", number, len(wanted))
    table = summary(bench, rows)
    _write(path, fingerprint, rows, table)
    path.with_suffix(".txt").write_text(text_of(table))
    return table


def summary(bench: Bench, rows: Sequence[Row]) -> dict[str, Any]:
    """By variant the mean over seeds, the least and the largest, and the change from `FULL`; the
    zero-shot prompts beside them. Intervals (of the first seed) are over identities.
    """
    bootstrap = BootstrapConfig(draws=bench.draws)
    table: dict[str, Any] = {"seeds": sorted({row["seed"] for row in rows}), "variants": {}}
    full = {group: _mean(rows, FULL, group) for group in rows[0]["auc"]}
    for name in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == name]
        table["variants"][name] = {
            group: {
                "mean": _mean(rows, name, group),
                "least": min(row["auc"][group] for row in own),
                "largest": max(row["auc"][group] for row in own),
                "change": _mean(rows, name, group) - full[group],
                "over_identities": own[0]["over_identities"][group],
            }
            for group in full
        } | {"properties": own[0]["properties"]}
    found = zero_shot(bench.vlm, bench.test.unit(), bench.priors)
    table["zero_shot"] = {
        name: judge_captures(score, bench.test.shots, bootstrap)["AUC"]
        for name, score in found.items()
    }
    return table


def text_of(table: Mapping[str, Any]) -> str:
    """The table for people."""
    groups = [group for group in GROUPS if group in next(iter(table["variants"].values()))]
    columns = "".join(
        f"{f'AUC {group}':>18} {'least..largest':>16} {'change':>8}" for group in groups
    )
    lines = [
        f"means over seeds {table['seeds']}",
        f"{'':<34}{columns}{'|u_i.u_j|':>11}{'prior':>7}",
    ]
    for name, row in table["variants"].items():
        cells = "".join(
            f"{row[group]['mean']:>18.4f} "
            f"{row[group]['least']:>8.4f}{row[group]['largest']:>8.4f} "
            f"{row[group]['change']:>+8.4f}"
            for group in groups
        )
        properties = row["properties"]
        cells += f"{properties['centred_cosine']:>11.3f}{properties['prior_cosine']:>7.3f}"
        lines.append(f"{name:<34}{cells}")
    for name, row in table["zero_shot"].items():
        cells = "".join(f"{row[group]['value']:>18.4f} {'':>16} {'':>8}" for group in groups)
        lines.append(f"{f'zero-shot, {name}':<34}{cells}".rstrip())
    return "\n".join(lines) + "\n"


def _row(bench: Bench, name: str, config: SpoofConfig, limits: RunLimits) -> Row | None:
    """One variant, one seed; None if time was up."""
    trained = train_spoof_prompts(
        bench.vlm, bench.real, bench.priors, config, bench.optimiser, limits
    )
    return None if trained is None else _measured(bench, name, trained)


def _measured(bench: Bench, name: str, trained: TrainedPrompts) -> Row:
    score = p_real(bench.test.unit(), *trained.bank, trained.logit_scale).double().numpy()
    shots = bench.test.shots
    kinds = {shot.kind for shot in shots}
    groups = [group for group in GROUPS if kinds & set(group.split("+"))]
    intervals = judge_captures(score, shots, BootstrapConfig(draws=bench.draws))["AUC"]
    properties = prompt_properties(
        trained.bank, trained.prior_features, bench.priors.families, bench.development.unit(),
        trained.config.margin,
    )  # fmt: skip
    return {
        "variant": name,
        "seed": trained.config.seed,
        "auc": {group: area(score, shots, group) for group in groups},
        "over_identities": {group: intervals[group]["over_identities"] for group in groups},
        "properties": properties._asdict() | {"families": sorted(set(properties.families))},
        "last_loss": trained.losses[-1],
    }


def _mean(rows: Sequence[Row], name: str, group: str) -> float:
    return float(np.mean([row["auc"][group] for row in rows if row["variant"] == name]))


def _fingerprint(bench: Bench, config: SpoofConfig) -> str:
    told: list[Any] = [
        asdict(config),
        asdict(bench.optimiser),
        bench.vlm.backbone_sha,
        bench.priors.sha,
    ]
    told += [bench.real.fingerprint(), bench.draws]
    for made in (bench.development, bench.test):
        told.append(hashlib.sha256(made.data.tobytes()).hexdigest())
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()


def _kept(data: bytes, fingerprint: str) -> list[Row]:
    """Rows of an earlier call; none if they are of something else."""
    try:
        told = json.loads(data)
    except ValueError:
        return []
    rows: list[Row] = told["rows"] if told.get("fingerprint") == fingerprint else []
    return rows


def _write(path: Path, fingerprint: str, rows: Sequence[Row], table: Mapping[str, Any]) -> None:
    told = {"fingerprint": fingerprint, "table": table, "rows": list(rows)}
    write_whole(path, (json.dumps(told, indent=2) + "\n").encode())
