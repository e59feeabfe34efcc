"""The card of unknown-spoof prompts: data, splits, properties, figures with seeds and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from operators.nn.capture.ranges import CELLS, CELLS_OF, GAP
from operators.nn.pad.bootstrap import BootstrapConfig
from operators.nn.spoof_prompts.data import RealFaces
from operators.nn.spoof_prompts.model import p_real
from operators.nn.spoof_prompts.properties import prompt_properties
from operators.nn.spoof_prompts.trainer import TrainedPrompts
from operators.nn.vlm.interface import Vlm
from operators.recipes.antispoof_data import Featured, People
from operators.recipes.antispoof_settings import AntispoofSettings
from operators.recipes.face_scores import F64
from operators.recipes.judge_captures import judge_captures, largest_shift
from operators.recipes.zero_shot import zero_shot


@dataclass(frozen=True)
class Material:
    """All that training and its card rest on."""

    vlm: Vlm
    people: People
    real: RealFaces
    development: Featured
    test: Featured


def make_card(
    settings: AntispoofSettings, material: Material, trained: TrainedPrompts
) -> dict[str, Any]:
    """What the checkpoint says of itself: data, splits, properties, figures with intervals."""
    bootstrap = BootstrapConfig(draws=settings.draws, seed=settings.seed)
    test, shots = material.test, material.test.shots
    priors = trained.priors
    properties = prompt_properties(
        trained.bank,
        trained.prior_features,
        priors.families,
        material.development.unit(),
        trained.config.margin,
    )
    baselines = zero_shot(material.vlm, test.unit(), priors)
    return {
        "purpose": "tells presentation attacks from real faces; learned from real faces alone",
        "method": "unknown-spoof prompts, a reference reading of arXiv:2505.03611",
        "backbone": {"name": material.vlm.name, "sha": material.vlm.backbone_sha},
        "settings": msgspec.to_builtins(settings),
        "domain": trained.domain,
        "subjects": material.people.subjects(),
        "simulator": {
            "cells": CELLS, "gap": GAP, "cells_of": {k: list(v) for k, v in CELLS_OF.items()},
        },
        "pictures": {
            "train": len(material.real.x),
            "development": len(material.development.shots),
            "test": len(shots),
        },
        "seeds": {"prompts": trained.config.seed, "bootstrap": bootstrap.seed},
        "steps": settings.steps,
        "properties": properties._asdict() | {"families": list(properties.families)},
        "test": judge_captures(head_scores(trained, test), shots, bootstrap),
        "zero_shot": {
            name: judge_captures(score, shots, bootstrap)["AUC"]
            for name, score in baselines.items()
        },
    }  # fmt: skip


def figures_of(card: Mapping[str, Any]) -> dict[str, float]:
    """The card's figures in short."""
    found = {}
    for group in ("print+replay", "mask3d"):
        if group in card["test"]["AUC"]:
            found[f"AUC {group}"] = float(card["test"]["AUC"][group]["value"])
            best = max(way[group]["value"] for way in card["zero_shot"].values())
            found[f"AUC {group}, best zero-shot"] = float(best)
    properties = card["properties"]
    for name in ("centred_cosine", "prior_cosine", "margin", "violations"):
        found[name] = float(properties[name])
    if "tell_tales" in card:
        found["largest shift by tell-tales"] = largest_shift(card["tell_tales"])
    return found


def head_scores(trained: TrainedPrompts, made: Featured) -> F64:
    """[N] as the head gives them at run time."""
    scores: F64 = p_real(made.unit(), *trained.bank, trained.logit_scale).double().numpy()
    return scores
