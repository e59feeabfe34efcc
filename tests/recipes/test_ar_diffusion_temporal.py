"""Stage 1b in the recipe: layers learned beside a system, kept, judged, and of no harm when off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from engine.recipe import Job, RecipeError
from operators.nn.ar_diffusion.files import load_system
from operators.nn.ar_diffusion.temporal import TemporalDecoder
from operators.nn.ar_diffusion.temporal_file import load_layers
from operators.recipes import ar_diffusion
from operators.recipes.ar_diffusion import RECIPE, ArSettings, fingerprint
from operators.recipes.ar_diffusion_stages import Stage
from operators.recipes.ar_diffusion_temporal import (
    TemporalSettings,
    flicker,
    layer_figures,
    layers_path,
    measured_layers,
    train_layers,
)
from operators.recipes.footage import Footage
from tests.recipes.small_systems import SMALL, small_system

SETTINGS = TemporalSettings(temporal_steps=4, temporal_batch=1, temporal_rate=1e-2, device="cpu")
FIGURES = {
    f"{name}_{figure}"
    for name in ("frame", "temporal", "shaken_frame", "shaken_temporal")
    for figure in ("psnr_db", "flicker")
}


def footage() -> Footage:
    """Two sequences of 9 frames, noise that moves to the right."""
    size = SMALL.vae.size_px
    still = np.random.default_rng(3).integers(0, 256, (2, size, size, 3), np.uint8)
    frames = np.stack([np.roll(one, 2 * t, axis=1) for one in still for t in range(9)])
    return Footage(frames, np.array([9, 9]), np.array([0, 1]), ("a", "b"), "noise")


def learned(job: Job, settings: TemporalSettings = SETTINGS) -> TemporalDecoder | None:
    return train_layers(small_system(), settings, footage(), Stage(job, "temporal", np.inf, "mark"))


def test_flicker_counts_errors_that_jump_and_none_that_stay() -> None:
    real = np.random.default_rng(1).integers(50, 200, (4, 8, 8, 3), np.uint8)
    assert flicker(real, real) == 0
    assert flicker(real + np.uint8(40), real) == 0
    jumping = real.copy()
    jumping[::2] += 10
    assert flicker(jumping, real) == 10
    jumping[::2] -= 20
    assert flicker(jumping, real) == 10


def test_a_run_that_was_stopped_goes_on_to_the_same_layers(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    whole = learned(Job(None, tmp_path / "whole"))
    part = Job(None, tmp_path)
    part.stop.set()
    assert learned(part) is None
    part.stop.clear()
    rest = learned(part)
    assert whole is not None
    assert rest is not None
    theirs = rest.layers.state_dict()
    assert any(bool(value.any()) for name, value in theirs.items() if "out.weight" in name)
    for name, value in whole.layers.state_dict().items():
        assert torch.equal(value, theirs[name])
    frozen = small_system().vae.decoder.state_dict()
    for name, value in rest.decoder.state_dict().items():
        assert torch.equal(value, frozen[name])
    other = msgspec.structs.replace(SETTINGS, temporal_rate=2e-2)
    with pytest.raises(RecipeError, match="other data or settings"):
        learned(part, other)


def test_layers_that_add_nothing_have_the_figures_of_single_frames() -> None:
    system = small_system()
    fresh = TemporalDecoder(system.config.vae, system.vae.decoder)
    figures = layer_figures(system, fresh, footage(), 0.3)
    assert figures.keys() == FIGURES
    for name in ("psnr_db", "flicker"):
        assert figures[f"temporal_{name}"] == figures[f"frame_{name}"]
        assert figures[f"shaken_temporal_{name}"] == figures[f"shaken_frame_{name}"]
    assert figures["shaken_frame_flicker"] > figures["frame_flicker"]


def test_the_file_holds_what_was_measured(tmp_path: Path) -> None:
    system, layers = small_system(), learned(Job(None, tmp_path))
    assert layers is not None
    path = layers_path(tmp_path / "ar-diffusion-small.safetensors")
    assert path.name == "ar-diffusion-small.temporal.safetensors"
    figures = measured_layers(path, layers, system, SETTINGS, footage())
    kept = load_layers(path, system.vae)
    assert kept.card["held_out"] == figures
    assert kept.card["settings"]["temporal_steps"] == 4
    assert figures == layer_figures(system, kept.decoder, footage(), SETTINGS.latent_noise)
    assert figures["temporal_psnr_db"] != figures["frame_psnr_db"]


def test_states_of_the_other_stages_are_good_with_layers_and_without() -> None:
    with_layers = ArSettings(temporal_steps=9, temporal_rate=1e-4)
    assert fingerprint("compact", with_layers, footage()) == fingerprint(
        "compact", ArSettings(), footage()
    )
    assert fingerprint("compact", ArSettings(seed=1), footage()) != fingerprint(
        "compact", ArSettings(), footage()
    )


def test_settings_that_cannot_be_are_named(tmp_path: Path) -> None:
    for wrong in ({"temporal_steps": -1}, {"temporal_batch": 0}):
        with pytest.raises(RecipeError, match=next(iter(wrong))):
            RECIPE.train(Job(None, tmp_path, settings=wrong))


@pytest.mark.slow
def test_the_recipe_adds_layers_to_a_system_that_it_has_made_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ar_diffusion, "SYSTEMS", {"compact": SMALL})
    told: list[str] = []
    settings: dict[str, Any] = {
        "kinds": ["bounce", "pan"], "clips": 4, "clip_frames": 17, "latest_start_s": 1.0,
        "vae_steps": 1, "vae_batch": 4, "steps": 1, "batch": 2, "evaluation": "none",
        "device": "cpu", "temporal_batch": 1,
    }  # fmt: skip
    first = RECIPE.train(Job(None, tmp_path, settings=settings))
    assert first.checkpoint is not None
    assert not layers_path(first.checkpoint).exists()
    assert "temporal" not in load_system(first.checkpoint).card
    job = Job(None, tmp_path, settings={**settings, "temporal_steps": 2})
    job.tell = lambda what, done, of: told.append(what)
    second = RECIPE.train(job)
    assert second.checkpoint == first.checkpoint
    assert "temporal" in told
    assert not {"vae", "denoiser"} & set(told), "these stages were done"
    system = load_system(first.checkpoint)
    figures = system.card["temporal"]
    assert figures.keys() == FIGURES
    assert second.figures == system.card["held_out"] | figures
    layers = load_layers(layers_path(first.checkpoint), system.vae)
    assert layers.card["held_out"] == figures
