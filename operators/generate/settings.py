"""What a graph may say about generation, and what it comes to for a certain checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple

from msgspec import Meta

from engine import TUNABLE, Config
from operators.engines import ENGINE, Engine
from operators.generate.checkpoint import SHIPPED, Facts
from operators.generate.pace import Setting, least_lag

Count = Annotated[int, Meta(ge=0, le=200)]


class GenerateConfig(Config, frozen=True):
    """The model, what it is asked for, and how much work a frame may be."""

    checkpoint: Annotated[
        str,
        Meta(description="of AR-Diffusion (.safetensors); empty: the compact one that comes along"),
    ] = ""
    prompt: Annotated[
        str,
        TUNABLE,
        Meta(description="one of the classes the checkpoint was trained on; empty: none of them"),
    ] = ""
    seed: Annotated[int, TUNABLE, Meta(ge=0, le=2**63 - 1, description="of all noise")] = 0
    steps: Annotated[
        Count, TUNABLE, Meta(description="updates of each frame; 0: as the checkpoint says")
    ] = 0
    lag: Annotated[
        Count,
        TUNABLE,
        Meta(
            description="calls of the model per frame, steps at most; at steps each frame is made "
            "for itself, below it several are made at once. 0: as the checkpoint says"
        ),
    ] = 0
    guidance: Annotated[
        float,
        TUNABLE,
        Meta(
            ge=0,
            le=20,
            description="how strongly the prompt pulls; 1: as trained, at half the work. Without a "
            "prompt there is nothing that could pull",
        ),
    ] = 1.0
    hold_fps: Annotated[
        bool, Meta(description="take fewer steps where frames would come too late, and say so")
    ] = True
    engine: Annotated[Engine, Meta(description=ENGINE)] = "ready"

    @property
    def path(self) -> Path:
        """Of the checkpoint."""
        return Path(self.checkpoint) if self.checkpoint else SHIPPED


class Wish(NamedTuple):
    """A config, as far as it can change while running, for a certain checkpoint."""

    label: int  # of the class; the number of classes: none
    seed: int
    setting: Setting
    guidance: float


def wish_of(config: GenerateConfig, facts: Facts) -> Wish:
    """ValueError for a class that is not there, or steps that do not fit into the window."""
    steps = config.steps or facts.steps
    least = least_lag(steps, facts.window)
    lag = config.lag or max(least, min(facts.lag, steps))
    if not least <= lag <= steps:
        raise ValueError(f"with {steps} steps lag can be {least} to {steps}, not {lag}")
    guidance = config.guidance if config.prompt else 1.0
    return Wish(label_of(config.prompt, facts), config.seed, Setting(steps, lag), guidance)


def label_of(prompt: str, facts: Facts) -> int:
    """ValueError names the classes that there are."""
    if not prompt:
        return len(facts.classes)
    if prompt in facts.classes:
        return facts.classes.index(prompt)
    if not facts.classes:
        raise ValueError(f"prompt '{prompt}': this checkpoint was trained without classes")
    raise ValueError(f"prompt '{prompt}': the checkpoint knows {', '.join(facts.classes)}")


def told_of(old: Wish, new: Wish, classes: tuple[str, ...]) -> str:
    """What has been changed, for people: "prompt 'pan', seed 3"."""
    prompt = (*classes, "")[new.label]
    said = [
        f"prompt '{prompt}'",
        f"seed {new.seed}",
        str(new.setting),
        f"guidance {new.guidance:g}",
    ]
    return ", ".join(text for text, a, b in zip(said, old, new, strict=True) if a != b)
