"""Records that operators of several kinds share."""

from __future__ import annotations

from engine import Record


class Packet(Record, frozen=True):
    """What an encoded packet carries beside its bytes and its stamp."""

    dts: int  # decoding time in ticks of the stamp's time_base
    duration: int  # ticks of the stamp's time_base; 0 when unknown
    is_keyframe: bool
