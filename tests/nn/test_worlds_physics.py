"""Flight, impacts, friction, rolling and rest, against what mechanics says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from operators.nn.worlds.bodies import Body, G, Room
from operators.nn.worlds.materials import MATERIALS, pair_restitution
from operators.nn.worlds.physics import Simulation
from operators.nn.worlds.shapes import SHAPES, area, discs, inertia
from operators.nn.worlds.spec import CEILING, FLOOR, LEFT_WALL, RIGHT_WALL

ROOM = Room(0.0, 4.0, 2.5, MATERIALS["wood"], MATERIALS["plaster"])


def body(shape: str, x: float, y: float, size: float = 0.3, material: str = "rubber", **motion):
    mass = MATERIALS[material].density * area(shape) * size**2
    return Body(
        tuple((dx * size, dy * size, radius * size) for dx, dy, radius in discs(shape)),
        len(SHAPES[shape].corners),
        size,
        mass,
        mass * size**2 * inertia(shape),
        MATERIALS[material],
        x,
        y,
        **motion,
    )


def energies(simulation: Simulation, times) -> list[float]:
    total = []
    for t in times:
        total.append(0.0)
        for pose, b in zip(simulation.at(t), simulation.bodies, strict=True):
            motion = b.mass * (pose.vx**2 + pose.vy**2) + b.inertia * pose.spin**2
            total[-1] += motion / 2 + b.mass * G * pose.y
    return total


def test_a_ball_falls_and_bounces_as_it_must():
    simulation = Simulation([body("disc", 2.0, 1.5)], ROOM)
    simulation.run(2.0)
    first, second = simulation.contacts[:2]
    fall_s = math.sqrt(2 * 1.2 / G)
    assert first.time_s == pytest.approx(fall_s, abs=1e-9)
    assert first.speed == pytest.approx(G * fall_s)
    assert first.other == FLOOR
    assert first.position == pytest.approx((2.0, 0.0), abs=1e-9)
    assert first.materials == ("rubber", "wood")
    e = pair_restitution(MATERIALS["rubber"], MATERIALS["wood"])
    assert second.time_s - first.time_s == pytest.approx(2 * e * fall_s, abs=1e-6)
    assert first.impulse_ns == pytest.approx(simulation.bodies[0].mass * G * fall_s * (1 + e))
    top = simulation.at((first.time_s + second.time_s) / 2)[0]
    assert top.y - 0.3 == pytest.approx(1.2 * e**2, abs=1e-6)


def test_the_time_of_an_oblique_corner_is_exact():
    simulation = Simulation([body("box", 2.0, 1.0, angle=0.3, spin=9.0, vx=0.5)], ROOM)
    simulation.run(1.0)
    contact = simulation.contacts[0]
    pose = simulation.at(np.nextafter(contact.time_s, 0))[0]
    c, s = math.cos(pose.angle), math.sin(pose.angle)
    lowest = min(pose.y + s * x + c * y - radius for x, y, radius in simulation.bodies[0].discs[:4])
    assert abs(lowest) < 2e-4


@pytest.mark.parametrize("seed", range(6))
def test_nothing_gains_energy_and_nothing_leaves(seed):
    rng = np.random.default_rng(seed)
    names = rng.choice(list(SHAPES), 3)
    bodies = [
        body(
            str(name), 0.7 + 1.2 * k, rng.uniform(0.6, 1.8), 0.35, str(material),
            vx=rng.uniform(-2, 2), spin=rng.uniform(-5, 5), angle=rng.uniform(0, 6),
        )
        for k, (name, material) in enumerate(
            zip(names, rng.choice(["rubber", "glass", "stone"], 3), strict=True)
        )
    ]  # fmt: skip
    simulation = Simulation(bodies, ROOM)
    times = np.linspace(0, 3, 300)
    total = np.array(energies(simulation, times))
    assert np.diff(total).max() < 1e-3 * total[0]  # what is pushed out of an overlap rises a little
    assert total[-1] < 0.9 * total[0]
    assert simulation.contacts
    for t in times[::10]:
        for pose in simulation.at(t):
            assert 0.1 < pose.x < 3.9
            assert 0.05 < pose.y < 2.4


def test_between_contacts_energy_is_kept():
    simulation = Simulation([body("brick", 2.0, 1.5, vx=1.0, spin=4.0)], ROOM)
    simulation.run(1.0)
    end = simulation.contacts[0].time_s
    total = energies(simulation, np.linspace(0, end - 1e-9, 50))
    assert max(total) - min(total) < 1e-12 * total[0]


def test_equal_balls_swap_their_speeds_less_the_restitution():
    pair = [body("disc", 1.0, 1.5, vx=2.0), body("disc", 3.0, 1.5, vx=-2.0)]
    simulation = Simulation(pair, ROOM)
    simulation.run(0.4)
    (contact,) = simulation.contacts
    assert {contact.object, contact.other} == {0, 1}
    assert contact.time_s == pytest.approx((2.0 - 0.6) / 4, abs=1e-9)
    left, right = simulation.at(contact.time_s)
    assert left.vx == pytest.approx(-2.0 * 0.88)
    assert right.vx == pytest.approx(2.0 * 0.88)


def test_a_heavy_body_pushes_a_light_one_and_momentum_is_kept():
    pair = [body("disc", 1.0, 1.5, material="metal", vx=4.0), body("hexagon", 2.5, 1.5)]
    simulation = Simulation(pair, ROOM)
    simulation.run(0.3)
    assert len(simulation.contacts) == 1
    after = simulation.at(0.3)
    momentum = sum(b.mass * pose.vx for b, pose in zip(pair, after, strict=True))
    assert momentum == pytest.approx(4.0 * pair[0].mass)
    assert after[1].vx > 4.0


def test_a_ball_rolls_without_slipping_slows_down_and_stops():
    ball = body("disc", 0.5, 0.3, vx=1.0, spin=-1.0 / 0.3, rolls=True)
    simulation = Simulation([ball], ROOM)
    slow = MATERIALS["rubber"].rolling * G
    for t in (0.1, 0.9, 2.0):
        pose = simulation.at(t)[0]
        assert pose.x == pytest.approx(0.5 + t - slow * t * t / 2, abs=1e-9)
        assert pose.vx == pytest.approx(1 - slow * t, abs=1e-9)
        assert pose.angle == pytest.approx(-(pose.x - 0.5) / 0.3, abs=1e-9)
        assert pose.y == 0.3
    end = simulation.at(5.0)[0]
    assert end.x == pytest.approx(0.5 + 1 / (2 * slow), abs=1e-4)
    assert end.vx == end.spin == 0
    assert simulation.contacts == []


def test_a_sliding_ball_begins_to_roll():
    simulation = Simulation([body("disc", 0.5, 0.3 + 1e-6, vx=2.0)], ROOM)
    pose = simulation.at(0.8)[0]
    assert pose.vx + pose.spin * 0.3 == pytest.approx(0, abs=1e-3)
    assert (
        1.0 < pose.vx < 2.0 * 2 / 3
    )  # two thirds are left of a sliding disc's speed, then rolling


def test_a_box_comes_to_lie_on_a_side():
    simulation = Simulation([body("box", 2.0, 1.0, angle=0.5, spin=2.0, material="wood")], ROOM)
    pose = simulation.at(6.0)[0]
    assert simulation.bodies[0].asleep
    quarter = pose.angle / (math.pi / 2)
    assert quarter == pytest.approx(round(quarter), abs=0.02)
    assert pose.y == pytest.approx(0.74 * 0.3, abs=2e-3)


def test_walls_and_ceiling_send_things_back():
    simulation = Simulation([body("disc", 2.0, 1.2, vx=-6.0, vy=4.9)], ROOM)
    simulation.run(4.0)
    met = {contact.other for contact in simulation.contacts}
    assert met == {FLOOR, LEFT_WALL, RIGHT_WALL, CEILING}


def test_a_sleeper_that_is_hit_moves():
    still = body("box", 3.0, 0.74 * 0.3, material="wood")
    simulation = Simulation([still, body("disc", 0.5, 0.3, vx=3.0, spin=-10, rolls=True)], ROOM)
    assert simulation.at(0.6)[0].x == pytest.approx(3.0, abs=1e-3)
    assert simulation.at(2.5)[0].x > 3.02
    assert any({c.object, c.other} == {0, 1} for c in simulation.contacts)


def test_rest_is_told_and_may_be_ended():
    told = []
    ball = body("disc", 2.0, 0.3, rolls=True)

    def rested(now_s: float) -> bool:
        told.append(now_s)
        if len(told) == 3:
            ball.vy = 3.0
        return len(told) == 3

    simulation = Simulation([ball], ROOM, rested)
    simulation.run(told[-1] + 1.0 if told else 1.9)
    assert told == sorted(told)
    assert max(simulation.at(t)[0].y for t in np.linspace(told[2], told[2] + 0.2, 9)) > 0.6


def test_forgetting_bounds_what_is_kept():
    simulation = Simulation([body("disc", 2.0, 1.5), body("box", 1.0, 1.0)], ROOM)
    before = simulation.at(1.5)
    simulation.forget(1.5)
    assert simulation.at(1.5) == before
    assert all(contact.time_s >= 1.5 for contact in simulation.contacts)
    simulation.run(30.0)
    simulation.forget(30.0)
    assert len(simulation._starts) < 4
