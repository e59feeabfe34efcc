"""The batch sampler: its calls, known frames, guidance, windows, and chunks that are stitched."""

from __future__ import annotations

import pytest
import torch

from operators.nn.ar_diffusion.denoiser import Denoiser
from operators.nn.ar_diffusion.sampler import Plan, frame_noise, guided, sample, sample_stitched
from tests.nn.ar_models import awake, diffusion, unit

ONE = torch.tensor([1])


class Recorder:
    """Stands in front of a denoiser and writes down every call."""

    def __init__(self, denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
        self.timesteps: list[list[int]] = []
        self.labels: list[list[int]] = []
        self.seen: list[torch.Tensor] = []
        forward = denoiser.forward

        def recorded(z: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            self.timesteps.append(t[0].tolist())
            self.labels.append(labels.tolist())
            self.seen.append(z.clone())
            return forward(z, t, labels)

        monkeypatch.setattr(denoiser, "forward", recorded)


@pytest.mark.parametrize("lag", [0, 1, 2, 6])
def test_the_network_is_called_as_often_and_shown_what_the_schedule_says(
    lag: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoiser = awake()
    recorder = Recorder(denoiser, monkeypatch)
    made = sample(denoiser, diffusion(), Plan(6, lag), frame_noise(1, 0, 5, 4, 3)[None], ONE)
    assert made.shape == (1, 5, 4, 3)
    torch.testing.assert_close(made.norm(dim=-1), torch.ones(1, 5, 4))
    assert len(recorder.timesteps) == 6 + 4 * lag
    for t in recorder.timesteps:
        assert t == sorted(t)
    if lag == 0:
        assert recorder.timesteps[0] == [84] * 5
    if lag == 6:
        assert recorder.timesteps[6] == [1, 84, 99, 99, 99]


def test_a_perfect_denoiser_gives_back_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser, clip = awake(), unit(1, 5, 4, 3)
    monkeypatch.setattr(denoiser, "forward", lambda z, t, labels: diffusion().scaled(clip))
    for lag in (0, 2, 6):
        made = sample(denoiser, diffusion(), Plan(6, lag), torch.randn(1, 5, 4, 3), ONE)
        torch.testing.assert_close(made, clip, atol=0.03, rtol=0)


def test_known_frames_are_done_from_the_start_and_come_out_as_they_went_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    denoiser, known = awake(), unit(1, 2, 4, 3)
    recorder = Recorder(denoiser, monkeypatch)
    noise = frame_noise(1, 0, 5, 4, 3)[None]
    made = sample(denoiser, diffusion(), Plan(6, 2), noise, ONE, known)
    torch.testing.assert_close(made[:, :2], known)
    assert len(recorder.timesteps) == 6 + 2 * 2
    for t, z in zip(recorder.timesteps, recorder.seen, strict=True):
        assert t[:2] == [1, 1]
        assert torch.equal(z[:, :2], diffusion().scaled(known))
    other = sample(denoiser, diffusion(), Plan(6, 2), noise, ONE, unit(1, 2, 4, 3))
    assert (other[:, 2:] - made[:, 2:]).abs().max() > 1e-3


def test_guidance_leans_away_from_no_class(monkeypatch: pytest.MonkeyPatch) -> None:
    cond, uncond = torch.tensor([3.0]), torch.tensor([1.0])
    assert [float(guided(cond, uncond, w)) for w in (0.0, 1.0, 2.0)] == [1.0, 3.0, 5.0]
    denoiser, noise = awake(), frame_noise(1, 0, 3, 4, 3)[None]
    plain = sample(denoiser, diffusion(), Plan(6, 2), noise, ONE)
    none = sample(denoiser, diffusion(), Plan(6, 2, 0.0), noise, ONE)
    nothing = torch.tensor([denoiser.null])
    unconditional = sample(denoiser, diffusion(), Plan(6, 2), noise, nothing)
    torch.testing.assert_close(none, unconditional, atol=1e-4, rtol=1e-4)
    recorder = Recorder(denoiser, monkeypatch)
    strong = sample(denoiser, diffusion(), Plan(6, 2, 3.0), noise, ONE)
    assert (strong - plain).abs().max() > 1e-3
    assert all(labels == [1, 3] for labels in recorder.labels)


def test_a_long_clip_slides_through_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = awake()
    recorder = Recorder(denoiser, monkeypatch)
    noise = frame_noise(1, 0, 10, 4, 3)[None]
    made = sample(denoiser, diffusion(), Plan(6, 1), noise, ONE)
    assert len(recorder.timesteps) == 6 + 9
    assert all(len(t) == 6 and t == sorted(t) for t in recorder.timesteps)
    first = sample(awake(), diffusion(), Plan(6, 1), noise[:, :6], ONE)
    torch.testing.assert_close(made[:, 0], first[:, 0])  # it was done before the window moved
    with pytest.raises(ValueError, match="loses updates"):
        sample(denoiser, diffusion(), Plan(6, 0), noise, ONE)


def test_a_later_frames_noise_never_changes_an_earlier_frame() -> None:
    denoiser, noise = awake(), torch.randn(1, 5, 4, 3)
    other = noise.clone()
    other[:, 3:] = torch.randn(1, 2, 4, 3)
    for lag in (0, 2, 6):
        a, b = (sample(denoiser, diffusion(), Plan(6, lag), x, ONE) for x in (noise, other))
        assert torch.equal(a[:, :3], b[:, :3])
        assert not torch.equal(a[:, 3:], b[:, 3:])


def test_noise_belongs_to_the_frame_however_a_clip_is_cut() -> None:
    whole = frame_noise(9, 0, 7, 4, 3)
    parts = [frame_noise(9, first, count, 4, 3) for first, count in ((0, 2), (2, 1), (3, 4))]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole, frame_noise(8, 0, 7, 4, 3))
    assert not torch.equal(whole[0], whole[1])


def test_stitched_windows_go_on_from_the_last_frames_of_the_one_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    denoiser = awake()
    recorder = Recorder(denoiser, monkeypatch)
    noise = frame_noise(1, 0, 13, 4, 3)[None]
    parts = list(sample_stitched(denoiser, diffusion(), Plan(6, 0), noise, ONE, overlap=2))
    assert [part.shape[1] for part in parts] == [6, 4, 3]
    assert len(recorder.timesteps) == 3 * 6
    torch.testing.assert_close(recorder.seen[6][:, :2], diffusion().scaled(parts[0][:, -2:]))
    assert torch.equal(recorder.seen[6][:, 2:], noise[:, 6:10])
    assert recorder.timesteps[6] == [1, 1, 84, 84, 84, 84]
    with pytest.raises(ValueError, match="an overlap of 6"):
        list(sample_stitched(denoiser, diffusion(), Plan(6, 0), noise, ONE, overlap=6))


@pytest.mark.parametrize("wrong", [(6, 7, 1.0), (0, 0, 1.0), (6, 2, -1.0)])
def test_plans_that_cannot_be_are_refused(wrong: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match=r"lag of|guidance must be"):
        Plan(*wrong)
