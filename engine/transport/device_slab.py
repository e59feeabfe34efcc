"""A slab whose pixels lie on a GPU: leases, generations and sweeping are those of shared memory.

Each slot of the shared memory holds, written once, how to open its place on the device. Nothing of
that travels with a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import msgspec
import numpy as np

from engine.device.array import DeviceArray
from engine.device.ipc import Exported, SlabReader, SlabWriter
from engine.device.opening import Devices
from engine.errors import DeviceError, OperatorError, TransportError
from engine.transport.slab import Slab, SlabView

EXPORT_BYTES = 4096
_exported = msgspec.msgpack.Decoder(Exported)


class DeviceSlab(Slab):
    """At its owner. TransportError where the device cannot share memory, or has none left."""

    def __init__(self, devices: Devices, device: str, slots: int, slot_bytes: int) -> None:
        super().__init__(slots, EXPORT_BYTES)
        self._device = device
        self._pixel_bytes = slot_bytes
        self._exits = ExitStack()
        try:
            scope = self._exits.enter_context(devices.scope(device, 0))
            self._writer = SlabWriter(scope.device, scope.stream, slots, slot_bytes)
            self._exits.callback(self._writer.close)
        except (DeviceError, OperatorError) as error:
            super().unlink()
            self._exits.close()
            raise TransportError(f"no memory of {device} can be shared: {error}") from error
        for slot in range(slots):
            told = msgspec.msgpack.encode(self._writer.exported(slot))
            super().write(slot, np.frombuffer(told.ljust(EXPORT_BYTES, b"\0"), np.uint8))

    def fits(self, data: Any) -> bool:
        mine = isinstance(data, DeviceArray) and data.device == self._device
        return mine and data.nbytes <= self._pixel_bytes

    def write(self, slot: int, array: Any) -> None:
        """Copy a device array into a leased slot, as work of the slab's stream."""
        self._writer.write(slot, array)

    def unlink(self) -> None:
        """As for pixels in shared memory, but a device frees memory under its readers: if there
        still are some, it stays until this process ends.
        """
        super().unlink()
        if self.idle:
            self._exits.close()


class DeviceSlabView:
    """At a reader: one place on the device per slot, opened when first asked for."""

    def __init__(self, view: SlabView, devices: Devices) -> None:
        self._view = view
        self._devices = devices
        self._readers: dict[int, SlabReader] = {}

    def array(
        self,
        slot: tuple[int, int],
        dtype: str,
        shape: tuple[int, ...],
        released: Callable[[], None],
    ) -> DeviceArray:
        """What lies in `slot` (its number, and where its shared memory begins)."""
        index, offset = slot
        if index not in self._readers:
            self._readers[index] = self._open(offset)
        return self._readers[index].array(shape, dtype, released)

    def _open(self, offset: int) -> SlabReader:
        told = bytes(self._view.array(offset, "uint8", (EXPORT_BYTES,), _nothing))
        try:
            exported = _exported.decode(told.rstrip(b"\0"))
            return SlabReader(self._devices.device(exported.device), exported)
        except (msgspec.DecodeError, DeviceError) as error:
            raise TransportError(f"a slot on a device cannot be opened: {error}") from error


def _nothing() -> None:
    """Its bytes were copied: nobody waits for the view to end."""
