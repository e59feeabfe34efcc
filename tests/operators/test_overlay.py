"""The overlay draws on a copy, on planes as on RGB, and nowhere else."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest

from engine import CapsError, Frame, Record
from engine.testing import HarnessContext, run_operator
from operators.face.verdicts import Outcome, Verdict
from operators.video.canvas import make_canvas, rounded, text_mask
from operators.video.overlay import (
    OUTCOMES,
    TRAIL_POINTS,
    Overlay,
    OverlayConfig,
    Trail,
    colour_of,
    tag_of,
)
from operators.video.yuv import planes_of
from tests.operators.faces import PIX_FMTS, as_rgb, face, flat_picture, picture, track
from tests.operators.layouts import as_nv12

GREY = (90, 90, 90)
SIZE = (320, 240)
BARE = {"labels": False, "caption": False, "trail_ms": 0}


def drawn(pix_fmt: str, *records: Record, **settings: object) -> tuple[Frame, Frame]:
    before = flat_picture(SIZE, GREY, pix_fmt).with_records(*records)
    (after,) = run_operator(Overlay(OverlayConfig(**settings)), [before])
    return before, after


def changed(before: Frame, after: Frame) -> np.ndarray:
    """[H, W] where the picture differs visibly."""
    difference = as_rgb(after).astype(int) - as_rgb(before)
    return np.abs(difference).max(axis=2) > 12


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_a_box_is_drawn_where_the_track_is_and_nowhere_else(pix_fmt: str) -> None:
    before, after = drawn(pix_fmt, track(1, 160, 120, size=80), thickness_px=6, **BARE)
    where = changed(before, after)
    for y, x in ((80, 160), (160, 160), (120, 120), (120, 200)):
        assert where[y, x]
    assert not where[90:150, 130:190].any()
    where[74:166, 114:206] = False
    assert not where.any()


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_the_input_is_not_altered_and_stamp_and_records_are_kept(pix_fmt: str) -> None:
    before, after = drawn(pix_fmt, track(1, 160, 120), face(160, 120))
    assert np.array_equal(before.data, flat_picture(SIZE, GREY, pix_fmt).data)
    assert not np.array_equal(before.data, after.data)
    assert after.stamp is before.stamp
    assert after.records == before.records
    assert after.caps == before.caps
    assert not after.data.flags.writeable
    assert after.data.flags.c_contiguous


@pytest.mark.parametrize("colour", [("bt601", "limited"), ("bt709", "full")])
def test_planes_look_like_an_rgb_drawing(colour: tuple[str, str]) -> None:
    pictures = []
    for pix_fmt in ("yuv420p", "rgb24"):
        frame = flat_picture(SIZE, GREY, pix_fmt, colour=colour).with_records(track(5, 160, 120))
        (after,) = run_operator(Overlay(OverlayConfig(thickness_px=12)), [frame])
        pictures.append(as_rgb(after).astype(float))
    planes, rgb = (p.reshape(120, 2, 160, 2, 3).mean(axis=(1, 3)) for p in pictures)
    assert np.abs(planes - rgb).mean() < 3
    # Luma is sharp in both: only chroma is softened.
    luma = [p @ (0.299, 0.587, 0.114) for p in pictures]
    assert np.abs(luma[0] - luma[1]).mean() < 4


def test_chroma_lies_on_luma() -> None:
    frame = flat_picture(SIZE, GREY, "yuv420p")
    array = frame.data.copy()
    make_canvas(frame, array).line([(160.5, -20), (160.5, 260)], (255, 0, 0), 12)
    before, after = planes_of(frame.data, *SIZE), planes_of(array, *SIZE)
    middles = []
    for old, new in zip(before, after, strict=True):
        change = np.abs(new.astype(int) - old)[60]
        middles.append(((np.arange(len(change)) + 0.5) * change).sum() / change.sum())
    assert middles[0] == pytest.approx(161, abs=0.1)  # the middle of pixel 160.5
    assert [2 * middle for middle in middles[1:]] == pytest.approx([161] * 2, abs=0.1)


def test_bgr_is_rgb_with_its_channels_turned() -> None:
    _, rgb = drawn("rgb24", track(2, 160, 120))
    _, bgr = drawn("bgr24", track(2, 160, 120))
    assert np.array_equal(rgb.data, bgr.data[..., ::-1])


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_what_lies_outside_is_cut_off(pix_fmt: str) -> None:
    records = [track(1, 0, 0), track(2, 319, 239), track(3, -500, 900), track(4, 160, 0, size=2000)]
    before, after = drawn(pix_fmt, *records)
    assert after.data.shape == before.data.shape
    assert changed(before, after).any()


def test_chroma_side_by_side_is_drawn_on_as_chroma_in_planes() -> None:
    before = flat_picture(SIZE, GREY, "yuv420p").with_records(track(2, 160, 120), face(60, 60))
    settings = OverlayConfig(points=True)
    (planar,) = run_operator(Overlay(settings), [before])
    (together,) = run_operator(Overlay(settings), [as_nv12(before)])
    assert together.caps.pix_fmt == "nv12"
    height = SIZE[1]
    luma, chroma = np.split(together.data, [height])
    wanted_luma, wanted_chroma = np.split(as_nv12(planar).data, [height])
    np.testing.assert_array_equal(luma, wanted_luma)
    # OpenCV smooths no lines of two channels: their edges are a pixel of chroma off at most.
    drawn = np.abs(wanted_chroma.astype(int) - as_nv12(before).data[height:])
    places = drawn.reshape(height // 2, -1, 2).max(axis=2).astype(np.uint8)
    around = cv2.dilate(places, np.ones((3, 3), np.uint8)).repeat(2, axis=1)
    apart = np.abs(chroma.astype(int) - wanted_chroma)
    assert not apart[around == 0].any()
    assert apart.sum() < 0.75 * drawn.sum()


def test_a_lost_track_is_not_drawn() -> None:
    before, after = drawn("rgb24", track(1, 160, 120, predicted=True, lost=True), **BARE)
    assert np.array_equal(before.data, after.data)


def test_a_track_between_two_searches_is_drawn() -> None:
    before, after = drawn("rgb24", track(1, 160, 120, predicted=True), **BARE)
    assert changed(before, after)[90, 160]


def test_bare_faces_are_drawn_only_without_tracks() -> None:
    before, after = drawn("rgb24", face(60, 60), **BARE)
    assert changed(before, after)[30, 60]
    before, after = drawn("rgb24", face(60, 60), track(1, 200, 160), **BARE)
    assert not changed(before, after)[25:100, 25:100].any()


def test_points_are_drawn_when_asked_for() -> None:
    marked = face(160, 120)
    before, after = drawn("rgb24", marked, boxes=False, points=True, **BARE)
    where = changed(before, after)
    assert all(where[round(y), round(x)] for x, y in marked.points)
    assert where.sum() < 200


@pytest.mark.parametrize("pix_fmt", PIX_FMTS)
def test_caption_and_label(pix_fmt: str) -> None:
    before, after = drawn(pix_fmt, boxes=False, trail_ms=0)
    where = changed(before, after)
    assert where[220:, :150].any()
    assert not where[:200].any()
    _, after = drawn(pix_fmt, track(1, 160, 120), caption=False, boxes=False, trail_ms=0)
    where = changed(before, after)
    assert where[70:92, 130:180].any()
    assert not where[100:200].any()


def test_a_label_never_leaves_the_picture() -> None:
    frame = flat_picture((16, 12), GREY, "yuv420p")
    array = frame.data.copy()
    make_canvas(frame, array).label((-50, -50), "much too long a text", 3.0, (0, 255, 0))
    assert not np.array_equal(array, frame.data)


def trail_frames(count: int, *, fps: int = 25) -> list[Frame]:
    pixels = np.full((240, 320, 3), 90, np.uint8)
    return [
        picture(pixels, seq=n, fps=fps).with_records(track(1, 40 + 2 * n, 120))
        for n in range(count)
    ]


def test_a_trail_is_as_long_as_trail_ms() -> None:
    frames = trail_frames(100)
    settings = {"labels": False, "caption": False, "boxes": False}
    after = run_operator(Overlay(OverlayConfig(trail_ms=1000, **settings)), frames)[-1]
    columns = np.flatnonzero(changed(frames[-1], after).any(axis=0))
    end = 40 + 2 * 99
    assert columns.max() == pytest.approx(end, abs=3)
    assert columns.min() == pytest.approx(end - 50, abs=4)  # 25 frames of 2 px


def test_a_trail_follows_without_trembling() -> None:
    trail = Trail()
    for n in range(100):
        trail.add(n * 40_000_000, 100 + n, 50 + (-1) ** n * 5)
    ns, x, y = np.array(trail.points).T
    assert np.abs(np.diff(y[20:])).max() < 6  # detections jump by 10
    np.testing.assert_allclose(np.diff(x[20:]), 1, atol=1e-3)
    assert 0 < 199 - x[-1] < 3
    assert ns[-1] == 99 * 40_000_000
    trail.add(99 * 40_000_000, 500, 500)  # no time has passed
    assert trail.points[-1] == trail.points[-2]


def test_a_box_has_round_corners_and_straight_sides() -> None:
    outline = np.array(rounded((10, 20, 110, 80), 8))
    assert outline.min(axis=0) == pytest.approx([10, 20])
    assert outline.max(axis=0) == pytest.approx([110, 80])
    nearest = np.hypot(*(outline - (10, 20)).T).min()
    assert nearest == pytest.approx(8 * (2**0.5 - 1), abs=0.01)
    steps = np.diff(outline, axis=0)
    turns = steps[:-1, 0] * steps[1:, 1] - steps[:-1, 1] * steps[1:, 0]
    assert (turns >= -1e-9).all()  # convex
    tiny = np.array(rounded((10, 20, 12, 21), 8))
    assert tiny.min(axis=0) == pytest.approx([10, 20])


def test_trails_are_bounded_and_forgotten() -> None:
    overlay = Overlay(OverlayConfig(trail_ms=10_000))
    context = HarnessContext()
    with context.exits:
        overlay.open(context)
        (trails,) = context.states
        for frame in trail_frames(TRAIL_POINTS + 20, fps=1000):
            overlay.process(frame)
        assert len(trails["test"][1].points) == TRAIL_POINTS
        later = picture(np.zeros((240, 320, 3), np.uint8), seq=60 * 25)
        overlay.process(later)
        assert trails["test"] == {}
        overlay.close()


def test_memory_is_used_again() -> None:
    overlay = Overlay(OverlayConfig())
    context = HarnessContext()
    with context.exits:
        overlay.open(context)
        for frame in trail_frames(20):
            overlay.process(frame)
        assert overlay._pool.allocated <= 2
        overlay.close()


def test_neighbouring_ids_have_different_colours() -> None:
    colours = [np.array(colour_of(n)) for n in range(1, 40)]
    assert all(np.abs(a - b).sum() > 60 for a, b in pairwise(colours))
    assert all(colour.max() == 255 for colour in colours)


def test_text_is_readable_at_small_scales() -> None:
    mask = text_mask("#12", 0.25)
    assert mask.shape[0] % 2 == mask.shape[1] % 2 == 0
    assert mask.max() > 150


def test_unknown_formats_are_refused() -> None:
    frame = flat_picture((16, 12), GREY, "rgb24")
    odd = frame.with_data(frame.data, type(frame.caps)(pix_fmt="p010", width=16, height=12))
    with pytest.raises(CapsError, match="p010"):
        run_operator(Overlay(OverlayConfig()), [odd])


def verdict(outcome: Outcome, kind: str = "", track_id: int = 1) -> Verdict:
    opens = outcome == "live"
    return Verdict(track_id, outcome, kind, "", None, "balanced", 0.25, 0, None, (), opens)


@pytest.mark.parametrize(
    ("outcome", "kind", "label"),
    [("live", "", "#1  live"), ("spoof", "mask", "#1  spoof(mask)"), ("unsure", "", "#1  unsure")],
)
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "rgb24"])
def test_a_verdict_is_beside_the_box_in_its_colour(
    pix_fmt: str, outcome: Outcome, kind: str, label: str
) -> None:
    person, judged = track(1, 160, 120, size=80), verdict(outcome, kind)
    assert tag_of(person, judged) == (label, OUTCOMES[outcome])
    settings = {"caption": False, "trail_ms": 0, "thickness_px": 12}
    before, after = drawn(pix_fmt, person, judged, **settings)
    assert after.records == before.records
    picture = as_rgb(after).astype(int)
    where = changed(before, after)
    for y, x in ((120, 120), (120, 200), (160, 160)):  # the box: left, right, below
        assert where[y, x]
        assert np.abs(picture[y, x] - OUTCOMES[outcome]).max() < 12
    width = text_mask(label, 0.25).shape[1]
    assert where[74, 118 + width // 2]
    assert not where[74, 118 + width + 6]


def test_verdicts_have_colours_that_nobody_confuses() -> None:
    live, spoof, unsure = (OUTCOMES[name] for name in ("live", "spoof", "unsure"))
    assert live[1] > 2 * live[0]
    assert spoof[0] > 2 * spoof[1]
    assert unsure[0] > 200 > unsure[1] > 150 > unsure[2]


def test_a_verdict_of_another_track_changes_nothing() -> None:
    person = track(1, 160, 120)
    _, bare = drawn("yuv420p", person)
    _, after = drawn("yuv420p", person, verdict("live", track_id=2))
    assert np.array_equal(bare.data, after.data)
