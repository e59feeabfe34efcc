"""`train ar-diffusion`: both stages to a checkpoint, interrupted or not the same one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.recipe import Job, RecipeError
from operators.nn.ar_diffusion.config import COMPACT
from operators.nn.ar_diffusion.files import load_system
from operators.recipes import ar_diffusion
from operators.recipes.ar_diffusion import RECIPE, full_settings
from operators.recipes.ar_diffusion_stages import labels_of, motion_weight
from tests.operators.media import write_clip
from tests.recipes import small_systems

SMALL: dict[str, Any] = {
    "kinds": ["bounce", "pan"], "clips": 4, "clip_frames": 17, "latest_start_s": 1.0,
    "vae_steps": 3, "vae_batch": 4, "steps": 3, "batch": 2, "evaluation": "none", "device": "cpu",
}  # fmt: skip


def job(folder: Path, **settings: Any) -> Job:
    folder.mkdir(exist_ok=True)
    return Job(None, folder, settings={**SMALL, **settings})


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = RECIPE.train(job(tmp_path / "whole"))
    parts = job(tmp_path / "parts")
    stages: list[str] = []

    def stop_once(what: str, done: int, of: int) -> None:
        if what == "encode":
            parts.stop.set()
        stages.append(what)

    parts.tell = stop_once
    assert RECIPE.train(parts).checkpoint is None
    assert "denoiser" not in stages
    parts.stop.clear()
    parts.tell = lambda what, done, of: stages.append(what)
    stages.clear()
    rest = RECIPE.train(parts)
    assert "vae" not in stages, "that stage was done"
    assert whole.checkpoint is not None
    assert rest.checkpoint is not None
    one, other = load_system(whole.checkpoint), load_system(rest.checkpoint)
    for name, value in one.denoiser.state_dict().items():
        assert torch.equal(value, other.denoiser.state_dict()[name])
    assert one.card["classes"] == ["bounce", "pan"]
    assert one.card["settings"]["steps"] == 3
    assert one.config.denoiser.classes == 2
    assert set(one.card["held_out"]) == {
        "vae_psnr_db",
        "denoising_loss",
        "rolling_loss",
        "latent_power",
    }
    with pytest.raises(RecipeError, match="other data or settings; name another folder"):
        RECIPE.train(job(tmp_path / "whole", seed=1))


@pytest.mark.slow
def test_own_videos_take_the_place_of_worlds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ar_diffusion, "SYSTEMS", {"compact": small_systems.SMALL})
    for name in ("street", "yard"):
        (tmp_path / name).mkdir()
        write_clip(tmp_path / name / "1.mp4", frames=80)  # the last 8 at 15 Hz are one shot
    out = tmp_path / "out"
    out.mkdir()
    trained = RECIPE.train(Job(tmp_path, out, settings={**SMALL, "vae_steps": 1, "steps": 1}))
    assert trained.checkpoint is not None
    system = load_system(trained.checkpoint)
    assert system.card["classes"] == ["street", "yard"]
    sizes = {"quick": True, "past": 2, "ahead": 6, "windows": 1}
    report = RECIPE.evaluate(Job(tmp_path, out, settings=sizes), trained.checkpoint)
    assert report["figures"] == system.card["held_out"]
    assert list(report["real"]["reconstruction"]) == ["street/1.mp4", "yard/1.mp4"]
    assert report["real"]["windows"] == 1
    assert (out / "report.md").read_text() == report["text"]
    with pytest.raises(RecipeError, match="past \\+ ahead: 8 frames at most"):
        RECIPE.evaluate(Job(tmp_path, out, settings={"past": 5}), trained.checkpoint)
    again = Job(tmp_path, tmp_path / "again", settings={**SMALL, "start": str(trained.checkpoint),
                "vae_steps": 0, "steps": 0})  # fmt: skip
    again.out.mkdir()
    same = RECIPE.train(again)
    assert same.checkpoint is not None
    started = load_system(same.checkpoint)
    assert started.card["started_from"]["sha"] == system.sha
    for name, value in system.vae.state_dict().items():
        assert torch.equal(value, started.vae.state_dict()[name])


@pytest.mark.slow
def test_the_card_tells_how_own_videos_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ar_diffusion, "SYSTEMS", {"compact": small_systems.SMALL})
    write_clip(tmp_path / "1.mp4", frames=80)
    out = tmp_path / "out"
    out.mkdir()
    settings = {**SMALL, "vae_steps": 1, "steps": 1, "fps": 20.0, "evaluation": "quick"}
    trained = RECIPE.train(Job(tmp_path, out, settings=settings))
    assert trained.checkpoint is not None
    card = load_system(trained.checkpoint).card
    told = card["evaluation"]
    assert told["settings"]["fps"] == 20.0
    assert told["real"]["reconstruction"]["1.mp4"]["frames"] == 8, "the window, held out"
    assert told["real"]["windows"] == 0, "4 and 12 frames are more than that"
    sizes = {"past": 2, "ahead": 6, "quick": True}
    report = RECIPE.evaluate(Job(tmp_path, out, settings=sizes), trained.checkpoint)
    assert report["figures"] == card["held_out"], (
        "at the rate of the training, the same is held out"
    )
    assert report["real"]["reconstruction"] == told["real"]["reconstruction"]
    assert report["real"]["windows"] == 1


def test_settings_that_cannot_be_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="vae_rate"):
        RECIPE.train(job(tmp_path, vae_ratee=1))
    with pytest.raises(RecipeError, match="full, quick or none"):
        RECIPE.train(job(tmp_path, evaluation="some"))
    with pytest.raises(RecipeError, match=r"no\.safetensors.*train one"):
        RECIPE.train(job(tmp_path, start="no.safetensors"))


def test_steps_depend_on_the_machine_unless_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for there, usual in ((False, ar_diffusion.CPU_STEPS), (True, ar_diffusion.GPU_STEPS)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        found = full_settings(Job(None, tmp_path))
        assert (found.vae_steps, found.steps) == usual
        assert found.device == ("cuda" if there else "cpu")
        assert full_settings(Job(None, tmp_path, settings={"steps": 7})).steps == 7


def test_what_moves_weighs_more_and_a_frame_as_much_as_another() -> None:
    still = torch.full((2, 3, 8, 8), 0.5)
    moved = still.clone()
    moved[0, 1, 2:4, 2:4] += 0.3
    weight = motion_weight(moved, still, 8.0)
    assert torch.allclose(weight.mean(dim=(1, 2, 3)), torch.ones(2))
    assert torch.allclose(weight[0, 0, 2, 2], 9 * weight[0, 0, 0, 0])
    assert (weight[1] == 1).all()


def test_a_denoiser_without_classes_is_given_none() -> None:
    class Net:
        config, null = COMPACT.denoiser, 0

    assert labels_of(Net(), torch.tensor([1, 2])).tolist() == [0, 0]  # type: ignore[arg-type]
