"""Learn unknown-spoof prompts from cached features of real faces.

    L = L_con + L_mar + L_pri + L_div + 0.5 L_oc        (2.2 (7); weights in the config)

With frozen towers the image features never change: a step is one text pass of K + 1 prompts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass

import msgspec
import numpy as np
import torch

from operators.nn.prompts.training import OptimiserConfig, RunLimits, StepTrainer
from operators.nn.spoof_prompts import losses
from operators.nn.spoof_prompts.data import RealFaces
from operators.nn.spoof_prompts.model import Bank, SpoofConfig, SpoofPrompts
from operators.nn.spoof_prompts.priors import Priors
from operators.nn.vlm.interface import Vlm


@dataclass(frozen=True)
class TrainedPrompts:
    """What was learned, and what it was held by."""

    bank: Bank
    priors: Priors
    prior_features: torch.Tensor  # [J, dim]
    logit_scale: float
    config: SpoofConfig
    domain: str
    losses: tuple[float, ...]  # of each step since the last interruption


def train_spoof_prompts(
    vlm: Vlm,
    real: RealFaces,
    priors: Priors,
    config: SpoofConfig,
    optimiser: OptimiserConfig | None = None,
    limits: RunLimits | None = None,
) -> TrainedPrompts | None:
    """None if time was up, or it was told to stop, before the last step.

    ValueError if features are of another width than the model's; FloatingPointError for a loss that
    is not finite.
    """
    optimiser = optimiser or OptimiserConfig()
    if real.x.shape[1] != vlm.dim:
        raise ValueError(f"features of {real.x.shape[1]} numbers for a model of {vlm.dim}")
    prompts = SpoofPrompts(vlm, priors, config)
    told = [asdict(config), asdict(optimiser), vlm.backbone_sha, priors.sha, real.fingerprint()]
    trainer = StepTrainer(
        {"contexts": prompts.learner.contexts},
        lambda step: spoof_loss(prompts(), real, prompts, vlm.logit_scale, step),
        optimiser,
        hashlib.sha256(msgspec.json.encode(told)).hexdigest(),
    )
    if not trainer.run(limits):
        return None
    with torch.no_grad():
        bank = prompts()
    return TrainedPrompts(
        bank=Bank(bank.w_r.clone(), bank.w_k.clone()),
        priors=priors,
        prior_features=prompts.priors,
        logit_scale=vlm.logit_scale,
        config=config,
        domain=real.domain,
        losses=tuple(trainer.losses),
    )


def spoof_loss(
    bank: Bank, real: RealFaces, prompts: SpoofPrompts, s: float, step: int
) -> torch.Tensor:
    """L of one step; which faces it sees comes from (seed, step)."""
    config = prompts.config
    rows = _rows(len(real.x), config, step)
    x, (w_r, w_k) = real.x[rows], bank
    terms: dict[str, Callable[[], torch.Tensor]] = {
        "con": lambda: losses.contrastive(x, w_r, w_k, s),
        "mar": lambda: losses.margin(x, w_r, w_k, config.margin),
        "pri": lambda: losses.relaxed_prior(w_k, prompts.priors, config.tau),
        "div": lambda: losses.semantic_independence(w_k, prompts.priors, config.independence),
        "oc": lambda: losses.one_class(x, w_r, prompts.genuine, config.tau),
    }
    total = sum((getattr(config, name) * term() for name, term in terms.items()
                 if getattr(config, name) > 0), torch.zeros(()))  # fmt: skip
    if config.views > 0 and real.views is not None:
        total = total + config.views * losses.view_consistency(x, real.views[rows], w_r)
    return total


def _rows(count: int, config: SpoofConfig, step: int) -> torch.Tensor:
    if config.batch == 0 or config.batch >= count:
        return torch.arange(count)
    rng = np.random.default_rng([config.seed, step])
    return torch.from_numpy(rng.permutation(count)[: config.batch])
