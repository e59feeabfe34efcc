"""Decoding frame by frame with a look back: equal to the whole clip, bounded, in any portions."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from operators.nn.ar_diffusion.temporal import Past
from operators.nn.ar_diffusion.temporal_stream import TemporalStream
from operators.nn.ar_diffusion.vae import Vae
from tests.nn.ar_models import VAE, looking_back, unit

WINDOW = 5


def tokens(frames: int) -> torch.Tensor:
    return unit(frames, VAE.tokens, VAE.channels)


def in_portions(stream: TemporalStream, z: torch.Tensor, size: int) -> torch.Tensor:
    return torch.cat([stream.decode(part) for part in z.split(size)])


def held_bytes(stream: TemporalStream) -> int:
    """Of all memory behind what is kept, seen or not."""
    assert stream._past is not None
    tensors = [x for past in stream._past for part in (past.fine, past.coarse) for x in part]
    return sum(x.untyped_storage().nbytes() for x in tensors)


@pytest.mark.parametrize("size", [1, 2, 3, WINDOW])
def test_it_equals_the_whole_clip_while_nothing_is_let_go(size: int) -> None:
    temporal, z = looking_back(), tokens(WINDOW)
    whole = temporal(z[None])[0]
    made = in_portions(TemporalStream(temporal, WINDOW), z, size)
    assert (made - whole).abs().max() < 1e-4
    alone = temporal.decoder(z)
    assert (made[1:] - alone[1:]).abs().amax(dim=(1, 2, 3)).min() > 1e-2, "nobody looks back"


def test_it_equals_the_whole_clip_with_a_straight_way_and_anchored_tokens() -> None:
    vae = Vae(dataclasses.replace(VAE, anchored=True, centred=True, straight=True)).eval()
    torch.nn.init.normal_(vae.decoder.pixels.rgb.weight, std=0.3)
    temporal, z = looking_back(vae), tokens(WINDOW)
    made = in_portions(TemporalStream(temporal, WINDOW), z, 1)
    assert (made - temporal(z[None])[0]).abs().max() < 1e-4


@pytest.mark.parametrize("size", [2, 4, 7, 17])
def test_how_many_frames_come_at_once_makes_no_difference(size: int) -> None:
    temporal, z = looking_back(), tokens(17)
    one = in_portions(TemporalStream(temporal, WINDOW), z, 1)
    assert (in_portions(TemporalStream(temporal, WINDOW), z, size) - one).abs().max() < 1e-4


def test_when_frames_have_left_a_picture_depends_on_no_more_than_layers_can_carry() -> None:
    """W frames in every layer: D layers reach D (W - 1) frames back, and not one further."""
    temporal, z = looking_back(), tokens(16)
    reach = VAE.depth * (WINDOW - 1)
    before = in_portions(TemporalStream(temporal, WINDOW), z, 1)
    z[0] = tokens(1)[0]
    after = in_portions(TemporalStream(temporal, WINDOW), z, 1)
    change = (after - before).abs().amax(dim=(1, 2, 3))
    assert bool((change[: reach + 1] > 1e-6).all())
    assert torch.equal(after[reach + 1 :], before[reach + 1 :])
    whole = temporal(z[None])[0]
    assert (after[:WINDOW] - whole[:WINDOW]).abs().max() < 1e-4
    assert (after[WINDOW:] - whole[WINDOW:]).abs().amax(dim=(1, 2, 3)).min() > 1e-4


@pytest.mark.parametrize("size", [1, 3, 24])
def test_what_it_holds_stays_bounded(size: int) -> None:
    stream, held = TemporalStream(looking_back(), WINDOW), set()
    for part in tokens(48).split(size):
        stream.decode(part)
        assert stream.kept <= WINDOW - 1
        if stream.kept == WINDOW - 1:
            held.add(held_bytes(stream))
    per_frame = 2 * 4 * VAE.width * (VAE.grid**2 + VAE.tokens)  # keys and values, float32
    assert held == {VAE.depth * (WINDOW - 1) * per_frame}


def test_a_window_of_one_frame_keeps_nothing() -> None:
    temporal, z = looking_back(), tokens(3)
    stream = TemporalStream(temporal, 1)
    made = stream.decode(z)
    assert stream.kept == 0
    assert (made - temporal(z[:, None])[:, 0]).abs().max() < 1e-4


def test_a_restart_forgets_everything() -> None:
    stream, z = TemporalStream(looking_back(), WINDOW), tokens(4)
    first = stream.decode(z)
    assert not torch.allclose(stream.decode(z), first, atol=1e-3)
    stream.restart()
    assert stream.kept == 0
    assert torch.equal(stream.decode(z), first)


def test_what_is_kept_can_be_cut() -> None:
    _, added = looking_back().extend(tokens(4)[None], None)
    cut = added[0].last(3)
    assert isinstance(cut, Past)
    assert (cut.frames, cut.coarse.k.shape[2]) == (3, 3 * VAE.tokens)
    assert torch.equal(cut.coarse.v, added[0].coarse.v[:, :, VAE.tokens :])
    assert torch.equal(added[0].last(9).fine.k, added[0].fine.k)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="window must be 1 or more, not 0"):
        TemporalStream(looking_back(), 0)
    with pytest.raises(ValueError, match="no frame to decode"):
        TemporalStream(looking_back(), 2).decode(tokens(1)[:0])
