"""The stream: equal to the batch while nothing has left, bounded for ever, changed on the way."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from operators.nn.ar_diffusion.denoiser import Denoiser
from operators.nn.ar_diffusion.diffusion import Diffusion
from operators.nn.ar_diffusion.sampler import Plan, frame_noise, sample
from operators.nn.ar_diffusion.stream import Finished, FrameStream, StreamSettings
from tests.nn.ar_models import DENOISER, awake, diffusion, unit

WINDOW = DENOISER.frames
SETTINGS = StreamSettings(Plan(6, 2), label=1, seed=5)


def settings(steps: int, lag: int, guidance: float = 1.0, label: int = 1) -> StreamSettings:
    return StreamSettings(Plan(steps, lag, guidance), label, seed=5)


def made(stream: FrameStream, frames: int) -> torch.Tensor:
    """The next frames, [frames, K, C]; they come in order."""
    found: list[Finished] = []
    while len(found) < frames:
        found += stream.tick()
    indices = [frame.index for frame in found]
    assert indices == list(range(indices[0], indices[0] + len(found)))
    return torch.stack([frame.tokens for frame in found[:frames]])


def before_the_first_leaves(plan: Plan, known: int = 0) -> int:
    """Frames that are done at the call before frame W starts and frame 0 has to go."""
    last = (WINDOW - known) * plan.lag
    return sum(plan.steps + f * plan.lag <= last for f in range(WINDOW - known))


def batch(denoiser: Denoiser, told: StreamSettings, frames: int) -> torch.Tensor:
    noise = frame_noise(told.seed, 0, frames, DENOISER.tokens, DENOISER.channels)[None]
    return sample(denoiser, diffusion(), told.plan, noise, torch.tensor([told.label]))[0]


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize(("steps", "lag"), [(6, 1), (6, 2), (6, 4), (6, 6), (5, 2), (1, 1)])
def test_with_its_cache_it_equals_the_batch_while_nothing_has_left(
    steps: int, lag: int, guidance: float
) -> None:
    denoiser, told = awake(), settings(steps, lag, guidance)
    stream, frames = FrameStream(denoiser, diffusion(), told), before_the_first_leaves(told.plan)
    assert frames >= (WINDOW if lag == steps else 1)
    difference = made(stream, frames) - batch(denoiser, told, WINDOW)[:frames]
    assert difference.abs().max() < 1e-4


def test_with_the_published_mask_kept_keys_would_be_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Negative: the same equality, with a denoiser whose context sees the future."""
    leaky = awake(mask="published")
    with pytest.raises(ValueError, match="only the strict mask"):
        FrameStream(leaky, diffusion(), SETTINGS, cached=True)
    monkeypatch.setattr(Denoiser, "streams", property(lambda self: True))
    forced = FrameStream(leaky, diffusion(), SETTINGS, cached=True)
    frames = before_the_first_leaves(SETTINGS.plan)
    difference = made(forced, frames) - batch(leaky, SETTINGS, WINDOW)[:frames]
    assert difference.abs().max() > 1e-3


@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize(
    "changes", [{}, {"mask": "published"}, {"positions": "table", "share_norm": True}]
)
def test_without_a_cache_it_equals_the_sliding_batch_for_ever(
    changes: dict[str, object], guidance: float
) -> None:
    denoiser, told = awake(**changes), settings(6, 2, guidance)
    stream = FrameStream(denoiser, diffusion(), told, cached=False)
    frames = 2 * WINDOW
    seen = batch(denoiser, told, frames + WINDOW)[:frames]  # the batch's end waits beyond
    assert (made(stream, frames) - seen).abs().max() < 1e-4


def test_after_the_first_frame_has_left_the_cache_remembers_it() -> None:
    """The documented inexactness: bounded, and the same every time."""
    denoiser = awake()
    first, again = (made(FrameStream(denoiser, diffusion(), SETTINGS), 20) for _ in range(2))
    assert torch.equal(first, again)
    fresh = made(FrameStream(denoiser, diffusion(), SETTINGS, cached=False), 20)
    equal = before_the_first_leaves(SETTINGS.plan)
    assert (first[:equal] - fresh[:equal]).abs().max() < 1e-4
    assert (first[WINDOW:] - fresh[WINDOW:]).abs().max() > 1e-3


