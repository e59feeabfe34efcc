"""`DreamOn`: the feed as it is, then made pictures at its moments, then the feed again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from engine import Frame, OperatorError
from engine.caps import Caps
from engine.testing import HarnessContext, make_frame
from operators.face.records import Face
from operators.generate.dream_on import DreamOn, DreamOnConfig
from operators.generate.pace import LOOK, Took
from operators.generate.records import Dreamed
from operators.generate.studio import Reel
from tests.operators.models import AR_WINDOW, random_ar_diffusion

WIDTH, HEIGHT, FPS = 96, 64, 20
CAPS = Caps(
    media="video", pix_fmt="yuv420p", dtype="uint8", width=WIDTH, height=HEIGHT, device="cpu",
    colorspace="bt709", color_range="limited",
)  # fmt: skip
HISTORY = 3
MS = 1_000_000


def feed(count: int, first: int = 0, stream_id: str = "cam", epoch: int = 0) -> list[Frame]:
    """Frames of soft blobs that say what they show: a face."""
    frames = []
    for seq in range(first, first + count):
        rng = np.random.default_rng(seq)
        data = rng.integers(40, 200, (HEIGHT * 3 // 2, WIDTH), np.uint8)
        frame = make_frame(data, seq=seq, caps=CAPS, stream_id=stream_id, fps=FPS)
        frame = Frame(frame.data, CAPS, replace(frame.stamp, epoch=epoch))
        frames.append(frame.with_records(Face((1.0, 2.0, 30.0, 40.0), 0.9, ())))
    return frames


@contextmanager
def opened(**settings: Any) -> Iterator[tuple[DreamOn, HarnessContext]]:
    ctx = HarnessContext()
    given = {"checkpoint": str(random_ar_diffusion()), "history": HISTORY} | settings
    operator = DreamOn(DreamOnConfig(**given))
    with ctx.exits:
        operator.open(ctx)
        yield operator, ctx
        operator.close()


def run(operator: DreamOn, frames: list[Frame]) -> list[Frame]:
    made = [operator.process(frame) for frame in frames]
    assert all(frame is not None for frame in made)
    return [frame for frame in made if frame is not None]


def tune(operator: DreamOn, **values: Any) -> None:
    operator.config = replace(operator.config, **values)


def numbers(frames: list[Frame]) -> list[int]:
    return [record.number for frame in frames for record in frame.of(Dreamed)]


def test_the_feed_passes_untouched_until_it_is_to_dream() -> None:
    given = feed(6)
    with opened() as (operator, ctx):
        made = run(operator, given)
    assert all(one is other for one, other in zip(made, given, strict=True))
    assert ctx.reasons == []
    assert DreamOn.synthesizes, "and what it makes is therefore marked by the engine"


def test_it_goes_on_at_the_moments_of_the_feed_with_pixels_of_its_own() -> None:
    given = feed(10)
    with opened() as (operator, ctx):
        run(operator, given[:5])
        tune(operator, dreaming=True)
        made = run(operator, given[5:])
    assert [frame.stamp for frame in made] == [frame.stamp for frame in given[5:]]
    assert [frame.caps for frame in made] == [CAPS] * 5
    for frame, original in zip(made, given[5:], strict=True):
        assert frame.data.shape == original.data.shape
        assert not np.array_equal(frame.data, original.data)
        assert frame.of(Face) == [], "that was said of other pixels"
    assert numbers(made) == [HISTORY + n for n in range(5)], "the feed's pictures count"
    assert ctx.reasons == [], "no frame of the feed has become stale"


def test_the_feed_comes_back_at_once() -> None:
    given = feed(12)
    with opened() as (operator, _):
        tune(operator, dreaming=True)
        run(operator, given[:8])
        tune(operator, dreaming=False)
        back = run(operator, given[8:10])
        tune(operator, dreaming=True)
        again = run(operator, given[10:])
    assert [one is other for one, other in zip(back, given[8:10], strict=True)] == [True, True]
    assert numbers(again) == [HISTORY, HISTORY + 1], "a new one, from the feed's last pictures"


def test_without_a_past_it_waits_for_one() -> None:
    with opened(dreaming=True) as (operator, _):
        made = run(operator, feed(HISTORY + 2))
    assert [bool(frame.of(Dreamed)) for frame in made] == [False] * HISTORY + [True] * 2


def test_what_it_makes_follows_from_what_it_has_seen() -> None:
    shown = []
    for first in (0, 50, 0):
        with opened(dreaming=True) as (operator, _):
            made = run(operator, feed(HISTORY + 2, first))
            shown.append([frame.data.tobytes() for frame in made[HISTORY:]])
    assert shown[0] == shown[2]
    assert not set(shown[0]) & set(shown[1])


def test_a_new_wish_begins_anew_from_the_same_past_in_a_new_epoch() -> None:
    with opened(dreaming=True) as (operator, ctx):
        first = run(operator, feed(HISTORY + 3))
        tune(operator, prompt="pan")
        stale = [operator.process(frame) for frame in feed(2, HISTORY + 3)]
        second = run(operator, feed(3, HISTORY + 5, epoch=1))
        tune(operator, lag=4)
        stale += [operator.process(frame) for frame in feed(2, HISTORY + 8, epoch=1)]
        third = run(operator, feed(2, HISTORY + 10, epoch=2))
    assert numbers(first) == numbers(second) == [HISTORY, HISTORY + 1, HISTORY + 2]
    assert numbers(third) == [HISTORY + 3, HISTORY + 4], "another lag goes on"
    assert stale == [None] * 4, "nothing is made for moments that nobody will see"
    assert ctx.reasons == ["prompt 'pan'", "4 steps, lag 4"]
    assert ctx.epochs == {"cam": 2}
    with opened(dreaming=True, prompt="pan") as (operator, _):
        fresh = run(operator, feed(HISTORY + 3))[HISTORY:]
    assert [frame.data.tobytes() for frame in second] == [frame.data.tobytes() for frame in fresh]


def test_a_wish_while_the_feed_is_shown_is_for_later_and_flushes_nothing() -> None:
    with opened() as (operator, ctx):
        run(operator, feed(4))
        tune(operator, seed=7)
        run(operator, feed(1, 4))
        tune(operator, dreaming=True)
        (made,) = run(operator, feed(1, 5))
    assert made.of(Dreamed)[0].seed == 7
    assert ctx.reasons == []


def test_a_wish_that_cannot_be_fulfilled_is_refused() -> None:
    with opened(dreaming=True) as (operator, ctx):
        run(operator, feed(HISTORY + 1))
        tune(operator, prompt="dance")
        made = run(operator, feed(2, HISTORY + 1))
        tune(operator, dreaming=False)
        (shown,) = run(operator, feed(1, HISTORY + 3))
    assert numbers(made) == [HISTORY + 1, HISTORY + 2]
    assert not shown.of(Dreamed)
    refused = "prompt 'dance': the checkpoint knows bounce, pan, surveillance; all stays as it was"
    assert [told for code, told in ctx.reports if code == "REFUSED"] == [refused]


def test_streams_do_not_mix_and_are_forgotten() -> None:
    with opened(dreaming=True) as (operator, ctx):
        for pair in zip(feed(6, 0, "a"), feed(6, 50, "b"), strict=True):
            run(operator, list(pair))
        (states,) = ctx.states
        assert len(states) == 2
        states.forget("a")  # as the engine does at its end
        made = run(operator, feed(HISTORY + 1, 0, "a"))
    assert [bool(frame.of(Dreamed)) for frame in made] == [False] * HISTORY + [True]


def test_it_keeps_a_window_and_no_more() -> None:
    with opened(dreaming=True) as (operator, ctx):
        run(operator, feed(4 * AR_WINDOW))
        kept: Any = ctx.states[0]["cam"]
        stream = kept.dreaming._reel._stream
        assert len(stream._kept) + len(stream._x) <= AR_WINDOW
        assert len(kept.past) == HISTORY


def test_the_rate_to_be_held_is_that_of_the_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    make = Reel.next

    def slowed(reel: Reel, stopping: Any) -> Any:
        made = make(reel, stopping)
        assert made is not None
        return made._replace(took=Took(30 * made.setting.lag * MS, 0))

    monkeypatch.setattr(Reel, "next", slowed)
    with opened(dreaming=True) as (operator, ctx):  # 4 steps, lag 2: 60 ms
        run(operator, feed(HISTORY + 1 + LOOK))
    (told,) = [message for code, message in ctx.reports if code == "PACE"]
    assert told == (
        "4 steps, lag 2 -> 4 steps, lag 1: 2 calls of 30.0 ms and 0.0 ms for the picture; "
        f"{FPS} fps leave 50.0 ms"
    )


def test_who_is_stopped_gives_nothing_more() -> None:
    with opened(dreaming=True) as (operator, ctx):
        run(operator, feed(HISTORY + 1))
        ctx.stop.set()
        assert operator.process(feed(1, HISTORY + 1)[0]) is None


def test_what_is_wrong_from_the_beginning_is_said() -> None:
    with (
        pytest.raises(OperatorError, match="dance") as caught,
        opened(prompt="dance"),
    ):
        pass
    assert caught.value.code == "BAD_WISH"
