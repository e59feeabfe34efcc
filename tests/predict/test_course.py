"""How things go on: velocities, what is in front, what slows down, and predictors made of it."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from operators.predict.ahead import CopyLast, FlowAhead, Predictor
from operators.predict.course import GRID, KEPT, Course, thrown
from operators.predict.flow import enlarged, fitted, looked_up, motion, to_gray, working_size
from tests.predict.feeds import view, wall

U8 = npt.NDArray[np.uint8]
SIZE = (96, 64)


def pan(count: int, px: float = 1.5) -> U8:
    """[K, H, W, 3]: everything moves left by so much a frame."""
    return np.stack([view(n, *SIZE, px=px) for n in range(count)])


def passing(count: int, px: float = 2.0, still: bool = False) -> U8:
    """[K, H, W, 3]: a disc goes to the right in front of a wall."""
    frames = []
    disc = wall(*SIZE, seed=5)
    for n in range(count):
        frame = wall(*SIZE).copy()
        mask = np.zeros(SIZE[::-1], np.float32)
        cv2.circle(mask, (round(8 * (20 + (0 if still else n * px))), 8 * 32), 8 * 12, 1, -1, 8, 3)
        shift = np.array([[1, 0, 0 if still else n * px], [0, 1, 0]], np.float32)
        there = cv2.warpAffine(disc, shift, SIZE, borderMode=cv2.BORDER_WRAP)
        frames.append(np.where(mask[..., None] > 0.5, there, frame))
    return np.stack(frames)


def off(one: U8, other: U8) -> float:
    return float(np.abs(one.astype(np.int16) - other)[:, 12:-12].mean())


# ---- fields


def test_a_field_looks_back() -> None:
    frames = pan(2, px=3)
    field = motion(*to_gray(frames[::-1]))
    inner = field[8:-8, 12:-12]
    assert np.median(inner[..., 0]) == pytest.approx(3, abs=0.2), "what is here was further right"
    assert np.abs(np.median(inner[..., 1])) < 0.2
    assert off(looked_up(frames[0], field), frames[1]) < 0.4 * off(frames[0], frames[1])


def test_an_enlarged_field_is_the_same_motion() -> None:
    field = np.full((4, 8, 2), (1.0, -0.5), np.float32)
    large = enlarged(field, (16, 12))
    assert large.shape == (12, 16, 2)
    assert np.allclose(large, (2.0, -1.5))
    assert enlarged(field, (8, 4)) is field


@pytest.mark.parametrize(
    "shapes", [((15, 40), (15, 40)), ((32, 32), (32, 40)), ((32, 32, 3), (32, 32, 3))]
)
def test_motion_refuses(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="gray pictures of one size"):
        motion(*(np.zeros(shape, np.uint8) for shape in shapes))


def test_working_sizes_keep_the_shape_and_never_vanish() -> None:
    assert working_size(1280, 720, 320) == (320, 180)
    assert working_size(100, 50, 320) == (100, 50)
    assert working_size(2000, 20, 320) == (320, 16)
    gray = np.zeros((40, 60), np.uint8)
    assert fitted(gray, (60, 40)) is gray


# ---- throwing


def test_what_is_thrown_lands_and_leaves_a_hole() -> None:
    """A block of 4x4 goes 6 to the right; behind it nothing was known."""
    displacement = np.zeros((16, 24, 2), np.float32)
    displacement[6:10, 4:8, 0] = 6
    way = thrown(displacement, displacement[..., 0])
    assert (way.field[7:9, 11:13, 0] == -6).all()
    assert (way.field[:4] == 0).all()
    # cracks of a pixel are closed, so the hole is smaller by one all around
    assert way.hidden[7:9, 5:7].all()
    assert not way.hidden[:, 12:].any()


def test_the_one_that_moves_unlike_the_rest_is_in_front() -> None:
    displacement = np.zeros((16, 24, 2), np.float32)
    displacement[6:10, 4:8, 0] = 6
    priority = displacement[..., 0]
    assert (thrown(displacement, priority).field[8, 11] == (-6, 0)).all()
    assert (thrown(displacement, 9 - priority).field[8, 11] == 0).all()


def test_nothing_that_stays_in_the_picture_is_no_error() -> None:
    way = thrown(np.full((16, 16, 2), 99, np.float32), np.zeros((16, 16), np.float32))
    assert way.hidden.all()
    assert way.field.shape == (16, 16, 2)


# ---- courses


def test_a_steady_pan_goes_on() -> None:
    frames = pan(20)
    course = Course(to_gray(frames[:12]))
    for ahead in (1, 4, 8):
        moved = looked_up(frames[11], course.way(ahead).field, fine=True)
        assert off(moved, frames[11 + ahead]) < 0.5 * off(frames[11], frames[11 + ahead])


def test_a_thing_takes_its_velocity_along() -> None:
    """Looking up the motion that a place had would leave it where it is: there nothing moved."""
    frames = passing(16)
    course = Course(to_gray(frames[:8]), damping=1)
    field = course.way(8).field
    disc = np.zeros(SIZE[::-1], np.uint8)
    cv2.circle(disc, (34, 32), 8, 255, -1)  # all of it inside the one of frame 7
    columns = np.nonzero(looked_up(disc, field))[1]
    assert columns.mean() == pytest.approx(34 + 8 * 2, abs=3)
    assert np.abs(field[:, :12]).mean() < 0.2, "the wall does not move with it"


def test_what_swings_is_not_thrown_far() -> None:
    """To and fro, as a head: a constant course would be far off after half a swing."""
    moments = 6 * np.sin(np.arange(24) * 0.7)
    frames = np.stack([view(8 + m / 1.5, *SIZE) for m in moments])
    fitted_, constant = (
        Course(to_gray(frames[:13]), damping).way(8).field for damping in (None, 1.0)
    )
    assert np.abs(fitted_).mean() < 0.5 * np.abs(constant).mean()


def test_standing_still_is_the_damping_0() -> None:
    way = Course(to_gray(pan(6)), damping=0).way(9)
    assert (way.field == 0).all()
    assert not way.hidden.any()


def test_of_frames_that_are_missing_the_speed_is_known() -> None:
    frames = to_gray(pan(12))
    whole, holed = (
        Course(past, 1.0, span).way(4).field
        for past, span in ((frames[9:11], 1), ([frames[7], frames[10]], 3))
    )
    assert np.median(holed[..., 0]) == pytest.approx(np.median(whole[..., 0]), abs=0.5)


def test_sureness_falls_with_time_and_where_the_past_was_foretold_badly() -> None:
    rng = np.random.default_rng(1)
    frames = passing(13, still=True)
    for frame in frames:
        frame[:, 48:] = wall(48, 64, seed=int(rng.integers(1000)))
    course = Course(to_gray(frames))
    near, far = course.sure(1), course.sure(20)
    assert near.shape == (GRID, GRID)
    assert ((far >= 0) & (far < near) & (near <= 1)).all()
    assert near[:, :3].min() > near[:, 5:].max()
    weights = course.weights()
    assert weights.sum() == pytest.approx(1)
    assert weights[:, 4:].sum() > 0.8, "where things move, it is about them"


def test_of_one_picture_alone_nothing_moves_and_little_is_sure() -> None:
    course = Course(to_gray(pan(1)))
    assert (course.way(5).field == 0).all()
    assert course.sure(1).max() < 0.5


def test_a_course_needs_pictures_of_one_size() -> None:
    with pytest.raises(ValueError, match="no picture"):
        Course([])


# ---- predictors


@pytest.mark.parametrize("predictor", [CopyLast(), FlowAhead(), FlowAhead(1.0)])
@pytest.mark.parametrize("given", [1, 2, KEPT + 5])
def test_predictors_do_what_the_protocol_says(predictor: Predictor, given: int) -> None:
    past = pan(given)
    before = past.copy()
    found = predictor.predict(past, 3)
    assert (found.frames.shape, found.frames.dtype) == ((3, 64, 96, 3), np.uint8)
    assert found.sure.shape[0] == 3
    assert ((found.sure >= 0) & (found.sure <= 1)).all()
    assert (np.diff(found.sure, axis=0) <= 0).all()
    assert np.array_equal(found.known, past[-1])
    assert np.array_equal(past, before)


def test_copying_copies_and_flow_moves() -> None:
    frames = pan(14)
    copied = CopyLast().predict(frames[:10], 4).frames
    assert all(np.array_equal(frame, frames[9]) for frame in copied)
    moved = FlowAhead(1.0).predict(frames[:10], 4).frames
    assert off(moved[3], frames[13]) < 0.5 * off(copied[3], frames[13])


@pytest.mark.parametrize("predictor", [CopyLast(), FlowAhead()])
@pytest.mark.parametrize(
    ("past", "ahead"),
    [
        (np.zeros((3, 64, 64), np.uint8), 1),
        (np.zeros((0, 64, 64, 3), np.uint8), 1),
        (np.zeros((3, 64, 64, 3), np.float32), 1),
        (np.zeros((3, 64, 64, 3), np.uint8), 0),
        (np.zeros((3, 64, 64, 3), np.uint8), 5000),
    ],
)
def test_predictors_refuse(predictor: Predictor, past: U8, ahead: int) -> None:
    with pytest.raises(ValueError, match=r"needed|foretold"):
        predictor.predict(past, ahead)


def test_a_damping_is_a_share() -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        FlowAhead(1.5)
