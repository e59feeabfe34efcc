"""Caps agree when some value satisfies both sides in every negotiated field."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.caps import Caps
from engine.errors import CapsError

FORMATS = st.lists(st.sampled_from(["yuv420p", "nv12", "rgb24"]), min_size=1, max_size=3).map(
    "|".join
)
SOME_CAPS = st.builds(
    Caps,
    media=st.none() | st.sampled_from(["video", "packet"]),
    pix_fmt=st.none() | FORMATS,
    width=st.none() | st.sampled_from([640, 1280]),
    device=st.none() | st.sampled_from(["cpu", "cuda:0"]),
)


@given(SOME_CAPS, SOME_CAPS)
def test_agreement_is_symmetric(one: Caps, other: Caps) -> None:
    assert bool(one.mismatches(other)) == bool(other.mismatches(one))


@given(SOME_CAPS)
def test_everything_agrees_with_itself_and_with_anything(caps: Caps) -> None:
    assert caps.mismatches(caps) == []
    assert Caps().mismatches(caps) == caps.mismatches(Caps()) == []


def test_one_of_several_formats_is_enough() -> None:
    port = Caps(media="video", pix_fmt="yuv420p|rgb24")
    assert port.mismatches(Caps(pix_fmt="rgb24|gray")) == []
    assert port.mismatches(Caps(pix_fmt="gray")) == [
        "pix_fmt: gray where yuv420p|rgb24 is accepted"
    ]


def test_every_field_that_differs_is_named() -> None:
    port = Caps(media="video", width=640, device="cpu", colorspace="bt601")
    other = Caps(media="packet", width=320, device="cuda:0", colorspace="bt709")
    assert [text.partition(":")[0] for text in port.mismatches(other)] == [
        "media",
        "width",
        "device",
    ]  # colours are carried, not negotiated


def test_require_says_where() -> None:
    Caps(pix_fmt="gray").require(Caps(pix_fmt="gray", width=3), "blur.frames")
    with pytest.raises(CapsError, match=r"blur\.frames: pix_fmt: rgb24 where gray is accepted"):
        Caps(pix_fmt="gray").require(Caps(pix_fmt="rgb24"), "blur.frames")


def test_description_is_one_line_of_what_is_known() -> None:
    caps = Caps(media="video", pix_fmt="rgb24", dtype="uint8", width=4, height=2, device="cpu")
    assert caps.describe() == "video rgb24 uint8 4x2 cpu"
    assert Caps().describe() == "any"
    assert Caps(width=4).describe() == "any"
