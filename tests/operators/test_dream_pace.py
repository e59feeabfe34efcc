"""The policy that trades steps for frame rate, told what frames took."""

from __future__ import annotations

import pytest

from operators.generate.pace import LEAST_STEPS, LOOK, Pace, Setting, Took, ladder, least_lag

MS = 1_000_000
FPS, WINDOW = 20.0, 16  # 50 ms for a frame
CALM = 100  # frames: 5 s


class Machine:
    """Takes so long for a call and a picture; work per call grows with the frames in it."""

    def __init__(
        self, wanted: Setting, base_ms: float, frame_ms: float, rest_ms: float = 5
    ) -> None:
        self.pace = Pace(FPS, wanted, WINDOW)
        self.base_ms, self.frame_ms, self.rest_ms = base_ms, frame_ms, rest_ms
        self.said: list[str] = []

    def frame_of(self, setting: Setting) -> Took:
        active = -(-setting.steps // setting.lag)
        calls_ms = setting.lag * (self.base_ms + self.frame_ms * active)
        return Took(round(calls_ms * MS), round(self.rest_ms * MS))

    def run(self, frames: int) -> list[str]:
        """What was said meanwhile."""
        told = [self.pace.note(self.frame_of(self.pace.setting)) for _ in range(frames)]
        found = [text for text in told if text is not None]
        self.said += found
        return found


@pytest.mark.parametrize(
    ("wanted", "rungs"),
    [
        ((10, 2), [(10, 2), (10, 1), (8, 1), (6, 1), (4, 1)]),
        ((10, 10), [(10, 10), (10, 5), (10, 2), (10, 1), (8, 1), (6, 1), (4, 1)]),
        ((4, 1), [(4, 1)]),
        ((3, 3), [(3, 3), (3, 1)]),
        ((50, 5), [(50, 5), (50, 4), (40, 3), (32, 2), (25, 2), (20, 2), (16, 1), (12, 1), (9, 1),
                   (7, 1), (5, 1), (4, 1)]),
    ],
)  # fmt: skip
def test_the_ladder_goes_down_in_small_steps(
    wanted: tuple[int, int], rungs: list[tuple[int, int]]
) -> None:
    assert ladder(Setting(*wanted), WINDOW) == rungs


@pytest.mark.parametrize("steps", [1, 4, 10, 16, 17, 50, 200])
@pytest.mark.parametrize("window", [4, 16])
def test_no_rung_loses_updates(steps: int, window: int) -> None:
    for rung in ladder(Setting(steps, steps), window):
        assert least_lag(rung.steps, window) <= rung.lag <= rung.steps
        assert -(-rung.steps // rung.lag) <= window, "frames at work fit into the window"
        assert rung.steps >= min(steps, LEAST_STEPS)


def test_a_machine_that_is_fast_enough_is_left_alone() -> None:
    machine = Machine(Setting(10, 2), base_ms=5, frame_ms=2)
    assert machine.run(500) == []
    assert machine.pace.setting == (10, 2)


def test_calls_go_first_then_steps_and_each_change_says_why() -> None:
    machine = Machine(Setting(10, 2), base_ms=12, frame_ms=4)  # 69, 57, 49, 41 ms
    machine.run(100)
    assert machine.pace.setting == (6, 1)
    assert machine.said == [
        "10 steps, lag 2 -> 10 steps, lag 1: 2 calls of 32.0 ms and 5.0 ms for the picture; "
        "20 fps leave 50.0 ms",
        "10 steps, lag 1 -> 8 steps, lag 1: 1 call of 52.0 ms and 5.0 ms for the picture; "
        "20 fps leave 50.0 ms",
        "8 steps, lag 1 -> 6 steps, lag 1: 1 call of 44.0 ms and 5.0 ms for the picture; "
        "20 fps leave 50.0 ms",
    ]


def test_nothing_is_decided_on_a_few_frames() -> None:
    machine = Machine(Setting(10, 2), base_ms=50, frame_ms=1)
    assert machine.run(LOOK - 1) == []
    assert len(machine.run(1)) == 1
    assert machine.run(LOOK - 1) == [], "it looks anew after each change"


def test_a_hiccup_changes_nothing() -> None:
    pace = Pace(FPS, Setting(10, 2), WINDOW)
    for number in range(200):
        hiccup = 400 if number % 4 == 0 else 0
        assert pace.note(Took((30 + hiccup) * MS, 5 * MS)) is None


def test_what_cannot_be_held_is_said_once_and_again_after_it_was_held() -> None:
    machine = Machine(Setting(4, 1), base_ms=60, frame_ms=1)
    (said,) = machine.run(300)
    assert said == (
        "4 steps, lag 1 is the least, and too slow: 1 call of 64.0 ms and 5.0 ms for the picture; "
        "20 fps leave 50.0 ms"
    )
    machine.base_ms = 10
    assert machine.run(50) == []
    machine.base_ms = 60
    assert len(machine.run(50)) == 1


def test_steps_come_back_when_there_has_been_room_for_a_while() -> None:
    machine = Machine(Setting(10, 2), base_ms=40, frame_ms=4)
    machine.run(60)
    assert machine.pace.setting == (4, 1)
    machine.base_ms, machine.frame_ms = 2, 2
    assert machine.run(CALM - 1) == []
    assert machine.run(LOOK + 5)[0].startswith(
        "4 steps, lag 1 -> 6 steps, lag 1: 1 call of 10.0 ms"
    )
    machine.run(5 * CALM)
    assert machine.pace.setting == (10, 2)


def test_what_would_hardly_fit_is_not_tried() -> None:
    machine = Machine(Setting(10, 1), base_ms=20, frame_ms=2.8)  # 53, 47.4: over and under
    machine.run(20 * CALM)
    assert machine.pace.setting == (8, 1)
    assert len(machine.said) == 1


def test_trying_in_vain_is_tried_ever_more_seldom() -> None:
    machine = Machine(Setting(5, 5), base_ms=9, frame_ms=0.5)  # 52.5 ms; half the calls take 25
    machine.run(40 * CALM)
    rises = sum(text.startswith("5 steps, lag 2 ->") for text in machine.said)
    assert 4 <= rises <= 6, "after 1, 2, 4, 8, 16 and 16 times five seconds"


def test_a_rise_that_holds_makes_the_next_one_easy_again() -> None:
    machine = Machine(Setting(5, 5), base_ms=9, frame_ms=0.5)
    machine.run(6 * CALM)  # two rises in vain: the next one after four times as long
    machine.base_ms = 5
    machine.run(20 * CALM)
    assert machine.pace.setting == (5, 5)
    machine.base_ms = 12
    machine.run(3 * LOOK)
    assert machine.pace.setting == (5, 2)
    machine.base_ms = 5
    machine.run(CALM + 3 * LOOK)
    assert machine.pace.setting == (5, 5)
