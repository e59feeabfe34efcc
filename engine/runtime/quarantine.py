"""Frames that made an operator raise, kept on disk with their traceback for replay."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from engine.frame import Frame, record_to_wire
from engine.timing import Stamp

KEPT = 16  # per node and run; later ones are counted, not kept


class Quarantine:
    """Writes `<out>/quarantine/<node>/<stream>-<seq>.{npy,json,txt}`; no pixels of a GPU."""

    def __init__(self, folder: Path, node: str) -> None:
        self._folder = folder / "quarantine" / node
        self._kept = 0

    def keep(self, frame: Frame, trace: str) -> Path | None:
        """The path without its ending, or None when enough are kept already."""
        if self._kept >= KEPT:
            return None
        self._kept += 1
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{safe_name(frame.stamp.stream_id)}-{frame.stamp.seq}"
        if isinstance(frame.data, np.ndarray):  # a GPU's memory may be what is wrong with it
            np.save(self._folder / f"{name}.npy", frame.data)
        (self._folder / f"{name}.json").write_bytes(msgspec.json.format(describe(frame)))
        (self._folder / f"{name}.txt").write_text(trace)
        return self._folder / name


def describe(frame: Frame) -> bytes:
    """Stamp, caps and records as JSON."""
    stamp = {name: getattr(frame.stamp, name) for name in Stamp.__struct_fields__}
    stamp["time_base"] = str(frame.stamp.time_base)
    records = [record_to_wire(record) for record in frame.records]
    return msgspec.json.encode({"stamp": stamp, "caps": frame.caps, "records": records})


def safe_name(name: str) -> str:
    """`name` with everything that a file name should not hold replaced."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name) or "_"
