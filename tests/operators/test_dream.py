"""`Dream`: what comes out, what may be changed meanwhile, and what is said when it cannot be."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from msgspec.structs import replace

from engine import EndOfStream, Frame, OperatorError
from engine.clock import FakeClock
from engine.testing import HarnessContext, run_operator
from operators.generate import dream as module
from operators.generate.dream import Beat, Dream, DreamConfig
from operators.generate.pace import LOOK, Took
from operators.generate.records import Dreamed
from operators.generate.studio import Reel
from tests.operators.media import write_clip
from tests.operators.models import AR_SIZE_PX, AR_WINDOW, CLASSES, random_ar_diffusion

MS = 1_000_000


def config(**settings: Any) -> DreamConfig:
    given = {"realtime": False, "checkpoint": str(random_ar_diffusion())} | settings
    return DreamConfig(**given)


@contextmanager
def dreaming(
    ctx: HarnessContext | None = None, **settings: Any
) -> Iterator[tuple[Dream, HarnessContext]]:
    """An operator that is open."""
    ctx = ctx or HarnessContext()
    operator = Dream(config(**settings))
    with ctx.exits:
        operator.open(ctx)
        yield operator, ctx
        operator.close()


def some(operator: Dream, count: int) -> list[Frame]:
    return [operator.process().frames for _ in range(count)]


def tune(operator: Dream, **values: Any) -> None:
    """As the lane does, between two calls."""
    operator.config = replace(operator.config, **values)


def pixels(frames: list[Frame]) -> list[bytes]:
    return [frame.data.tobytes() for frame in frames]


def dreamed(frame: Frame) -> Dreamed:
    (record,) = frame.of(Dreamed)
    return record


# ---- what comes out


def test_it_gives_so_many_frames_that_are_what_it_says() -> None:
    results = run_operator(Dream(config(frames=5, seed=3, prompt="pan", fps=20)))
    frames = [result.frames for result in results]
    assert [frame.stamp.pts_seconds for frame in frames] == [0, 0.05, 0.1, 0.15, 0.2]
    caps = Dream.output_caps(config(), "frames")
    assert (caps.width, caps.height, caps.pix_fmt) == (AR_SIZE_PX, AR_SIZE_PX, "yuv420p")
    for number, frame in enumerate(frames):
        assert frame.caps == caps
        assert frame.data.shape == (AR_SIZE_PX * 3 // 2, AR_SIZE_PX)
        assert frame.data.dtype == np.uint8
        made = dreamed(frame)
        assert (made.number, made.prompt, made.seed, made.steps) == (number, "pan", 3, 4)
        assert len(made.checkpoint) == 64
    assert Dream.synthesizes


def test_the_same_seed_is_the_same_video_and_others_are_others() -> None:
    first, again, other, second_class = (
        pixels([result.frames for result in run_operator(Dream(config(frames=4, **wish)))])
        for wish in ({}, {}, {"seed": 1}, {"prompt": "pan"})
    )
    assert first == again
    assert not set(first) & set(other)
    assert not set(first) & set(second_class)
    assert len(set(first)) == 4, "and it moves"


def test_it_never_ends_and_keeps_no_more_than_a_window() -> None:
    with dreaming() as (operator, _):
        frames = some(operator, 5 * AR_WINDOW)
        stream: Any = operator._dreaming._reel._stream
        assert len(stream._kept) + len(stream._x) <= AR_WINDOW
        assert len({bytes(frame.data) for frame in frames[-AR_WINDOW:]}) == AR_WINDOW


def test_a_frame_takes_the_calls_that_the_schedule_promises() -> None:
    calls: list[int] = []
    with dreaming(steps=6, lag=3) as (operator, _):
        stream: Any = operator._dreaming._reel._stream
        tick = stream.tick
        stream.tick = lambda: calls.append(1) or tick()
        for _ in range(4):
            operator.process()
            calls.append(0)
    assert "".join(map(str, calls)) == "1111110" + "1110" * 3, "S for the first, then s each"


def test_what_has_to_end_ends_between_two_calls_of_the_model() -> None:
    with dreaming() as (operator, ctx):
        operator.process()
        stream: Any = operator._dreaming._reel._stream
        tick = stream.tick
        stream.tick = lambda: ctx.stop.set() or tick()
        with pytest.raises(EndOfStream):
            operator.process()


# ---- what it begins with


def test_it_goes_on_from_a_picture(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    cv2.imwrite(str(tmp_path / "b.png"), 255 - picture)
    with dreaming() as (operator, _):
        alone = pixels(some(operator, 3))
    begun = []
    for name in ("a", "b", "a"):
        with dreaming(begin=str(tmp_path / f"{name}.png")) as (operator, _):
            frames = some(operator, 3)
        assert [dreamed(frame).number for frame in frames] == [1, 2, 3], "the picture counts"
        begun.append(pixels(frames))
    assert begun[0] == begun[2]
    assert not set(begun[0]) & set(begun[1])
    assert not set(begun[0]) & set(alone)


def test_it_goes_on_from_the_end_of_a_clip_and_again_from_there(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=20, size=(64, 48))
    with dreaming(begin=str(clip)) as (operator, ctx):
        first = some(operator, 2)
        tune(operator, seed=5)
        second = some(operator, 2)
    first_number = AR_WINDOW - 1
    assert [dreamed(frame).number for frame in (*first, *second)] == [
        first_number, first_number + 1, first_number, first_number + 1
    ]  # fmt: skip
    assert ctx.reasons == ["seed 5"]


# ---- what may be changed


@pytest.mark.parametrize(
    ("change", "told", "anew"),
    [
        ({"prompt": "pan"}, "prompt 'pan'", True),
        ({"prompt": ""}, "prompt ''", True),
        ({"seed": 9}, "seed 9", True),
        ({"prompt": "bounce", "seed": 1}, "prompt 'bounce', seed 1", True),
        ({"steps": 6, "lag": 1}, "6 steps, lag 1", False),
        ({"lag": 4}, "4 steps, lag 4", False),
        ({"guidance": 2.5}, "guidance 2.5", False),
    ],
)
def test_the_first_frame_after_a_change_is_of_the_new_epoch(
    change: dict[str, Any], told: str, anew: bool
) -> None:
    with dreaming(prompt="surveillance") as (operator, ctx):
        before = some(operator, 5)
        tune(operator, **change)
        after = some(operator, 5)
    assert [frame.stamp.epoch for frame in before + after] == [0] * 5 + [1] * 5
    assert [frame.stamp.seq for frame in before + after] == list(range(10))
    assert [frame.stamp.pts for frame in before + after] == list(range(10))
    assert ctx.reasons == [told]
    numbers = [dreamed(frame).number for frame in after]
    assert numbers == (list(range(5)) if anew else list(range(5, 10)))
    if anew:
        wish = {"prompt": "surveillance"} | change
        fresh = run_operator(Dream(config(frames=5, **wish)))
        assert pixels(after) == pixels([result.frames for result in fresh])


def test_the_video_that_goes_on_shows_what_has_been_changed() -> None:
    with dreaming(prompt="pan") as (operator, _):
        plain = pixels(some(operator, 8))
    with dreaming(prompt="pan") as (operator, _):
        same = pixels(some(operator, 4))
        tune(operator, guidance=4.0)
        other = pixels(some(operator, 4))
    assert same == plain[:4]
    assert not set(other) & set(plain[4:])


def test_several_changes_between_two_frames_are_one() -> None:
    with dreaming() as (operator, ctx):
        some(operator, 1)
        tune(operator, prompt="pan")
        tune(operator, seed=4)
        tune(operator, guidance=2.0)
        some(operator, 1)
    assert ctx.reasons == ["prompt 'pan', seed 4, guidance 2"]


def test_a_change_that_changes_nothing_goes_unnoticed() -> None:
    with dreaming() as (operator, ctx):
        before = some(operator, 1)
        tune(operator, steps=4, lag=2)  # what the checkpoint says anyway
        tune(operator, guidance=3.0)  # without a prompt
        assert some(operator, 1)[0].stamp.epoch == before[0].stamp.epoch
    assert ctx.reasons == []


def test_before_its_first_frame_there_is_nothing_that_could_be_stale() -> None:
    """A node that has been started again is told its tunables before it makes anything."""
    with dreaming() as (operator, ctx):
        tune(operator, prompt="pan")
        (frame,) = some(operator, 1)
    assert (dreamed(frame).prompt, frame.stamp.epoch, ctx.reasons) == ("pan", 0, [])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"prompt": "dance"}, "prompt 'dance': the checkpoint knows bounce, pan, surveillance"),
        ({"lag": 5}, "with 4 steps lag can be 1 to 4, not 5"),
        ({"steps": 24, "lag": 2}, "with 24 steps lag can be 3 to 24, not 2"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled_is_refused_and_nothing_changes(
    change: dict[str, Any], told: str
) -> None:
    with dreaming() as (operator, _):
        plain = pixels(some(operator, 4))
    with dreaming() as (operator, ctx):
        first = some(operator, 2)
        tune(operator, **change)
        second = some(operator, 2)
        assert pixels(first + second) == plain
        assert ("REFUSED", f"{told}; all stays as it was") in ctx.reports
        tune(operator, seed=8)
        (frame,) = some(operator, 1)
    assert (frame.stamp.epoch, dreamed(frame).seed) == (1, 8), "what was refused is forgotten"
    assert [code for code, _ in ctx.reports].count("REFUSED") == 1


# ---- what cannot be opened


@pytest.mark.parametrize(
    ("settings", "code", "told"),
    [
        ({"prompt": "Pan"}, "BAD_WISH", "the checkpoint knows bounce, pan, surveillance"),
        ({"steps": 24, "lag": 2}, "BAD_WISH", "with 24 steps lag can be 3 to 24, not 2"),
        ({"checkpoint": "nowhere.safetensors"}, "NO_CHECKPOINT", "nowhere.safetensors"),
        ({"begin": "nowhere.png"}, "NOT_FOUND", "nowhere.png"),
    ],
)
def test_what_is_wrong_from_the_beginning_is_said(
    settings: dict[str, Any], code: str, told: str
) -> None:
    with pytest.raises(OperatorError, match=told) as caught, dreaming(**settings):
        pass
    assert caught.value.code == code


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    data = bytearray(random_ar_diffusion().read_bytes())
    data[-1] ^= 1
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(data)
    for path, told in ((damaged, "damaged"), (tmp_path, "directory")):
        with pytest.raises(OperatorError, match=told) as caught, dreaming(checkpoint=str(path)):
            pass
        assert caught.value.code == "BAD_CHECKPOINT"


def test_a_file_to_begin_from_must_hold_pictures(tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no picture at all")
    with (
        pytest.raises(OperatorError, match=r"words\.png") as caught,
        dreaming(begin=str(tmp_path / "words.png")),
    ):
        pass
    assert caught.value.code == "NOT_MEDIA"


# ---- keeping time


def test_it_waits_for_its_moment_and_makes_up_for_one_period_at_most() -> None:
    clock, ctx = FakeClock(10**12), HarnessContext()
    ctx.clock = clock
    beat = Beat(ctx, 100 * MS)
    waited = []
    for work_ms in (0, 30, 100, 50, 450, 60, 20):
        clock.advance(work_ms * MS)
        before_ns = clock.now_ns()
        beat.wait()
        waited.append((clock.now_ns() - before_ns) // MS)
    assert waited == [0, 70, 0, 50, 0, 0, 20], "of 350 ms that were lost it makes up for 100"


def test_who_waits_is_let_go_when_the_run_ends() -> None:
    ctx = HarnessContext()
    beat = Beat(ctx, 10**15)
    beat.wait()
    ctx.stop.set()
    beat.wait()
    assert ctx.clock.now_ns() < 10**12


def slow_reel(monkeypatch: pytest.MonkeyPatch, call_ms: float) -> None:
    """As if each call of the model took so long."""
    make = Reel.next

    def slowed(reel: Reel, stopping: Any) -> Any:
        made = make(reel, stopping)
        assert made is not None
        took = Took(round(call_ms * made.setting.lag * MS), 0)
        return made._replace(took=took)

    monkeypatch.setattr(Reel, "next", slowed)


def test_what_comes_too_late_is_made_with_fewer_steps_and_it_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow_reel(monkeypatch, call_ms=30)
    with dreaming(realtime=True, fps=20, steps=8, lag=4) as (operator, ctx):
        frames = some(operator, 1 + 4 * LOOK)
    told = [message for code, message in ctx.reports if code == "PACE"]
    assert told[0] == (
        "8 steps, lag 4 -> 8 steps, lag 2: 4 calls of 30.0 ms and 0.0 ms for the picture; "
        "20 fps leave 50.0 ms"
    )
    assert told[1].startswith("8 steps, lag 2 -> 8 steps, lag 1: 2 calls")
    assert len(told) == 2
    assert {frame.stamp.epoch for frame in frames} == {0}, "the video is the same"
    assert dreamed(frames[-1]).steps == 8


@pytest.mark.parametrize("settings", [{"hold_fps": False, "realtime": True}, {"realtime": False}])
def test_nobody_has_to_hold_a_rate(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_reel(monkeypatch, call_ms=500)
    with dreaming(fps=20, steps=8, lag=4, **settings) as (operator, ctx):
        some(operator, 3 * LOOK)
    assert "PACE" not in [code for code, _ in ctx.reports]


def test_a_new_dream_keeps_the_pace_and_new_steps_begin_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow_reel(monkeypatch, call_ms=30)
    with dreaming(realtime=True, fps=20, steps=8, lag=2) as (operator, ctx):
        some(operator, 1 + LOOK)
        assert operator._dreaming._paced().setting == (8, 1)
        tune(operator, seed=1)
        some(operator, 2)
        assert operator._dreaming._paced().setting == (8, 1)
        tune(operator, steps=6, lag=2)
        some(operator, 1)
        assert operator._dreaming._paced().setting == (6, 2)
    assert len(ctx.reasons) == 2


def test_the_classes_are_those_of_the_card() -> None:
    with dreaming() as (operator, _):
        assert operator._studio.facts.classes == CLASSES
        assert dataclasses.is_dataclass(operator._dreaming._reel._stream.settings)
    assert module.STOP_CHECK_NS < 10**9
