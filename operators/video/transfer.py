"""Onto a GPU and off it: the two places where pixels cross, each explicit in the graph."""

from __future__ import annotations

from typing import Annotated

from msgspec.structs import replace

from engine import Caps, Frame, OpContext, Operator
from engine.contract import NoConfig, OnDevice
from engine.device.array import DeviceArray
from engine.device.staging import StagingRing

HostVideo = Annotated[Frame, Caps(media="video", device="cpu")]
DeviceVideo = Annotated[Frame, Caps(media="video", device="cuda")]


class Crossing(Operator[NoConfig]):
    """Base of both: a ring of page-locked memory, on the node's GPU."""

    devices = ("cuda",)
    pixels = "kept"
    _gpu: OnDevice
    _ring: StagingRing

    def open(self, ctx: OpContext) -> None:
        assert ctx.gpu is not None
        self._gpu = ctx.gpu
        self._ring = StagingRing(ctx.gpu.device)


class ToDevice(Crossing):
    """Copies frames to the node's GPU, beside the host; layout and records stay as they are."""

    def process(
        self, frames: HostVideo
    ) -> Annotated[Frame, Caps(media="video", device="cuda", like="frames")]:
        """[...] on the host -> the same on the device."""
        data = self._ring.upload(frames.data, self._gpu.stream)
        return frames.with_data(data, replace(frames.caps, device=data.device))


class ToHost(Crossing):
    """Copies frames from the node's GPU into host memory. This lane waits for the copy; what the
    device is given by others goes on.
    """

    def process(
        self, frames: DeviceVideo
    ) -> Annotated[Frame, Caps(media="video", device="cpu", like="frames")]:
        """[...] on the device -> the same on the host. TypeError for types that NumPy lacks."""
        data = frames.data
        assert isinstance(data, DeviceArray)
        array = self._ring.download(data, self._gpu.stream, data.dtype_name)
        return frames.with_data(array, replace(frames.caps, device="cpu"))
