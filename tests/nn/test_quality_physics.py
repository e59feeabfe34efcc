"""Physics from tracks: exact on exact tracks, and wrong motion is told from right motion."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from operators.nn.quality.physics import (
    Room,
    averages,
    energy_per_mass,
    foretelling_error,
    in_flight,
    measure,
)
from operators.nn.quality.tracking import Track

ROOM = Room(left_px=2, right_px=62, ceiling_px=0, floor_px=56, px_per_m=20, fps=15)
RADIUS = 4.0


def made(centre: np.ndarray, area: np.ndarray | None = None) -> Track:
    """A disc whose centre goes this way."""
    length = len(centre)
    box = np.column_stack((centre - RADIUS, centre + RADIUS))
    size = np.full(length, 50.0) if area is None else area
    visible = np.isfinite(centre).all(axis=1)
    colour = np.where(visible[:, None], [200.0, 10, 10], np.nan)
    return Track(centre, size, box, colour, visible)


def thrown(length: int = 12, gravity: float = 1.0, x: float = 8.0) -> np.ndarray:
    """Free flight, [T, 2] px, with so many times the room's gravity."""
    t = np.arange(length)
    return np.column_stack((x + 3 * t, 40 - 6.0 * t + gravity * ROOM.gravity_px * t**2 / 2))


def test_free_flight_is_foretold_exactly_and_keeps_its_energy() -> None:
    found = measure(made(thrown()), ROOM)
    assert found.seen == 1
    assert found.area_variation == 0
    assert found.colour_drift == 0
    assert found.surprise_px == pytest.approx(0, abs=1e-9)
    assert found.flight_surprise_px == pytest.approx(0, abs=1e-9)
    assert found.fall == pytest.approx(1)
    assert found.energy_rises == 0
    assert found.energy_change == pytest.approx(0, abs=1e-9)


def test_energy_is_that_of_the_centre_in_joules_per_kilogram() -> None:
    x = np.column_stack((10 + 4.0 * np.arange(5), np.full(5, 36.0)))
    told = (4 * 15 / 20) ** 2 / 2 + 9.81 * (56 - 36) / 20
    energy = energy_per_mass(x, ROOM)
    assert np.isnan(energy[[0, -1]]).all()
    assert energy[1:-1] == pytest.approx(told)


@pytest.mark.parametrize(("gravity", "told"), [(0.0, 0.0), (0.5, 0.5), (-1.0, -1.0)])
def test_wrong_gravity_shows_though_nothing_is_a_surprise(gravity: float, told: float) -> None:
    x = thrown(8, gravity)
    x[:, 1] = x[:, 1] - x[:, 1].min() + 6  # below the ceiling
    found = measure(made(x), ROOM)
    assert found.fall == pytest.approx(told)
    assert found.surprise_px == pytest.approx(0, abs=1e-9)


def test_a_push_from_nothing_is_a_surprise_and_a_gain() -> None:
    x = thrown(12)
    x[6:, 0] += 4.0 * np.arange(6)
    x[:, 0] = np.minimum(x[:, 0], 55)
    quiet, pushed = measure(made(thrown(12)), ROOM), measure(made(x), ROOM)
    assert pushed.flight_surprise_px > quiet.flight_surprise_px + 0.5
    assert pushed.energy_rises > 0
    assert pushed.energy_change > 0.05


def test_a_bounce_is_contact_not_a_surprise_in_flight() -> None:
    down = np.array([[30, y] for y in (40.0, 44.0, 48.9)])
    x = np.concatenate((down, [[30, 51.8]], down[::-1] * [1, 1.0]))
    free = in_flight(made(x), ROOM)
    assert not free[3]
    assert free[[0, 1, -1]].all()
    found = measure(made(x), ROOM)
    assert found.surprise_px > 3
    assert np.isnan(found.flight_surprise_px)


def test_every_side_of_the_room_can_be_touched() -> None:
    middle = np.array([[30.0, 30.0]])
    for x, y in ((6.5, 30), (57.5, 30), (30, 4.5), (30, 51.5)):
        free = in_flight(made(np.concatenate((middle, [[x, y]]))), ROOM)
        assert free.tolist() == [True, False]


def test_a_shape_that_pulsates_and_a_colour_that_turns_are_told() -> None:
    area = 50 + 10 * np.sin(np.arange(12.0))
    track = made(thrown(), area)
    turned = track.colour.copy()
    turned[6:] = (10, 200, 10)
    found = measure(dataclasses.replace(track, colour=turned), ROOM)
    assert found.area_variation == pytest.approx(area.std() / area.mean())
    assert found.colour_drift == pytest.approx(190 * 2**0.5)


def test_gaps_are_not_filled_and_nothing_seen_has_no_figures() -> None:
    x = thrown(12)
    x[5] = np.nan
    error = foretelling_error(x)
    assert np.isnan(error[[0, 1, 2, 5, 6, 7, 8]]).all()
    assert error[[3, 4, 9, 10, 11]] == pytest.approx(0, abs=1e-9)
    area = np.full(12, 50.0)
    area[5] = 0
    found = measure(made(x, area), ROOM)
    assert found.seen == pytest.approx(11 / 12)
    assert found.area_variation == 0
    nothing = measure(made(np.full((12, 2), np.nan), np.zeros(12)), ROOM)
    told = dataclasses.asdict(nothing)
    assert told.pop("seen") == 0
    assert told.pop("path_px") == 0
    assert np.isnan(list(told.values())).all()


def test_averages_leave_out_what_is_not_defined_and_say_so() -> None:
    rows = [measure(made(thrown(12)), ROOM), measure(made(np.full((12, 2), np.nan)), ROOM)]
    found = averages(rows)
    assert found["fall"] == {"mean": pytest.approx(1), "median": pytest.approx(1), "n": 1}
    assert found["seen"] == {"mean": 0.5, "median": 0.5, "n": 2}
    assert averages(rows[1:])["fall"]["n"] == 0
    assert np.isnan(averages(rows[1:])["fall"]["mean"])