@pytest.mark.parametrize(("steps", "lag"), [(6, 1), (6, 2), (6, 6), (7, 3)])
def test_it_takes_s_calls_for_the_first_frame_and_the_lag_for_each_other(
    steps: int, lag: int
) -> None:
    stream = FrameStream(awake(), diffusion(), settings(steps, lag))
    done = [len(stream.tick()) for _ in range(steps + 9 * lag)]
    assert [call + 1 for call, count in enumerate(done) if count] == [
        steps + f * lag for f in range(10)
    ]
    assert stream.moving <= -(-steps // lag)


def test_what_it_holds_stays_bounded() -> None:
    stream = FrameStream(awake(), diffusion(), settings(6, 2, 2.0))
    sizes = set()
    for _ in range(120):
        stream.tick()
        assert stream._cache is not None
        sizes.add((len(stream._kept) + len(stream._x), stream._cache[0].k.shape[2]))
    assert max(frames for frames, _ in sizes) == WINDOW
    assert max(tokens for _, tokens in sizes) <= DENOISER.context_tokens + WINDOW * DENOISER.tokens
    assert stream.next_index > 50


def test_the_network_sees_timesteps_that_never_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = awake()
    shown = []
    extend = denoiser.extend

    def recorded(z: torch.Tensor, t: torch.Tensor, cache: object) -> object:
        shown.append(t[0].tolist())
        return extend(z, t, cache)  # type: ignore[arg-type]

    monkeypatch.setattr(denoiser, "extend", recorded)
    stream = FrameStream(denoiser, diffusion(), SETTINGS)
    plans = [(6, 2), (12, 2), (3, 1), (10, 10), (6, 1), (2, 1), (12, 4), (1, 1), (6, 3)]
    for steps, lag in plans * 2:
        stream.change(settings(steps, lag))
        for _ in range(7):
            stream.tick()
            assert stream.moving <= WINDOW
    assert all(t == sorted(t) for t in shown)
    assert max(len(t) for t in shown) <= WINDOW


def test_steps_and_lag_change_on_the_way_without_a_frame_lost_or_twice() -> None:
    stream = FrameStream(awake(), diffusion(), SETTINGS)
    indices = []
    for steps, lag in [(6, 2), (12, 3), (2, 1), (6, 6), (6, 1)] * 3:
        stream.change(settings(steps, lag))
        for _ in range(9):
            indices += [frame.index for frame in stream.tick()]
    assert indices == list(range(len(indices)))
    assert len(indices) > 40
    for _ in range(30):  # and it settles: one frame a call at a lag of 1
        before = len(stream.tick())
    assert before == 1


def test_a_change_to_what_is_already_so_changes_nothing() -> None:
    a, b = (FrameStream(awake(), diffusion(), SETTINGS) for _ in range(2))
    first = made(a, 3)
    assert torch.equal(first, made(b, 3))
    b.change(dataclasses.replace(SETTINGS))
    assert torch.equal(made(a, 5), made(b, 5))


@pytest.mark.parametrize(
    "other",
    [settings(6, 2, 2.5), settings(6, 2, 1.0, label=0), StreamSettings(Plan(6, 2), 1, seed=6)],
)
def test_class_guidance_and_seed_change_what_comes_and_not_what_was(
    other: StreamSettings,
) -> None:
    denoiser = awake()
    a, b = (FrameStream(denoiser, diffusion(), SETTINGS) for _ in range(2))
    assert torch.equal(made(a, 3), made(b, 3))
    b.change(other)
    assert b.settings == other
    went, turned = made(a, 6), made(b, 6)
    assert (went[3:] - turned[3:]).abs().max() > 1e-3
    b.change(SETTINGS)
    made(b, 2)


def test_after_a_change_of_class_the_kept_frames_are_seen_under_the_new_one() -> None:
    """With lag S nothing is under way between frames: the rest is a batch with known frames."""
    denoiser = awake()
    stream = FrameStream(denoiser, diffusion(), settings(4, 4))
    known = made(stream, 2)
    stream.change(settings(4, 4, 2.0, label=0))
    noise = frame_noise(5, 0, 5, DENOISER.tokens, DENOISER.channels)[None]
    wanted = sample(denoiser, diffusion(), Plan(4, 4, 2.0), noise, torch.tensor([0]), known[None])[
        0, 2:
    ]
    assert (made(stream, 3) - wanted).abs().max() < 1e-4


@pytest.mark.parametrize("cached", [True, False])
def test_known_frames_are_followed_as_in_the_batch(cached: bool) -> None:
    denoiser, known = awake(), unit(2, DENOISER.tokens, DENOISER.channels)
    stream = FrameStream(denoiser, diffusion(), SETTINGS, cached)
    stream.prime(known)
    assert stream.next_index == 2
    noise = frame_noise(5, 0, WINDOW, DENOISER.tokens, DENOISER.channels)[None]
    wanted = sample(denoiser, diffusion(), SETTINGS.plan, noise, torch.tensor([1]), known[None])[0]
    frames = before_the_first_leaves(SETTINGS.plan, known=2)
    assert frames >= 2
    assert (made(stream, frames) - wanted[2 : 2 + frames]).abs().max() < 1e-4


def test_of_more_known_frames_than_fit_the_last_ones_count() -> None:
    denoiser, known = awake(), unit(3 * WINDOW, DENOISER.tokens, DENOISER.channels)
    long, short = (FrameStream(denoiser, diffusion(), SETTINGS) for _ in range(2))
    long.prime(known)
    short.restart(2 * WINDOW + 1)
    short.prime(known[2 * WINDOW + 1 :])
    assert long.next_index == short.next_index == 3 * WINDOW
    assert torch.equal(made(long, 4), made(short, 4))


def test_nothing_is_primed_while_frames_are_under_way() -> None:
    stream = FrameStream(awake(), diffusion(), SETTINGS)
    stream.tick()
    with pytest.raises(ValueError, match="1 frames are under way"):
        stream.prime(unit(1, DENOISER.tokens, DENOISER.channels))


def test_a_restart_forgets_everything_but_the_settings() -> None:
    stream = FrameStream(awake(), diffusion(), SETTINGS)
    first = made(stream, 4)
    made(stream, 5)
    stream.restart()
    assert torch.equal(made(stream, 4), first)
    stream.restart(100)
    found = stream.tick()
    while not found:
        found = stream.tick()
    assert found[0].index == 100


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (settings(7, 1), "loses updates"),
        (settings(6, 2, label=4), "label 4: 0 to 3"),
        (settings(6, 0), "loses updates"),
        (settings(100, 60), "100 inference steps of 100"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: StreamSettings, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FrameStream(awake(), diffusion(), wrong)


def test_a_refused_change_leaves_the_stream_as_it_was() -> None:
    a, b = (FrameStream(awake(), Diffusion(diffusion().config), SETTINGS) for _ in range(2))
    with pytest.raises(ValueError, match="loses updates"):
        b.change(settings(30, 1))
    with pytest.raises(ValueError, match="inference steps"):
        b.change(settings(100, 60))
    assert b.settings == SETTINGS
    assert torch.equal(made(a, 4), made(b, 4))
