"""The null sink counts."""

from engine.testing import HarnessContext
from operators.sinks.null import NullSink
from tests.operators.media import numbered


def test_counts_and_keeps_the_last_stamp():
    from engine import NoConfig

    sink = NullSink(NoConfig())
    sink.open(HarnessContext())
    assert (sink.frames, sink.last) == (0, None)
    for frame in numbered(3):
        sink.process(frame)
    assert sink.frames == 3
    assert sink.last is not None
    assert sink.last.seq == 2
