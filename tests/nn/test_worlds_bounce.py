"""`bounce`: pictures agree with the truth, and the truth with mechanics."""

from __future__ import annotations

import numpy as np
import pytest

from operators.nn.worlds.bounce import BounceWorld
from operators.nn.worlds.clip import make_clip
from operators.nn.worlds.materials import MATERIALS, pair_restitution
from operators.nn.worlds.rooms import STYLES
from operators.nn.worlds.shapes import SHAPES_OF
from operators.nn.worlds.spec import FLOOR, SPLITS, ClipSpec
from operators.nn.worlds.textures import TEXTURES

splits = pytest.mark.parametrize("split", SPLITS)


@splits
def test_the_centre_in_the_picture_is_the_centre_in_the_truth(split):
    checked = 0
    for seed in range(3):
        clip = make_clip(ClipSpec("bounce", seed, split, length=8), masks=True)
        for n, mask in enumerate(clip.masks):
            for k in range(len(clip.truth.objects)):
                rows, columns = np.nonzero(mask == k + 1)
                x, y = clip.truth.centre_px[n, k]
                assert np.hypot(columns.mean() - x, rows.mean() - y) < 0.5
                size = clip.truth.size_px[n, k]
                assert np.hypot(columns - x, rows - y).max() < size + 1
                checked += 1
    assert checked >= 24


@splits
def test_what_is_drawn_belongs_to_the_split(split):
    for seed in range(4):
        truth = make_clip(ClipSpec("bounce", seed, split, width=32, height=32, length=1)).truth
        wall, floor = truth.scene.split("+")
        assert wall in STYLES[split][0]
        assert floor in STYLES[split][1]
        for known in truth.objects:
            assert known.kind in SHAPES_OF[split]
            assert known.texture in TEXTURES[split]


def test_speeds_and_angles_are_those_of_the_motion():
    truth = make_clip(ClipSpec("bounce", 11, width=32, height=32, fps=1000, length=300)).truth
    hits = np.array([contact.time_s for contact in truth.contacts])
    moved, turned = np.diff(truth.centre, axis=0) * 1000, np.diff(truth.angle, axis=0)
    mean = (truth.velocity[1:] + truth.velocity[:-1]) / 2
    clear = [np.abs(hits - t).min(initial=1) > 0.01 for t in truth.times_s[1:]]
    assert sum(clear) > 100
    assert np.abs(moved - mean)[clear].max() < 0.12  # a lying body is moved out of the floor
    assert np.abs(turned).max() < 0.05


def test_a_bounce_keeps_what_the_pair_of_materials_keeps():
    checked = 0
    for seed in range(14):
        truth = make_clip(ClipSpec("bounce", seed, width=16, height=16, length=12)).truth
        for contact in truth.contacts:
            known = truth.objects[contact.object]
            if known.kind != "disc" or contact.other != FLOOR:
                continue
            e = pair_restitution(*(MATERIALS[name] for name in contact.materials))
            assert contact.impulse_ns == pytest.approx((1 + e) * contact.speed * known.mass_kg)
            assert contact.materials[0] == known.material
            assert contact.position[1] == pytest.approx(0, abs=1e-3)
            checked += 1
    assert checked > 5


def test_energy_only_falls_until_somebody_kicks():
    for seed in range(4):
        truth = make_clip(ClipSpec("bounce", seed, width=16, height=16, fps=40, length=80)).truth
        masses = np.array([known.mass_kg for known in truth.objects])
        total = (truth.energy * masses).sum(axis=1)
        until = min((event.time_s for event in truth.events), default=np.inf)
        calm = truth.times_s < until
        assert np.diff(total[calm]).max() < 1e-3 * total[0]
        assert total[calm][-1] < total[0]


@pytest.mark.slow
def test_a_world_that_has_come_to_rest_is_kicked():
    for split, seed in (("train", 4), ("development", 6)):
        truth = make_clip(ClipSpec("bounce", seed, split, 16, 16, fps=4, length=36)).truth
        kicks = [event for event in truth.events if event.kind == "kick"]
        assert {kick.object for kick in kicks} == set(range(len(truth.objects)))
        n = int(np.ceil(kicks[0].time_s * 4))
        assert np.abs(truth.velocity[n - 3]).max() < 0.1
        assert np.abs(truth.velocity[n + 1]).max() > 0.5


def test_objects_do_not_overlap():
    for seed in range(5):
        truth = make_clip(ClipSpec("bounce", seed, width=16, height=16, length=30)).truth
        for i in range(len(truth.objects)):
            for j in range(i):
                apart = np.hypot(*(truth.centre[:, i] - truth.centre[:, j]).T)
                assert apart.min() > 0.4 * (truth.objects[i].size_m + truth.objects[j].size_m)


def test_everything_is_visible_and_inside_the_room():
    clip = make_clip(ClipSpec("bounce", 2, width=64, height=32, length=30))
    assert clip.truth.visible.all()
    assert clip.truth.centre_px[..., 0].min() > 0
    assert clip.truth.centre_px[..., 0].max() < 64
    assert np.all(clip.truth.camera == np.eye(2, 3))


def test_memory_of_an_endless_world_is_bounded():
    world = BounceWorld(ClipSpec("bounce", 3, width=16, height=16))
    world.truth(np.array([20.0]), 21.0)
    world.forget(20.0)
    truth = world.truth(np.array([20.0]), 21.0)
    assert all(event.time_s >= 20 for event in truth.events)
    assert len(world._simulation._starts) < 400
