"""3D masks: the shell and its fit, lost detail, highlights, holes, rim and shadow."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from operators.nn.capture import mask3d, shell
from operators.nn.capture.geometry import MEAN_FACE, Face, FramingParameters, View
from operators.nn.capture.light import REC709
from operators.nn.capture.scene import sample

CORNER, SIDE = (104, 0), 240
POINTS = np.array(
    [(203.5, 101.5), (248, 102), (224.3, 125.5), (205, 144.3), (242, 144.5)]
) - np.array(CORNER)  # fmt: skip
FACE = Face.of(np.ascontiguousarray(astronaut()[:SIDE, CORNER[0] : CORNER[0] + SIDE]), POINTS)
VIEW = View.of(FACE, FramingParameters(0.0, 1.0, 0.0, 0.0), 120)
LIGHT = replace(sample("mask3d", 0, "train").light, azimuth_deg=-60.0, elevation_deg=45.0)


def worn(subkind: str, **changes) -> mask3d.MaskParameters:
    usual = {"view_x_deg": 0.0, "view_y_deg": 0.0, "mouth_open": True}
    return replace(sample("mask3d", 3, "train", subkind).attack, **{**usual, **changes})


def pieces(mask: mask3d.MaskParameters, light=LIGHT) -> mask3d.Parts:
    return mask3d.assemble(FACE, VIEW, mask, light, np.random.default_rng(0))


def fine(picture: np.ndarray, where: np.ndarray) -> float:
    """Energy of what a blur of 1.2 mm takes away, relative to the brightness."""
    grey = np.asarray(picture @ REC709, np.float32)
    detail = grey - cv2.GaussianBlur(grey, (0, 0), 1.2 * FACE.eye_px / 63 * VIEW.count / SIDE)
    return float(detail[where].std() / grey[where].mean())


@pytest.mark.parametrize("subkind", mask3d.SUBKINDS)
def test_skin_loses_its_fine_detail(subkind):
    """Cheeks and forehead, away from holes and folds."""
    mask = worn(subkind, facet_mm=0.0)
    grid = shell.Grid.of(FACE, VIEW)
    x, y = (shell.enlarge(part, VIEW.count) for part in shell.face_mm(FACE, grid))
    material = shell.enlarge(mask3d.fitted(FACE, VIEW, mask).material, VIEW.count)
    where = (material > 8) & (y > 18) & (y < 90) & (np.abs(x) < 50)
    assert where.mean() > 0.01
    texture = VIEW.look(mask3d.texture(FACE, mask))
    assert fine(texture, where) < 0.75 * fine(VIEW.look(FACE.linear), where)


def test_rougher_materials_lose_more():
    grid = shell.Grid.of(FACE, VIEW)
    where = shell.enlarge(mask3d.fitted(FACE, VIEW, worn("latex")).material, VIEW.count) > 6
    assert grid.count == VIEW.count // 2
    energies = [
        fine(VIEW.look(mask3d.texture(FACE, worn("silicone", detail_mm=mm))), where)
        for mm in (0.6, 1.5, 4.0)
    ]
    assert energies[0] > energies[1] > energies[2]


@pytest.mark.parametrize("subkind", ["latex", "resin"])
def test_highlights_grow_with_strength_and_shrink_with_the_exponent(subkind):
    areas = [
        float((pieces(worn(subkind, specular=strength)).specular > 0.08).mean())
        for strength in (0.1, 0.3, 0.9)
    ]
    assert areas[0] < areas[1] < areas[2]
    dull, hard = (
        float((pieces(worn(subkind, specular=0.5, exponent=m)).specular > 0.25).mean())
        for m in (8.0, 120.0)
    )
    assert hard < 0.6 * dull


def test_the_highlight_moves_with_the_lamp():
    places = []
    for azimuth in (180.0, 0.0):
        light = replace(LIGHT, azimuth_deg=azimuth)
        highlight = pieces(worn("resin", exponent=40.0, bump_slope=0.0), light).specular
        weights = highlight**2
        places.append(float((weights.sum(axis=0) @ np.arange(VIEW.count)) / weights.sum()))
    assert places[1] > places[0] + 10  # the lamp on the right lights the right


@pytest.mark.parametrize("subkind", mask3d.SUBKINDS)
def test_holes_keep_the_pixels_of_the_wearer(subkind):
    parts = pieces(worn(subkind, gap_mm=5.0))
    bare = VIEW.look(FACE.linear)
    masked = mask3d.render(FACE, VIEW, worn(subkind, gap_mm=5.0), LIGHT, np.random.default_rng(0))
    for eye in VIEW.place(POINTS[:2]):
        x, y = np.rint(eye).astype(int)
        box = slice(y - 2, y + 3), slice(x - 7, x + 8)
        assert parts.through[box].min() > 0.9
        assert parts.cover[box].max() < 0.1
        seen, real = (picture[box].ravel() for picture in (masked.reflected, bare))
        assert np.corrcoef(seen, real)[0, 1] > 0.9
        assert seen.mean() < real.mean()  # it is darker behind a hole


def test_parallax_moves_what_is_behind_a_hole():
    straight, beside = (
        pieces(worn("resin", gap_mm=10.0, view_x_deg=deg)).wearer for deg in (0.0, 15.0)
    )
    x, y = np.rint(VIEW.place(POINTS[:1])[0]).astype(int)
    moved = 10 * np.tan(np.radians(15)) * FACE.eye_px / 63 * VIEW.count / SIDE
    box = np.asarray(straight[y - 6 : y + 7, x - 10 : x + 11] @ REC709, np.float32)
    field = np.asarray(beside[y - 6 : y + 7, x - 18 : x + 19] @ REC709, np.float32)
    score = cv2.matchTemplate(field, box, cv2.TM_CCOEFF_NORMED)[0]
    assert 8 - int(score.argmax()) == pytest.approx(moved, abs=1.01)


@pytest.mark.parametrize("subkind", mask3d.SUBKINDS)
def test_the_rim_is_a_hard_edge(subkind):
    """Across the outline of the bare forehead and cheeks the mask is steeper than the face."""
    mask = worn(subkind)
    parts = pieces(mask)
    masked = parts.wearer + parts.cover[..., None] * (parts.skin - parts.wearer)
    bare = VIEW.look(FACE.linear)
    fit = mask3d.fitted(FACE, VIEW, mask)
    outer = shell.enlarge(np.abs(fit.material) + 99 * (fit.holes > -4), VIEW.count)
    rim = outer < 1.0
    steep = []
    for picture in (masked, bare):
        grey = np.log(np.asarray(picture @ REC709, np.float32) + 0.02)
        across = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
        steep.append(float(np.median(np.hypot(*across)[rim])))
    assert rim.any()
    assert steep[0] > 1.5 * steep[1]


def test_the_mask_throws_a_shadow_away_from_the_lamp():
    mask = worn("resin", gap_mm=12.0)
    fit = mask3d.fitted(FACE, VIEW, mask)
    below = replace(LIGHT, azimuth_deg=-90.0, elevation_deg=35.0)  # the lamp above
    reached = mask3d.shadow(fit, mask, below)
    chin = (fit.x_mm**2 < 100) & (fit.material < -3) & (fit.material > -8) & (fit.y_mm > 80)
    forehead = (fit.x_mm**2 < 100) & (fit.material < -3) & (fit.material > -8) & (fit.y_mm < -30)
    assert reached[chin].mean() < 0.8 * reached[forehead].mean()


def test_without_a_mouth_hole_the_mouth_is_painted():
    mouth = np.rint(VIEW.place(POINTS[3:]).mean(axis=0)).astype(int)
    opened, closed = (
        pieces(worn("latex", mouth_open=is_open)).cover[mouth[1], mouth[0]]
        for is_open in (True, False)
    )
    assert (opened, closed) == (0, 1)


def test_the_spline_takes_points_to_points_and_affine_maps_exactly():
    assert np.allclose(shell.spline(POINTS, MEAN_FACE, POINTS), MEAN_FACE, atol=1e-6)
    turn = np.array([[0.9, 0.2], [-0.1, 1.1]])
    at = np.array([(3.0, 7.0), (200.0, -40.0)])
    assert np.allclose(shell.spline(POINTS, POINTS @ turn + 5, at), at @ turn + 5, atol=1e-6)


def test_the_fit_lays_the_mean_face_on_the_five_points():
    grid = shell.Grid.of(FACE, VIEW)
    x, y = (shell.enlarge(part, VIEW.count) for part in shell.face_mm(FACE, grid))
    for (column, row), wanted in zip(
        np.rint(VIEW.place(POINTS)).astype(int), MEAN_FACE, strict=True
    ):
        assert x[row, column] == pytest.approx(wanted[0], abs=1.0)
        assert y[row, column] == pytest.approx(wanted[1], abs=1.0)


def test_the_shell_is_a_face():
    z = shell.heights()
    column = round((0 - shell.LEFT_MM) / shell.STEP_MM)
    rows = [round((y - shell.TOP_MM) / shell.STEP_MM) for y in (36.0, 5.0, -60.0)]
    assert z[rows[0], column] > z[rows[1], column] + 5  # the nose's tip over its root
    side = round((31.5 - shell.LEFT_MM) / shell.STEP_MM)
    assert z[rows[1], side] < z[rows[1], column] - 10  # sockets lie deep
    assert np.allclose(z, z[:, ::-1], atol=1e-3)


def test_folded_card_is_flat_between_its_folds():
    grid = shell.Grid.of(FACE, VIEW)
    x, y = shell.face_mm(FACE, grid)
    smooth, _ = shell.slopes(x, y, 1.0, 0.0)
    folded, _ = shell.slopes(x, y, 1.0, 27.0)
    inside = (np.abs(x) < 60) & (y > -40) & (y < 100)
    changes = [np.abs(np.diff(part, axis=1))[:, :-1][inside[:, :-2]] for part in (smooth, folded)]
    assert np.median(changes[1]) == 0
    assert np.median(changes[0]) > 0
    assert (changes[1] > 0.05).mean() > 0.01  # and bends there
    near = shell.fold_distance(x, y, 27.0)
    assert near[inside].min() < 0.5
    assert near.max() <= 5
