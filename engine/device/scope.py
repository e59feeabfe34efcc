"""What a lane does around `process` when its node runs on a GPU: wait, make current, mark.

Before: the node's stream waits for the event of every frame that comes in, and the frame's memory
is kept for it. During: the stream is current. Behind: one event is recorded, and every device array
that goes out carries it. The host waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from engine.device.array import DeviceArray
from engine.device.interface import Device, Event, Stream
from engine.frame import Batch, Frame

T = TypeVar("T")


class DeviceScope:
    """One node's stream on one device."""

    def __init__(self, device: Device, stream: Stream) -> None:
        self.device = device
        self.stream = stream

    def call(self, process: Callable[[], T], frames: Iterable[Frame]) -> T:
        """`process()` on the node's stream, after what `frames` wait for."""
        for frame in frames:
            if isinstance(frame.data, DeviceArray):
                self.admit(frame.data)
        try:
            with self.stream.use():
                result = process()
        except Exception as error:
            told = self.device.explained(error)
            if told is error:
                raise
            raise told from error
        ready = self.stream.record()
        marked: T = self._marked(result, ready)
        return marked

    def admit(self, data: DeviceArray) -> None:
        """From here on the node's stream may read `data`."""
        self.stream.wait(data.ready)
        if data.lease is not None:
            data.lease.use(self.stream)
        else:
            self.device.keep(data.array, self.stream)

    def _marked(self, result: Any, ready: Event) -> Any:
        """The result, its new device arrays carrying `ready`."""
        if isinstance(result, Frame):
            return self._frame(result, ready)
        if isinstance(result, Batch):
            return Batch(tuple(self._marked(item, ready) for item in result.frames))
        if isinstance(result, list):
            return [self._marked(item, ready) for item in result]
        if hasattr(result, "_asdict"):
            return type(result)(*(self._marked(item, ready) for item in result))
        return result

    def _frame(self, frame: Frame, ready: Event) -> Frame:
        """A tensor that `process` made becomes a `DeviceArray`; what it only passed on stays."""
        device = frame.caps.device
        if device is None or device == "cpu" or isinstance(frame.data, DeviceArray):
            return frame
        return frame.with_data(DeviceArray(frame.data, ready, device))
