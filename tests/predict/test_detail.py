"""Pictures in full: moved, mixed, corrected by small predictions, and led from one to another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from operators.predict.detail import corrected, correction, small_course
from operators.predict.flow import fitted
from operators.predict.moving import Picture, apart, mix, move, small_luma
from operators.predict.rhythm import STEPS, Rhythm
from operators.predict.seam import Seam, Target
from operators.video.convert import write_yuv
from tests.predict.feeds import caps, planes, view

U8 = npt.NDArray[np.uint8]
SIZE = (192, 128)
S = 64
SURE = np.ones((8, 8), np.float32)


def full(n: float) -> Picture:
    return Picture(planes(n, *SIZE), *SIZE)


def of(rgb: U8) -> Picture:
    data = np.empty((SIZE[1] * 3 // 2, SIZE[0]), np.uint8)
    write_yuv(rgb, caps(*SIZE), data)
    return Picture(data, *SIZE)


def square(n: float) -> U8:
    return fitted(view(n, *SIZE), (S, S))


def memory() -> U8:
    return np.empty((SIZE[1] * 3 // 2, SIZE[0]), np.uint8)


def fix(picture: Picture, have: U8, wanted: U8, sure: float = 1.0) -> Picture:
    found = correction(have, wanted, SURE * np.float32(sure))
    return corrected(picture, found, caps(*SIZE), memory())


# ---- moving


def test_all_planes_are_moved() -> None:
    field = np.full((16, 24, 2), (24 / 192 * 6, 0), np.float32)
    moved = move(full(0), field, memory())
    for before, after in zip(full(0).planes(), moved.planes(), strict=True):
        shift = 6 if before.shape == (128, 192) else 3
        assert np.abs(after[:, :-shift].astype(int) - before[:, shift:]).max() <= 1


def test_mixing_and_comparing() -> None:
    dark, bright = (Picture(np.full_like(memory(), level), *SIZE) for level in (40, 140))
    assert apart(dark, bright) == 100
    assert (mix(dark, bright, 0.25, memory()).data == 65).all()
    assert np.array_equal(mix(dark, bright, 0.0, memory()).data, dark.data)


def test_a_small_luma_holds_nothing_of_the_frame() -> None:
    picture = full(0)
    for size in (SIZE, (96, 64)):
        luma = small_luma(picture, size)
        assert luma.shape == size[::-1]
        assert not np.shares_memory(luma, picture.data)


# ---- detail


def test_no_news_change_nothing() -> None:
    assert apart(fix(full(0), square(0), square(0)), full(0)) < 0.3


def test_things_are_moved_in_full_to_where_a_small_picture_has_them() -> None:
    """With more detail than the small picture could hold."""
    truth = full(4)
    found = fix(full(0), square(0), square(4))
    enlarged = of(np.asarray(fitted(square(4), SIZE)))
    inner = [one.luma[8:-8, 16:-40].astype(int) for one in (found, enlarged, full(0), truth)]
    errors = [np.abs(one - inner[3]).mean() for one in inner[:3]]
    assert errors[0] < 0.8 * errors[1], "than the prediction enlarged"
    assert errors[0] < 0.35 * errors[2], "than the last picture"


def test_another_light_is_taken_over_with_the_detail_kept() -> None:
    dim = (view(0, *SIZE) * 0.8).astype(np.uint8)
    found = fix(full(0), square(0), fitted(dim, (S, S)))
    assert apart(found, of(dim)) < 0.2 * apart(full(0), of(dim))


def test_what_no_move_explains_is_replaced() -> None:
    other = view(60, *SIZE)[::-1]
    found = fix(full(0), square(0), fitted(other, (S, S)))
    assert apart(found, of(other)) < 0.3 * apart(full(0), of(other))


def test_it_goes_as_far_as_it_is_sure() -> None:
    unsure = fix(full(0), square(0), square(4), sure=0.0)
    assert apart(unsure, full(0)) < 0.6, "only resampled"
    half, whole = (fix(full(0), square(0), square(4), sure=sure) for sure in (0.5, 1.0))
    assert apart(whole, full(4)) < apart(half, full(4)) < apart(unsure, full(4))


def test_what_the_predictor_cannot_draw_is_no_news() -> None:
    """Both its pictures are blurred and dark: of the same picture nothing is changed."""
    drawn = (fitted(fitted(square(0), (16, 16)), (S, S)) * 0.9).astype(np.uint8)
    assert apart(fix(full(0), drawn, drawn), full(0)) < 0.3


def test_the_predictors_own_picture_takes_the_same_course() -> None:
    field = np.full((32, 48, 2), (3.0, 0.0), np.float32)  # 4 pixels of the square
    moved = small_course(square(0), field)
    assert np.array_equal(moved[:, :-4], square(0)[:, 4:])


def test_corrections_need_one_size() -> None:
    with pytest.raises(ValueError, match="one size"):
        correction(square(0), square(0)[:32], SURE)


# ---- seams


def target(n: float, *, captured: bool = True, together: bool = True) -> Target:
    return Target(full(n), small_luma(full(n), (96, 64)), captured, together)


def shown_until(n: int) -> Seam:
    seam = Seam(memory)
    for k in range(n + 1):
        if k:
            seam.learn(full(k), full(k - 1))
        seam.show(target(k, together=k > 0))
    return seam


def test_a_seam_is_crossed_in_steps_that_the_stream_itself_makes() -> None:
    seam = shown_until(5)
    usual = max(apart(full(n), full(n - 1)) for n in range(1, 30))
    seam.open(12)
    assert seam.shown is not None
    before, shares = seam.shown, []
    for k in range(12):
        n = 14 + k
        if k:
            seam.learn(full(n), full(n - 1))
        shares.append(seam.next(target(n, together=k > 0)))
        assert apart(seam.shown, before) <= 1.3 * usual
        before = seam.shown
        if shares[-1] == 1:
            break
    assert shares[-1] == 1.0
    assert len(shares) > 1
    assert np.array_equal(before.data, full(13 + len(shares)).data)
    assert seam.left == 0


def test_where_there_is_no_jump_there_are_no_steps() -> None:
    seam = shown_until(5)
    seam.open(12)
    assert seam.next(target(6, together=False)) == 1.0


def test_in_the_last_step_it_is_there() -> None:
    seam = shown_until(5)
    seam.open(2)
    assert seam.next(target(40, together=False)) < 1
    assert seam.next(target(41)) == 1.0


def test_a_seam_needs_something_that_is_shown() -> None:
    with pytest.raises(ValueError, match="nothing has been shown"):
        Seam(memory).next(target(0))


# ---- rhythm

MS = 1_000_000


def heard(pts_ms: list[float], late_ms: list[float] | None = None) -> Rhythm:
    rhythm = Rhythm()
    for number, pts in enumerate(pts_ms):
        late = late_ms[number % len(late_ms)] if late_ms else 0.0
        rhythm.note(round(pts * MS), round((pts + late) * MS))
    return rhythm


def test_the_period_is_the_usual_step() -> None:
    assert heard([40 * n for n in range(5)]).period_ns is None, "too early to say"
    assert heard([40 * n for n in range(9)]).period_ns == 40 * MS
    lost = [40 * n for n in range(30) if n not in (7, 8, 20)]
    assert heard(lost).period_ns == 40 * MS
    jitter = [40 * n + (n * 7) % 5 for n in range(30)]
    assert heard(jitter).period_ns == pytest.approx(40 * MS, rel=0.1)


def test_there_may_be_no_steady_one() -> None:
    rhythm = heard([40 * (n + n % 3) for n in range(2 * STEPS)])
    assert rhythm.period_ns is None
    assert rhythm.is_unsteady
    assert heard([5.0] * 20).period_ns is None
    assert not heard([]).is_unsteady


def test_a_stall_moves_no_moment_and_a_lasting_delay_does() -> None:
    on_time = [40.0 * n for n in range(60)]
    stalled = heard(on_time, [30.0] * 40 + [400.0, 360.0, 320.0, 280.0, 240.0, 200.0, 160.0, 120.0])
    assert stalled.due_ns(1000 * MS) == 1030 * MS
    late = heard([40.0 * n for n in range(110)], [30.0] * 60 + [230.0] * 50)
    assert late.due_ns(1000 * MS) == 1230 * MS
