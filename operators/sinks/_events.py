"""Event records as plain rows, the same for every event sink."""

from __future__ import annotations

from typing import Any

import msgspec

from engine import Frame
from engine.frame import UnknownRecord


def event_rows(frame: Frame) -> list[dict[str, Any]]:
    """One flat dictionary per record: where and when first, then the record's own fields.

    Holds nothing that differs between two runs on the same input: no clock, process or latency.
    """
    stamp = frame.stamp
    where = {
        "stream": stamp.stream_id,
        "pts": stamp.pts,
        "pts_seconds": round(stamp.pts_seconds, 6),
        "seq": stamp.seq,
    }
    return [{**where, **_fields(record)} for record in frame.records]


def _fields(record: Any) -> dict[str, Any]:
    if isinstance(record, UnknownRecord):
        fields, name = msgspec.msgpack.decode(record.payload), record.name
    else:
        fields, name = msgspec.to_builtins(record), type(record).__name__
    return {"kind": name, **fields}
