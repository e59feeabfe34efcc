"""Named ports: what operators of all kinds carry, so that signatures read as words."""

from __future__ import annotations

from typing import Annotated

from engine import Caps, Frame

Video = Annotated[Frame, Caps(media="video")]
AnyVideo = Annotated[Frame, Caps(media="video", device="any")]  # for its records, not its pixels
NodeVideo = Annotated[Frame, Caps(media="video", device="node")]  # on the CPU or the node's GPU
Yuv = Annotated[Frame, Caps(media="video", pix_fmt="yuv420p")]
AudioPackets = Annotated[Frame, Caps(media="packet")]
Events = Annotated[Frame, Caps(media="event")]
Features = Annotated[Frame, Caps(media="features")]
Verdicts = Annotated[Frame, Caps(media="event")]
