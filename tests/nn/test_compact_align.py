"""Training the heads: it learns, it goes on exactly, and it refuses what it must."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from operators.nn.vlm.align import AlignConfig, AlignProgress, AlignRun, AlignTrainer
from operators.nn.vlm.align_data import AlignData, AlignSampler, cache_images, step_rng
from operators.nn.vlm.compact import CompactConfig, CompactHeads, CompactVlm
from operators.nn.vlm.efficientnet import EfficientNetLite0
from operators.nn.vlm.retrieval import Retrieval, retrieval
from operators.nn.vlm.schedule import warm_cosine

SIZES = CompactConfig(size_px=64, dim=8, hidden=8, text_width=12)
CONFIG = AlignConfig(steps=24, batch=12, captions_per_class=2, learning_rate=3e-3, seed=5)


def planted(seed: int, images: int = 40) -> AlignData:
    """Three classes that some channels tell; captions of each, and one true of the last two."""
    rng = torch.Generator().manual_seed(seed)
    image_class = torch.arange(images) % 3
    caption_class = torch.arange(16) % 4
    pooled = torch.randn(images, 2864, generator=rng) * 0.3
    local = torch.randn(images, 1584, generator=rng) * 0.3
    sentences = torch.randn(16, 12, generator=rng) * 0.1
    for number in range(3):
        pooled[image_class == number, number * 50 : number * 50 + 50] += 0.5
        local[image_class == number, number * 50 : number * 50 + 50] += 0.5
    for number in range(4):
        sentences[caption_class == number, number * 3 : number * 3 + 3] += 1
    covers = torch.tensor(
        [[True, False, False], [False, True, False], [False, False, True], [False, True, True]]
    )
    return AlignData(pooled.half(), local.half(), image_class, sentences, caption_class, covers)


@pytest.fixture
def data() -> AlignData:
    return planted(1)


def trainer(data: AlignData, config: AlignConfig = CONFIG, seed: int = 2) -> AlignTrainer:
    torch.manual_seed(seed)
    return AlignTrainer(CompactHeads(SIZES), data, config)


def weights(one: AlignTrainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in one.heads.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one | other)


def test_it_learns_what_is_planted_and_beats_chance_on_new_images(data: AlignData) -> None:
    config = replace(CONFIG, steps=60)
    one = trainer(data, config)
    held_out = planted(9, images=60)
    before = retrieval(one.heads, held_out)
    heard: list[AlignProgress] = []
    run = AlignRun(held_out=held_out, every_steps=20, progress=heard.append)
    assert one.run(run)
    assert [told.step for told in heard] == [20, 40, 60]
    assert heard[-1].loss < heard[0].loss
    after = heard[-1].held_out
    assert after is not None
    assert after == retrieval(one.heads, held_out)
    assert after.constant == pytest.approx(2 / 3)  # "one of the last two", always
    assert after.class_accuracy > max(0.9, before.class_accuracy)
    assert after.patch_accuracy > 0.9
    assert after.caption_accuracy > 0.9
    assert after.class_chance == pytest.approx((1 / 4 + 2 / 4 + 2 / 4) / 3)
    assert after.caption_chance == pytest.approx((1 / 4 + 2 / 4 + 2 / 4) / 3)


def test_labels_that_are_independent_of_the_images_teach_nothing() -> None:
    """The planted class is row % 3; a label of row // 3 % 3 meets each of them equally often.

    The labels of the measured images are independent too, so no answer can beat a constant one but
    by the luck of 900 draws (standard error 0.016).
    """
    told, held_out = planted(1, images=36), planted(9, images=900)
    one = trainer(replace(told, image_class=torch.arange(36) // 3 % 3), replace(CONFIG, steps=40))
    one.run()
    found = retrieval(one.heads, replace(held_out, image_class=torch.arange(900) // 3 % 3))
    assert found.constant == pytest.approx(2 / 3)
    assert found.class_accuracy < found.constant + 0.05
    assert found.caption_accuracy < found.constant + 0.05
    assert found.patch_accuracy < found.constant + 0.05


@pytest.mark.parametrize("stop", [0, 1, 11])
def test_training_goes_on_exactly(data: AlignData, tmp_path: Path, stop: int) -> None:
    straight = trainer(data)
    straight.run()
    first = trainer(data)
    for _ in range(stop):
        first.advance()
    first.save(tmp_path / "state")
    second = trainer(data, seed=77)  # other random numbers: all comes from the state
    second.resume(tmp_path / "state")
    assert second.step == stop
    second.run()
    assert same(weights(straight), weights(second))


def test_the_time_limit_stops_it_and_the_next_run_goes_on(data: AlignData, tmp_path: Path) -> None:
    straight = trainer(data)
    assert straight.run()
    ticks = iter(range(1000))
    run = AlignRun(state_path=tmp_path / "state", time_limit_s=8, clock_s=lambda: next(ticks))
    first = trainer(data)
    assert not first.run(run)
    assert 0 < first.step < CONFIG.steps
    second = trainer(data, seed=77)
    assert second.run(AlignRun(state_path=tmp_path / "state"))
    assert second.step == CONFIG.steps
    assert same(weights(straight), weights(second))
    done = trainer(data, seed=78)
    assert done.run(AlignRun(state_path=tmp_path / "state"))  # nothing is left to do
    assert same(weights(straight), weights(done))


def test_the_state_is_kept_while_it_runs(data: AlignData, tmp_path: Path) -> None:
    """A crash between two reports costs only the steps since the last one."""

    def crash(told: AlignProgress) -> None:
        if told.step == 10:
            raise KeyboardInterrupt

    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        trainer(data).run(AlignRun(state_path=path, every_steps=5, progress=crash))
    after = trainer(data, seed=77)
    after.resume(path)
    assert after.step == 10
    assert list(tmp_path.iterdir()) == [path]


def test_seeds_decide(data: AlignData) -> None:
    runs = [trainer(data, replace(CONFIG, steps=3, seed=seed)) for seed in (0, 0, 1)]
    for one in runs:
        one.run()
    assert same(weights(runs[0]), weights(runs[1]))
    assert not same(weights(runs[0]), weights(runs[2]))


def test_a_state_of_other_data_sizes_or_settings_is_refused(
    data: AlignData, tmp_path: Path
) -> None:
    path = tmp_path / "state"
    trainer(data).save(path)
    others = [
        trainer(planted(3)),
        trainer(data, replace(CONFIG, steps=25)),
        AlignTrainer(CompactHeads(replace(SIZES, hidden=0)), data, CONFIG),
    ]
    for one in others:
        before = weights(one)
        with pytest.raises(ValueError, match="other data, sizes or settings"):
            one.resume(path)
        assert same(before, weights(one))


@pytest.mark.parametrize("keep", [0, 100, -3])
def test_a_damaged_state_is_refused(data: AlignData, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "state"
    trainer(data).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="state is no whole state"):
        trainer(data).resume(path)


def test_a_safetensors_file_that_is_no_state_is_refused(data: AlignData, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "state")
    with pytest.raises(ValueError, match="other data, sizes or settings"):
        trainer(data).resume(tmp_path / "state")


def test_a_loss_that_is_not_finite_ends_training(data: AlignData) -> None:
    one = trainer(data)
    one.heads.log_scale.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="nan at step 0"):
        one.run()


def test_matrices_decay_and_biases_do_not(data: AlignData) -> None:
    config = replace(CONFIG, weight_decay=100.0, steps=5, warm_share=0.0)
    one, other = trainer(data, config), trainer(data, replace(config, weight_decay=0.0))
    one.run()
    other.run()
    assert one.heads.text[1].weight.norm() < 0.8 * other.heads.text[1].weight.norm()
    assert (one.heads.log_scale - other.heads.log_scale).abs() < 0.05


def test_the_scale_never_passes_a_hundred(data: AlignData) -> None:
    one = trainer(data, replace(CONFIG, learning_rate=1.0, steps=10))
    one.heads.log_scale.data.fill_(4.6)
    one.run()
    assert float(one.heads.scale().detach()) <= 100.001


def test_batches_balance_classes_and_keep_truth(data: AlignData) -> None:
    keep = torch.cat([torch.arange(0, 40, 3), torch.tensor([1, 2])])  # 14 of class 0, one each
    few = replace(
        data,
        pooled=data.pooled[keep],
        local=data.local[keep],
        image_class=data.image_class[keep],
    )
    batch = AlignSampler(few, 600, 2).draw(step_rng(0, 0))
    assert batch.sentences.shape == (8, 12)
    assert batch.fits.shape == (600, 8)
    counts = [
        int((batch.fits[:, :2].all(1) & ~batch.fits[:, 2:].any(1)).sum()),
        int((batch.fits[:, 2] & batch.fits[:, 6]).sum()),
        int((batch.fits[:, 4] & batch.fits[:, 6]).sum()),
    ]
    assert sum(counts) == 600
    assert min(counts) > 150
    again = AlignSampler(few, 600, 2).draw(step_rng(0, 0))
    assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))


def test_accuracy_counts_classes_alike_and_knows_the_right_answer() -> None:
    """Heads set by hand: images of class 0 find their captions, those of class 1 do not."""
    heads = CompactHeads(CompactConfig(size_px=64, dim=2, hidden=0, text_width=2))
    with torch.no_grad():
        for head in (heads.pooled, heads.patch, heads.text):
            head[1].weight.zero_()
            head[1].bias.zero_()
            head[1].weight[:, :2] = torch.eye(2)
    pooled, local = torch.zeros(4, 2864), torch.zeros(4, 1584)
    pooled[:, 0] = 1  # all look like class 0
    local[:, 1] = 1  # and their patches like class 1
    data = AlignData(
        pooled,
        local,
        torch.tensor([0, 0, 0, 1]),
        torch.eye(2),
        torch.tensor([0, 1]),
        torch.eye(2, dtype=torch.bool),
    )
    assert retrieval(heads, data) == Retrieval(0.5, 0.5, 0.5, 0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pooled": torch.zeros(40, 5)}, r"pooled \(40, 5\): finite numbers \(40, 2864\)"),
        ({"local": torch.full((40, 1584), torch.inf)}, "local .* finite"),
        ({"sentences": torch.zeros(3, 12)}, "sentences"),
        ({"image_class": torch.full((40,), 3)}, "image_class must hold numbers from 0 to 2"),
        ({"caption_class": torch.full((16,), -1)}, "caption_class must hold numbers from 0 to 3"),
        ({"caption_class": torch.zeros(16, dtype=torch.int64)}, "no caption is true of .* class 1"),
        ({"covers": torch.ones(4, 3)}, "covers must be a bool matrix"),
    ],
)
def test_data_that_does_not_fit_together_is_refused(
    data: AlignData, change: dict[str, torch.Tensor], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        replace(data, **change)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch": 0}, {"captions_per_class": 0}, {"noise": -1.0}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"start at 1|not negative"):
        replace(CONFIG, **wrong)


def test_images_are_kept_as_the_tower_tells_them() -> None:
    torch.manual_seed(8)
    tower = CompactVlm(EfficientNetLite0().eval(), CompactHeads(SIZES)).image
    batches = [torch.randn(2, 3, 64, 64), torch.randn(1, 3, 64, 64)]
    kept = cache_images(tower, batches)
    depths = tower.depths(batches[1])
    assert kept.pooled.shape == (3, 2864)
    torch.testing.assert_close(kept.pooled[2:], depths.pooled.half())
    torch.testing.assert_close(kept.local[2:], depths.local.mean(1).half())
    with pytest.raises(ValueError, match="no batch"):
        cache_images(tower, [])


def test_the_rate_rises_straight_and_falls_as_half_a_cosine() -> None:
    rates = [warm_cosine(step, 110, 10) for step in range(110)]
    assert rates[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert rates[10] == 1
    assert rates[60] == pytest.approx(0.5)
    assert all(one > other for one, other in pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.001
    assert warm_cosine(0, 1, 0) == 1
    assert warm_cosine(110, 110, 10) == pytest.approx(0)
