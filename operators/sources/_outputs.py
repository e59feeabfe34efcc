"""What sources give. All have a port `frames`, so that a graph can exchange one for another."""

from __future__ import annotations

from typing import NamedTuple

from operators.ports import AudioPackets, Yuv


class Pictures(NamedTuple):
    """A frame."""

    frames: Yuv


class Media(NamedTuple):
    """One decoded frame or one undecoded audio packet, in the order of the file or stream."""

    frames: Yuv | None = None
    audio: AudioPackets | None = None
