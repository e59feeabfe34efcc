"""A clip parted into motion, scene and object; what differences say, and what they must not see."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from operators.nn.moso.config import ClipLayout
from operators.nn.moso.preprocess import (
    Clip,
    clip_of,
    differences,
    object_mask,
    orders,
    parted,
    pseudo_clip,
    undone,
)
from tests.nn.moso_models import PLAIN, clip

OPEN = dataclasses.replace(PLAIN, closed=False)


def test_object_and_scene_are_the_frame_and_never_both() -> None:
    seen = clip()
    parts = parted(seen, OPEN)
    assert torch.equal(parts.object + parts.scene, seen.frames)
    assert not bool((parts.object * parts.scene).any())
    assert bool(parts.object.any())
    is_object = object_mask(parts.motion, 0.1, 0.9)
    assert torch.equal(parts.object, seen.frames * is_object)


def test_a_clip_at_rest_is_all_scene() -> None:
    frame = torch.rand(2, 3, 16, 16)
    still = Clip(frame, frame[:, None].expand(-1, 6, -1, -1, -1), frame)
    for config in (PLAIN, OPEN, dataclasses.replace(PLAIN, fixed_reference=False)):
        parts = parted(still, config)
        assert not bool(parts.motion.any())
        assert torch.equal(parts.scene, still.frames)


def test_on_a_ramp_the_fixed_reference_makes_differences_grow() -> None:
    speed = 0.02 * torch.rand(1, 1, 3, 16, 16)
    ramp = torch.rand(1, 1, 3, 16, 16) + torch.arange(8).view(1, 8, 1, 1, 1) * speed
    seen = clip_of(ramp, 6)
    found = differences(seen, OPEN)
    wanted = torch.arange(6).view(1, 6, 1, 1, 1) * speed  # (t - 1) v
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    moving = differences(seen, dataclasses.replace(OPEN, fixed_reference=False))
    torch.testing.assert_close(moving, torch.zeros_like(moving), atol=1e-5, rtol=0)


def test_flicker_beyond_the_upper_bound_is_scene() -> None:
    black, white = torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    assert not bool(object_mask(2 * white - black - white, 0.1, 0.9).any())
    d = torch.tensor([0.0, 0.0999, 0.1001, 0.8999, 0.9001, -0.5]).view(1, 1, 1, 6)
    three = torch.cat([0 * d, d, 0 * d], dim=1)  # the greatest colour decides
    assert object_mask(three, 0.1, 0.9).flatten().tolist() == [
        False,
        False,
        True,
        True,
        False,
        True,
    ]


def test_no_difference_of_a_given_frame_sees_what_comes_after() -> None:
    images = torch.cat([clip().before[:, None], clip().frames], dim=1)
    true, pseudo = clip_of(images, 6), pseudo_clip(images[:, :3], 6)
    given = differences(true, PLAIN)[:, :2]
    assert torch.equal(differences(pseudo, PLAIN)[:, :2], given)
    alone = Clip(true.before, true.frames[:, :2])  # a stream has seen nothing else
    assert torch.equal(differences(alone, PLAIN), given)
    changed = images.clone()
    changed[:, 3:] = torch.rand_like(changed[:, 3:])
    assert torch.equal(differences(clip_of(changed, 6), PLAIN)[:, :2], given)
    leaky = differences(clip_of(changed, 6), OPEN)[:, 1]
    assert not torch.equal(leaky, differences(true, OPEN)[:, 1])


def test_nor_does_that_of_the_last_frame_of_a_clip() -> None:
    seen = clip()
    assert torch.equal(differences(seen, PLAIN), differences(seen._replace(after=None), PLAIN))
    assert not torch.equal(differences(seen, OPEN)[:, -1], differences(seen, PLAIN)[:, -1])


def test_a_pseudo_clip_is_the_given_frames_and_then_rest() -> None:
    images = torch.rand(1, 3, 3, 4, 4)
    seen = pseudo_clip(images, 5)
    assert torch.equal(seen.before, images[:, 0])
    assert torch.equal(seen.frames[:, :2], images[:, 1:])
    assert bool((seen.frames[:, 2:] == images[:, -1:]).all())
    with pytest.raises(ValueError, match="do not begin a clip"):
        pseudo_clip(images[:, :1], 5)
    with pytest.raises(ValueError, match="not 4 or 5"):
        clip_of(torch.rand(1, 6, 3, 4, 4), 3)


def test_orders_find_scene_and_trail_under_a_camera_at_rest() -> None:
    seen = clip(frames=11)
    still, moved, first, last = orders(seen.frames).unbind(dim=1)
    torch.testing.assert_close(still, seen.before)
    assert torch.equal(first, seen.frames[:, 0])
    assert torch.equal(last, seen.frames[:, -1])
    trail = (seen.frames != seen.before[:, None]).any(dim=1).any(dim=1)
    off = (moved - still).abs().amax(dim=1)
    assert not bool(off[~trail].any())
    most = (seen.frames - still[:, None]).abs().amax(dim=2).amax(dim=1)
    torch.testing.assert_close(off, torch.where(most > 0.08, most, 0.0))


def test_differences_are_undone_exactly_behind_a_closed_end() -> None:
    seen = clip()
    found = undone(differences(seen, PLAIN), 2)
    wanted = seen.frames - seen.before[:, None]
    torch.testing.assert_close(found[:, :2], wanted[:, :2])
    torch.testing.assert_close(found[:, 4:], wanted[:, 4:])
    step = seen.frames[:, 4] - seen.frames[:, 3]  # what frame 4's difference does not know
    torch.testing.assert_close(found[:, 3], wanted[:, 3] - step, atol=1e-5, rtol=0)
    torch.testing.assert_close(found[:, 2], wanted[:, 2] - step / 2, atol=1e-5, rtol=0)


def test_clips_of_another_shape_are_refused() -> None:
    seen = clip()
    seen.check(PLAIN)
    with pytest.raises(ValueError, match="frames and the one before"):
        seen._replace(frames=seen.frames[:, 1:]).check(PLAIN)
    with pytest.raises(ValueError, match="the frame after"):
        seen._replace(after=seen.before[..., 1:]).check(PLAIN)
    seen._replace(after=None).check(PLAIN)
    with pytest.raises(ValueError, match="looks one frame ahead"):
        seen._replace(after=None).check(OPEN)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"time_head": 4}, "do not divide the frames"),
        ({"time_head": 3}, "reaches from given frames"),
        ({"heads": 3}, "heads do not divide"),
        ({"size_px": 24}, "no number of halvings"),
        ({"patch_px": 8}, "no number of halvings"),
        ({"stacking": "sum"}, "stacking must be"),
        ({"low": 1.0}, "low <= high"),
        ({"straight": True}, "no down blocks"),
        ({"width": 0}, "width must be"),
        ({"layout": ClipLayout(6, 2, 2, 2, 2, 16)}, "the scene's map must be the finest"),
    ],
)
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(PLAIN, **wrong)
    with pytest.raises(ValueError, match="leave none to predict"):
        ClipLayout(4, 4, 4, 4, 2, 16)
