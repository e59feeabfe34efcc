"""frameloom's engine: frames, operators, graphs, links and the processes that run them."""

from engine.caps import Caps
from engine.clock import Clock, FakeClock, MonotonicClock
from engine.contract import TUNABLE, Config, NoConfig, OpContext, Operator, PerStream
from engine.errors import (
    CapsError,
    DeviceError,
    EndOfStream,
    EngineError,
    GraphError,
    OperatorError,
    TransportError,
)
from engine.frame import Batch, Discontinuity, Frame, Latest, Record, StreamEnd, Watermark
from engine.timing import Stamp, rescale_pts

__all__ = [
    "TUNABLE",
    "Batch",
    "Caps",
    "CapsError",
    "Clock",
    "Config",
    "DeviceError",
    "Discontinuity",
    "EndOfStream",
    "EngineError",
    "FakeClock",
    "Frame",
    "GraphError",
    "Latest",
    "MonotonicClock",
    "NoConfig",
    "OpContext",
    "Operator",
    "OperatorError",
    "PerStream",
    "Record",
    "Stamp",
    "StreamEnd",
    "TransportError",
    "Watermark",
    "rescale_pts",
]
