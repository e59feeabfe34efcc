"""Bad frames on disk: enough to see what came and to try it again."""

from __future__ import annotations

import base64
import json
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.caps import Caps
from engine.frame import Frame, Record, record_from_wire
from engine.runtime.quarantine import KEPT, Quarantine, safe_name
from engine.timing import Stamp
from tests.runtime.fakes import frame


class Blemish(Record, frozen=True):
    """Something on a frame."""

    box: tuple[float, float]


def test_a_frame_can_be_made_again_from_what_is_kept(tmp_path: Path) -> None:
    stamp = Stamp("door", 90_000, Fraction(1, 90_000), 5 * 10**12, 25, 3, 6 * 10**12)
    caps = Caps(media="video", pix_fmt="rgb24", dtype="uint8", width=4, height=2, device="cpu")
    pixels = np.random.default_rng(1).integers(0, 256, (2, 4, 3)).astype(np.uint8)
    bad = Frame(pixels, caps, stamp, (Blemish((1.5, 2.5)),))
    base = Quarantine(tmp_path, "det").keep(bad, "Traceback ...")
    assert base == tmp_path / "quarantine" / "det" / "door-25"

    told = json.loads(base.with_suffix(".json").read_text())
    again = Frame(
        np.load(base.with_suffix(".npy"), allow_pickle=False),
        msgspec.convert(told["caps"], Caps),
        Stamp(**told["stamp"] | {"time_base": Fraction(told["stamp"]["time_base"])}),
        tuple(
            record_from_wire(name, base64.b64decode(payload)) for name, payload in told["records"]
        ),
    )
    assert (again.data == bad.data).all()
    assert (again.caps, again.stamp, again.records) == (bad.caps, bad.stamp, bad.records)
    assert base.with_suffix(".txt").read_text() == "Traceback ..."


def test_only_so_many_are_kept(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path, "det")
    kept = [quarantine.keep(frame(seq), "") for seq in range(KEPT + 5)]
    assert KEPT == 16
    assert [path is not None for path in kept] == [True] * KEPT + [False] * 5
    files = list((tmp_path / "quarantine" / "det").iterdir())
    assert len(files) == 3 * KEPT
    assert Quarantine(tmp_path, "other").keep(frame(0), "") is not None, "each node has its own"


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    Quarantine(tmp_path, "det")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("stream_id", "name"),
    [("front.door", "front.door"), ("../../etc/x", ".._.._etc_x"), ("a b/c", "a_b_c"), ("", "_")],
)
def test_a_stream_cannot_name_a_place_elsewhere(stream_id: str, name: str, tmp_path: Path) -> None:
    assert safe_name(stream_id) == name
    base = Quarantine(tmp_path, "det").keep(frame(3, stream_id), "")
    assert base == tmp_path / "quarantine" / "det" / f"{name}-3"
    assert {path.name for path in base.parent.iterdir()} == {
        f"{name}-3.{kind}" for kind in ("npy", "json", "txt")
    }
