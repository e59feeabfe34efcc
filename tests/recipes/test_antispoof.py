"""The recipe of unknown-spoof prompts, with random towers: from real faces of one domain to a head
with its card; what it refuses to see; ablations; when it is due.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.recipe import Job, RecipeError
from operators.nn.capture.ranges import CELLS_OF
from operators.nn.prompts.artifact import load_head, recalibrated
from operators.nn.prompts.head import open_head
from operators.nn.spoof_prompts.data import LeakError
from operators.nn.spoof_prompts.head import save_spoof_head
from operators.nn.spoof_prompts.model import COMPACT, PAPER, Bank, SpoofConfig
from operators.nn.spoof_prompts.priors import Priors, read_priors
from operators.nn.spoof_prompts.trainer import TrainedPrompts, train_spoof_prompts
from operators.nn.vlm.compact import CompactConfig
from operators.nn.vlm.interface import Vlm
from operators.recipes import antispoof, antispoof_data, antispoof_sweep
from operators.recipes.antispoof import RECIPE, head_file
from operators.recipes.antispoof_data import (
    Featured,
    Renderer,
    backbone_subjects,
    real_faces,
    refuse_attacks,
    split_people,
    tasks_of,
    twins,
)
from operators.recipes.antispoof_settings import DEFAULTS, AntispoofSettings
from operators.recipes.antispoof_sweep import COUNTS, FULL, Bench, sweep, variants
from operators.recipes.captures import CaptureSet, Shot, Task
from operators.recipes.faces import FaceImage
from operators.recipes.zero_shot import zero_shot
from tests.operators.models import random_compact
from tests.recipes.heads import PlainHead
from tests.recipes.people import SUBJECTS, people
from tests.recipes.test_vlm_compact import random_model

DIM = 16
SMALL = {
    "faces_per_file": 1, "pictures": 4, "calibration": 4, "tests": 5, "bpcer": 0.2, "steps": 3,
    "spoof_prompts": 2, "context": 2, "draws": 10, "processes": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def vlm() -> Vlm:
    model = random_model(CompactConfig(size_px=64, dim=DIM, hidden=0), 0)
    return model.view(backbone_sha="ab" * 32, name="tiny")


@pytest.fixture
def tiny_backbone(monkeypatch: pytest.MonkeyPatch, vlm: Vlm) -> None:
    monkeypatch.setattr(antispoof, "open_backbone", lambda path, with_text: vlm)
    monkeypatch.setattr(antispoof, "backbone_subjects", lambda path: {})


def face(name: str, domain: str = "office") -> FaceImage:
    points = np.array([(40, 40), (60, 40), (50, 50), (43, 62), (57, 62)], float)
    return FaceImage(domain, name, "1", np.zeros((100, 100, 3), np.uint8), points, 76)


FACES = [face(name) for name in "abcd"] + [face(name, "street") for name in "ef"]
EACH: dict[str, Sequence[str]] = {
    "train": ("office/a", "office/b", "street/e"), "development": ("office/c",),
    "test": ("office/d", "street/f"),
}  # fmt: skip


def featured(kinds: Sequence[str], seed: int = 0) -> Featured:
    """Random features; attacks of all sorts lie apart from real faces."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((len(kinds), 1, DIM)) * 0.3
    rows[:, 0, 0] += [2.0 if kind == "bonafide" else -2.0 for kind in kinds]
    shots = tuple(
        Shot(kind, "face" if kind == "bonafide" else kind, "abcd"[number // 2 % 4], "office")  # type: ignore[arg-type]
        for number, kind in enumerate(kinds)
    )
    return Featured(rows.astype(np.float16), shots)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_backbone")
def test_real_faces_of_one_domain_become_a_head_with_its_card(tmp_path: Path) -> None:
    people(tmp_path / "data")
    out = tmp_path / "out"
    out.mkdir()
    settings = SMALL | {"tell_tales": True}
    stopped = RECIPE.train(Job(tmp_path / "data", out, settings=settings, time_limit_s=0.0))
    assert stopped.checkpoint is None, "no time: the next call goes on"
    trained = RECIPE.train(Job(tmp_path / "data", out, settings=settings))
    assert trained.checkpoint == out / "antispoof.safetensors"
    head = open_head(trained.checkpoint)
    assert (head.name, head.backbone_sha, len(head.elements)) == ("antispoof", "ab" * 32, 2)
    card = head.card
    named = [name for part in card["subjects"].values() for name in part]
    assert sorted(named) == [f"office/{name}" for name in SUBJECTS]
    assert card["domain"] == "office"
    assert card["simulator"]["cells_of"]["test"] == list(CELLS_OF["test"])
    assert card["pictures"] == {"train": 4, "development": 4, "test": 4}
    assert card["test"]["AUC"]["print+replay"]["value"] == trained.figures["AUC print+replay"]
    assert set(card["zero_shot"]) == {"one sentence each", "mean of five", "all priors"}
    assert card["zero_shot"]["all priors"]["mask3d"]["attacks"] == 1
    assert trained.figures["largest shift by tell-tales"] >= 0
    assert "other seeds" in card["tell_tales"]
    assert (head.thresholds[""].target, head.thresholds[""].n_live) == (0.2, 4)
    assert head.calibration is not None
    kept = Featured(
        _tensor(out / "features-development.safetensors"), tuple(featured(["bonafide"] * 4).shots)
    )
    scores = head(torch.from_numpy(kept.data).float()).score_real.double().numpy()
    assert np.mean(scores < head.thresholds[""].value) == pytest.approx(0.2, abs=1 / 4)


def _tensor(path: Path) -> Any:
    from safetensors.numpy import load_file

    return load_file(path)["data"]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_backbone")
def test_who_asks_to_stop_gets_no_checkpoint(tmp_path: Path) -> None:
    people(tmp_path / "data")
    job = Job(tmp_path / "data", tmp_path, settings=SMALL)
    job.stop.set()
    assert RECIPE.train(job).checkpoint is None


def test_a_domain_with_attacks_in_it_is_refused(tmp_path: Path) -> None:
    refuse_attacks(tmp_path, "office")
    (tmp_path / "office" / "spoof").mkdir(parents=True)
    with pytest.raises(RecipeError, match="office/spoof: training sees only real faces"):
        refuse_attacks(tmp_path, "office")
    refuse_attacks(tmp_path, "street")


def test_features_of_anything_but_real_faces_do_not_get_in() -> None:
    real = real_faces(featured(["bonafide"] * 5), featured(["bonafide"] * 5, seed=1))
    assert real.views is not None
    for kind in ("print", "replay", "mask3d"):
        with pytest.raises(LeakError, match=kind):
            real_faces(featured(["bonafide", kind]))


def test_training_and_calibration_stay_in_one_domain_and_tests_do_not() -> None:
    found = split_people(FACES, ((), ()), EACH, "")
    assert found.domain == "office", "it has most people to train on"
    assert found.subjects() == {
        "train": ["office/a", "office/b"],
        "development": ["office/c"],
        "test": ["office/d", "street/f"],
    }
    for split in ("train", "development"):
        assert {task.kind for task in tasks_of(found, split, 8, 0)} == {"bonafide"}
    tests = tasks_of(found, "test", 20, 0)
    assert [sum(task.kind == kind for task in tests) for kind in ("bonafide", "mask3d")] == [5, 5]
    seeds = [{task.seed for task in tasks_of(found, split, 20, 0)} for split in EACH]  # type: ignore[arg-type]
    assert not seeds[0] & seeds[1]
    assert not seeds[1] & seeds[2]


def test_who_the_backbone_learned_from_cannot_be_held_out() -> None:
    with pytest.raises(RecipeError, match="the backbone learned from office/b"):
        split_people(FACES, (("c",), ("b", "f")), EACH, "")
    asked = split_people(FACES, (("c",), ("d",)), EACH, "")
    assert asked.subjects()["test"] == ["office/d"]
    free = split_people(FACES, ((), ()), {}, "office")
    assert free.subjects()["development"] == ["office/c"], "by the order of the names"


def test_a_domain_with_nobody_to_calibrate_on_is_told() -> None:
    with pytest.raises(RecipeError, match=r"domain street: nobody for development.*office, street"):
        split_people(FACES, ((), ()), EACH, "street")


def test_a_compact_model_tells_who_it_learned_from(tmp_path: Path) -> None:
    assert backbone_subjects(random_compact()) == {}
    assert backbone_subjects(tmp_path) == {}, "a folder of a CLIP"


def renderer(
    vlm: Vlm, out: Path, monkeypatch: pytest.MonkeyPatch, calls: list[int], shade: int = 0
) -> Renderer:
    """One that counts its pictures instead of making them; they are as bright as their seed."""

    def made(faces: Any, tasks: Sequence[Task], size_px: int, *_: Any) -> CaptureSet:
        calls.append(len(tasks))
        images = [np.full((size_px, size_px, 3), task.seed + shade, np.uint8) for task in tasks]
        return CaptureSet(np.stack(images), tuple(_shot(task) for task in tasks))

    monkeypatch.setattr(antispoof_data, "render_set", made)
    return Renderer(vlm.image, vlm.backbone_sha, FACES, 1, Job(None, out))


def _shot(task: Task) -> Shot:
    return Shot(task.kind, task.subkind, FACES[task.face].subject, FACES[task.face].domain)


def test_features_are_kept_until_anything_changes(
    vlm: Vlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [Task(0, "bonafide", "face", seed, "train") for seed in range(6)]
    calls: list[int] = []
    first = renderer(vlm, tmp_path, monkeypatch, calls).features("train", tasks)
    again = renderer(vlm, tmp_path, monkeypatch, calls).features("train", tasks)
    assert calls == [4, 6, 4], "a probe, all of them, a probe"
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.data, again.data)
    assert first.shots == again.shots
    assert first.data.shape == (6, 1, DIM)
    other = replace(renderer(vlm, tmp_path, monkeypatch, calls), backbone_sha="cd" * 32)
    other.features("train", tasks)
    renderer(vlm, tmp_path, monkeypatch, calls).features("train", tasks[:5])
    renderer(vlm, tmp_path, monkeypatch, calls, shade=1).features("train", tasks[:5])
    assert calls[3:] == [4, 6, 4, 5, 4, 5], "backbone, tasks, and the simulator itself"
    (tmp_path / "features-train.safetensors").write_bytes(b"cut short")
    renderer(vlm, tmp_path, monkeypatch, calls, shade=1).features("train", tasks[:5])
    assert calls[-1] == 5


def test_views_are_other_captures_of_the_same_faces() -> None:
    tasks = [Task(number, "bonafide", "face", number, "train") for number in range(3)]
    made = twins(tasks)
    assert [one.face for one in made] == [0, 1, 2]
    assert not {one.seed for one in made} & {one.seed for one in tasks}


def bench(vlm: Vlm) -> Bench:
    kinds = ["bonafide"] * 8 + ["print", "replay", "mask3d"] * 4
    return Bench(
        vlm, real_faces(featured(["bonafide"] * 8)), read_priors(), featured(["bonafide"] * 6, 1),
        featured(kinds, 2), AntispoofSettings(steps=1).optimiser(), 5,
    )  # fmt: skip


def drawn(
    vlm: Vlm, real: Any, priors: Priors, config: SpoofConfig, optimiser: Any, limits: Any
) -> TrainedPrompts | None:
    """Prompts that were not learned: some near real faces, the others anywhere."""
    if limits.time_limit_s <= 0:
        return None
    rng = torch.Generator().manual_seed(config.seed + 10 * config.spoof_prompts)
    rows = torch.nn.functional.normalize(
        torch.randn(config.spoof_prompts + len(priors.texts), DIM, generator=rng), dim=1
    )
    bank = Bank(real.x.mean(0), rows[: config.spoof_prompts])
    prior_features = rows[config.spoof_prompts :]
    return TrainedPrompts(bank, priors, prior_features, 10.0, config, "office", (1.0,))


@pytest.mark.slow
def test_every_count_and_every_term_is_in_the_table(
    vlm: Vlm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(antispoof_sweep, "train_spoof_prompts", drawn)
    config = AntispoofSettings(spoof_prompts=2, context=2).prompts()
    told: list[tuple[int, int]] = []
    job = Job(None, tmp_path, tell=lambda _, done, of: told.append((done, of)))
    assert sweep(bench(vlm), config, 2, replace(job, time_limit_s=0.0)) is None
    table = sweep(bench(vlm), config, 2, job)
    assert table is not None
    assert set(table["variants"]) == {
        FULL, "independence raw", *(f"K = {count}" for count in COUNTS),
        "without L_con (contrastive)", "without L_mar (margin)", "without L_pri (relaxed prior)",
        "without L_div (independence off)", "without L_oc (one-class)",
    }  # fmt: skip
    assert told[-1] == (24, 24)
    assert table["seeds"] == [0, 1]
    full = table["variants"][FULL]["print+replay"]
    assert full["change"] == 0
    assert 0 <= full["least"] <= full["mean"] <= full["largest"] <= 1
    assert table["variants"]["K = 2"] == table["variants"][FULL]
    kept = json.loads((tmp_path / "ablations.json").read_text())
    assert kept["table"] == table
    assert len(kept["rows"]) == 24
    text = (tmp_path / "ablations.txt").read_text()
    assert len(text.splitlines()) == 2 + 12 + 3
    again = sweep(bench(vlm), config, 2, replace(job, time_limit_s=0.0))
    assert again == table, "what is there is not trained again"


def test_ablations_change_one_thing_each() -> None:
    config = AntispoofSettings().prompts()
    for name, made in variants(config).items():
        changed = {
            key
            for key in ("con", "mar", "pri", "div", "oc", "independence", "spoof_prompts")
            if getattr(made, key) != getattr(config, key)
        }
        assert len(changed) == (name != FULL), name
    raw = replace(config, independence="raw")
    assert variants(raw)["independence centred"] == config


def test_zero_shot_prompts_are_no_learned_ones(vlm: Vlm) -> None:
    x = featured(["bonafide", "print"] * 3).unit()
    found = zero_shot(vlm, x, read_priors())
    assert all(score.shape == (6,) and np.isfinite(score).all() for score in found.values())
    turned = zero_shot(vlm, x.flip(0), read_priors())
    for name, score in found.items():
        np.testing.assert_allclose(turned[name][::-1], score, rtol=1e-9)


def test_configs_are_those_of_the_method() -> None:
    assert DEFAULTS["compact"].prompts() == COMPACT
    assert DEFAULTS["paper"].prompts() == PAPER
    assert set(RECIPE.configs) == set(DEFAULTS)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"mar": -1}, "weights are not negative"),
        ({"independence": "none"}, "independence"),
        ({"steps": 0}, "steps"),
        ({"spof_prompts": 3}, "did you mean 'spoof_prompts'"),
        ({"spoof_prompts": 0}, "start at 1"),
    ],
)
@pytest.mark.usefixtures("tiny_backbone")
def test_settings_that_make_no_sense_are_told(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(RecipeError, match=told):
        RECIPE.train(Job(tmp_path, tmp_path, settings=settings))


def test_evaluation_and_calibration_take_their_own_settings(tmp_path: Path) -> None:
    job = Job(tmp_path, tmp_path, settings={"steps": 3})
    for call in (RECIPE.evaluate, RECIPE.calibrate):
        with pytest.raises(RecipeError, match="step_ms"):
            call(job, tmp_path / "head")


def test_a_checkpoint_is_a_file_or_the_folder_it_is_in(tmp_path: Path) -> None:
    assert head_file(None) == antispoof.SHIPPED
    assert head_file(tmp_path) == tmp_path / "antispoof.safetensors"
    assert head_file(tmp_path / "other") == tmp_path / "other"


def test_it_is_due_when_there_is_none_or_what_it_rests_on_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vlm: Vlm
) -> None:
    path = tmp_path / "antispoof.safetensors"
    monkeypatch.setattr(antispoof, "SHIPPED", path)
    monkeypatch.setattr(antispoof, "BACKBONE", random_compact())
    assert RECIPE.due() == "there is no checkpoint yet"
    settings = AntispoofSettings(spoof_prompts=2, context=2, steps=1)
    real = real_faces(featured(["bonafide"] * 4))
    trained = train_spoof_prompts(
        vlm, real, read_priors(), settings.prompts(), settings.optimiser()
    )
    assert trained is not None
    save_spoof_head(path, trained, vlm, {})
    assert RECIPE.due() == "the backbone that comes along has changed"
    save_spoof_head(path, trained, replace(vlm, backbone_sha=PlainHead().backbone_sha), {})
    assert RECIPE.due() is None
    monkeypatch.setattr(antispoof, "read_priors", lambda: replace(read_priors(), sha="other"))
    assert RECIPE.due() == "the priors have changed"
    recalibrated(path, path, None, {})
    assert load_head(path)[1].thresholds == {}
    path.write_bytes(path.read_bytes()[:-4])
    assert "antispoof.safetensors" in str(RECIPE.due())
