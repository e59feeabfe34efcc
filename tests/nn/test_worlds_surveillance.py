"""`surveillance`: walkers, occlusion, light and what is planted, in picture and truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from operators.nn.worlds.clip import make_clip
from operators.nn.worlds.figures import SHIN, THIGH, leg
from operators.nn.worlds.hall import LANES_Z, PILLAR_Z, Light, View
from operators.nn.worlds.spec import ANOMALIES, FLOOR, SPLITS, Anomaly, ClipSpec
from operators.nn.worlds.surveillance import SurveillanceWorld
from operators.nn.worlds.walkers import DRESS, LANE_WIDTH, Path

SPEC = ClipSpec("surveillance", 0, width=96, height=64, length=30)


@pytest.mark.parametrize("split", SPLITS)
def test_walkers_are_where_the_truth_says(split):
    checked = 0
    for seed in range(4):
        clip = make_clip(replace(SPEC, seed=seed, split=split, length=10), masks=True)
        for n, k in np.ndindex(clip.truth.visible.shape):
            rows, columns = np.nonzero(clip.masks[n] == k + 1)
            (x, y), half = clip.truth.centre_px[n, k], clip.truth.size_px[n, k]
            if len(rows) and half < x < 95 - half and np.ptp(rows) > 1.7 * half:  # not covered
                assert rows.min() == pytest.approx(y - half, abs=0.14 * half + 1.5)
                assert rows.max() == pytest.approx(y + half, abs=0.1 * half + 1.5)
                assert columns.mean() == pytest.approx(x, abs=0.2 * half + 1)
                checked += 1
            if not clip.truth.visible[n, k]:
                assert not len(rows)
        assert {known.kind for known in clip.truth.objects} <= set(DRESS[split][0])
    assert checked > 10


def test_somebody_is_there_when_the_world_begins():
    for seed in range(8):
        assert make_clip(replace(SPEC, seed=seed, length=1)).truth.visible.any()


def test_everybody_goes_the_way_of_his_lane():
    ways: dict[float, set[float]] = {}
    truth = make_clip(replace(SPEC, width=32, height=32, seed=2, length=60, fps=1)).truth
    assert len(truth.objects) > 4
    for k in range(len(truth.objects)):
        z = truth.centre[0, k, 1]
        lane = min(LANES_Z, key=lambda lane, z=z: abs(lane - z))
        assert abs(lane - z) <= LANE_WIDTH
        moving = truth.velocity[:, k, 0]
        ways.setdefault(lane, set()).update(np.sign(moving[moving != 0]))
    assert all(len(signs) == 1 for signs in ways.values())


def test_at_most_four_are_there():
    truth = make_clip(replace(SPEC, width=32, height=32, seed=5, length=100, fps=2)).truth
    assert truth.visible.sum(axis=1).max() <= 4
    assert len({*truth.visible.sum(axis=1)}) > 1


def test_footsteps_are_half_a_stride_apart_and_under_the_walker():
    truth = make_clip(replace(SPEC, width=256, height=64, seed=1, length=60, fps=10)).truth
    steps = [contact for contact in truth.contacts if contact.object == 0]
    assert len(steps) > 5
    assert [c.time_s for c in truth.contacts] == sorted(c.time_s for c in truth.contacts)
    for step in steps:
        assert step.footstep
        assert step.other == FLOOR
        assert step.impulse_ns == pytest.approx(step.speed * truth.objects[0].mass_kg)
        x = np.interp(step.time_s, truth.times_s, truth.centre[:, 0, 0])
        assert abs(step.position[0] - x) < 0.25 * truth.objects[0].size_m * 2
    gaps = np.diff([step.position[0] for step in steps])
    assert np.allclose(gaps, gaps[0])
    assert 0.35 < abs(gaps[0]) / (2 * truth.objects[0].size_m) < 0.45


def test_the_standing_foot_covers_half_a_stride():
    for stride in (0.74, 0.86):
        front, back = (leg(phase, stride)[2][0] for phase in (np.pi / 2, 3 * np.pi / 2))
        assert front - back == pytest.approx(stride / 2, abs=0.01)
        assert leg(np.pi, stride)[2][1] == pytest.approx(THIGH + SHIN)  # straight while it stands
        assert leg(2 * np.pi, stride)[2][1] < THIGH + SHIN - 0.05  # bent while it swings


def test_a_path_knows_when_and_where():
    path = Path(((0.0, 0.0), (2.0, 4.0), (3.0, 4.0), (4.0, 2.0)), 5.0)
    assert path.at(1.0) == (2.0, 2.0, 2.0)
    assert path.at(2.5) == (4.0, 0.0, 4.0)
    assert path.at(3.5) == (3.0, -2.0, 5.0)
    assert [path.when(d) for d in (1.0, 4.0, 5.0, 6.5)] == [0.5, 2.0, 3.5, np.inf]
    assert [path.facing(t) for t in (-1, 1.0, 2.5, 3.5)] == [1, 1, 1, -1]


def test_pillars_hide_who_is_behind_them():
    hidden = 0
    for seed in range(8):
        boxes = SurveillanceWorld(replace(SPEC, seed=seed, length=1))._hall.pillars
        clip = make_clip(replace(SPEC, seed=seed, length=20), masks=True)
        far = [k for k in range(len(clip.truth.objects)) if clip.truth.centre[0, k, 1] > PILLAR_Z]
        for n, mask in enumerate(clip.masks):
            for box in boxes:
                assert not np.isin(mask[box], [k + 1 for k in far]).any()
                inside = clip.truth.centre_px[n, far, 0]
                hidden += ((box[1].start < inside) & (inside < box[1].stop)).sum()
    assert hidden >= 3


def test_lamps_change_the_light_when_the_truth_says():
    spec = replace(SPEC, seed=3, fps=10, length=400, width=32, height=32)
    truth = make_clip(spec).truth
    switches = [event for event in truth.events if event.kind in ("lamp_on", "lamp_off")]
    assert len(switches) > 2
    assert any(event.kind == "flicker" for event in truth.events)
    light = Light(View(32, 32), spec.generator("light"))
    for event in switches:
        before, after = (light.at(event.time_s + d).mean() for d in (-1e-6, 1e-6))
        assert (after > before + 0.02) if event.kind == "lamp_on" else (after < before - 0.02)
    smooth = [light.at(t).mean() for t in np.linspace(0, switches[0].time_s - 1e-6, 20)]
    assert np.abs(np.diff(smooth)).max() < 0.3


def test_a_forgotten_lamp_burns_on():
    spec = replace(SPEC, seed=3)
    light, other = (Light(View(32, 32), spec.generator("light")) for _ in range(2))
    light.run(60.0)
    light.forget(40.0)
    for t in (40.0, 47.3, 60.0):
        assert np.array_equal(light.at(t), other.at(t))
    assert len(light._changes) < len(other._changes)


def test_the_sensor_is_noisy_and_the_same_at_the_same_moment():
    world = SurveillanceWorld(replace(SPEC, seed=6))
    one, other, again = (world.render(t).astype(int) for t in (0.0, 1 / 240, 0.0))
    assert np.array_equal(one, again)
    assert 1.5 < np.abs(one - other)[:, :, 1].mean() < 4.5


def anomalous(kind: str, seed: int = 4, time_s: float = 1.0):
    return replace(SPEC, seed=seed, fps=10, anomaly=Anomaly(kind, time_s))


@pytest.mark.parametrize("kind", ANOMALIES)
def test_an_anomaly_is_in_the_truth_where_it_happens(kind):
    clip = make_clip(anomalous(kind), masks=True)
    (event,) = [event for event in clip.truth.events if event.kind == kind]
    assert event.time_s == 1.0
    assert event.position_px == pytest.approx(tuple(clip.truth.centre_px[10, event.object]))
    assert 0 < event.position_px[0] < 96
    covered = [int((mask == event.object + 1).sum()) for mask in clip.masks]
    if kind == "appears":
        assert sum(covered[:10]) == 0
        assert min(covered[10:12]) > 10
        assert clip.truth.objects[event.object].kind == "parcel"
    if kind == "vanishes":
        assert min(covered[8:10]) > 10
        assert sum(covered[10:]) == 0
        assert not any(c.object == event.object and c.time_s >= 1.0 for c in clip.truth.contacts)
    if kind == "wrong_way":
        before, after = (
            clip.truth.velocity[9, event.object, 0],
            clip.truth.velocity[10, event.object, 0],
        )
        assert before == pytest.approx(-after)
        assert min(covered[8:12]) > 10


def test_an_anomaly_leaves_the_rest_of_the_world_alone():
    normal, planted = make_clip(replace(SPEC, seed=4, fps=10)), make_clip(anomalous("appears"))
    assert np.array_equal(normal.frames[:10], planted.frames[:10])
    changed = np.abs(normal.frames[10:].astype(int) - planted.frames[10:]).max(axis=-1) > 0
    assert 0 < changed.mean() < 0.1


def test_a_clip_that_ends_before_its_anomaly_does_not_tell_of_it():
    for kind in ANOMALIES:
        truth = make_clip(replace(anomalous(kind, time_s=5.0), length=10)).truth
        assert all(event.kind != kind for event in truth.events)
