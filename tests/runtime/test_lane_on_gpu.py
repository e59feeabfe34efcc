"""Lanes on a (simulated) GPU: each on its own stream, ordered by the events that frames carry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

from engine.caps import Caps
from engine.contract import NoConfig, OpContext, Operator
from engine.device.array import DeviceArray
from engine.device.scope import DeviceScope
from engine.device.simulated import OrderingError, SimulatedDevice
from engine.errors import OperatorError
from engine.frame import Frame, Item, Latest
from engine.runtime.inputs import make_inputs
from engine.runtime.lane import NodeLane
from engine.telemetry.stats import NodeStats
from operators.video.transfer import ToDevice, ToHost
from tests.runtime.fakes import Exits, FakeHost, FakeInbox, end, frame, planned_node

OnGpu = Annotated[Frame, Caps(device="cuda")]


def plus_one(device: SimulatedDevice, given: Any) -> Any:
    """A kernel on the current stream."""
    assert device.current is not None
    made = device.empty(given.shape, "uint8", device.current)
    device.launch(lambda: np.add(given.values, 1, out=made.values), reads=[given], writes=[made])
    return made


class PlusOne(Operator[NoConfig]):
    """Adds one on the device; weights are put there in `open`."""

    devices = ("cuda",)

    def open(self, ctx: OpContext) -> None:
        assert ctx.gpu is not None
        self.device = ctx.gpu.device
        self.weights = self.device.empty((1,), "uint8", ctx.gpu.stream)
        self.device.clear(self.weights, self.device.current)

    def process(self, frames: OnGpu) -> OnGpu:
        made = plus_one(self.device, frames.data.array)
        self.device.launch(lambda: None, reads=[self.weights])
        return frames.with_data(made)

    def reset(self, stream_id: str) -> None:
        self.device.launch(lambda: None, reads=[self.weights])

    def close(self) -> None:
        self.device.clear(self.weights, self.device.current)


class Sum(PlusOne):
    """Reads a second input's latest value as well."""

    def process(self, frames: OnGpu, side: Latest[OnGpu]) -> OnGpu:  # type: ignore[override]
        assert side.value is not None
        self.device.launch(lambda: None, reads=[side.value.data.array, frames.data.array])
        return frames.with_data(plus_one(self.device, frames.data.array))


class Greedy(PlusOne):
    """Wants more than there is."""

    def process(self, frames: OnGpu) -> OnGpu:
        return frames.with_data(self.device.empty((1 << 40,), "uint8", self.device.current))


class Shop:
    """Lanes one after the other on one device, in the test's own thread."""

    def __init__(self, out: Path, memory_bytes: int = 1 << 20) -> None:
        self.device = SimulatedDevice(memory_bytes=memory_bytes)
        self.out = out
        self.hosts: list[FakeHost] = []

    @contextmanager
    def scope(self, name: str, priority: int) -> Iterator[DeviceScope]:
        """As `Devices`, but a lane that is over waits for nothing: as if it still went on."""
        yield DeviceScope(self.device, self.device.stream(priority))

    def run(self, operator: Operator[Any], items: Sequence[Item], **sides: Frame) -> list[Item]:
        host = FakeHost(self.out)
        host.devices = self
        self.hosts.append(host)
        node = planned_node(device="cuda:0")
        inboxes = {"frames": FakeInbox(*items, closed=True)}
        inboxes |= {name: FakeInbox(value, closed=True) for name, value in sides.items()}
        inputs = make_inputs(node, type(operator).inputs, inboxes, "file")
        exits, stats = Exits(), NodeStats(node="node", worker="main", device="cuda:0")
        NodeLane(host, node, operator, inputs, exits.outlets, stats).run()
        self.stats = stats
        return exits.taken()


def frames_in(items: Sequence[Item]) -> list[Frame]:
    return [item for item in items if isinstance(item, Frame)]


def test_frames_go_up_through_and_down_in_order(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    up = shop.run(ToDevice(NoConfig()), [frame(0), frame(1), frame(2), end()])
    assert {item.caps.device for item in frames_in(up)} == {"cuda:0"}
    once = shop.run(PlusOne(NoConfig()), up)
    twice = shop.run(PlusOne(NoConfig()), once)
    assert all(isinstance(item.data, DeviceArray) for item in frames_in(twice))
    down = shop.run(ToHost(NoConfig()), twice)
    assert [item.data.tolist() for item in frames_in(down)] == [
        [[seq + 2] * 2] * 2 for seq in range(3)
    ]
    assert {item.caps.device for item in frames_in(down)} == {"cpu"}
    assert [host.failures + host.reports for host in shop.hosts] == [[]] * 4
    assert not any(item.data.flags.writeable for item in frames_in(down))


def test_each_lane_has_a_stream_and_the_next_one_gets_it(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    up = shop.run(ToDevice(NoConfig()), [frame(0), end()])
    shop.run(PlusOne(NoConfig()), up)
    launches = {entry.stream for entry in shop.device.trace if entry.what == "launch"}
    assert launches == {"stream1"}, "open, process, reset and close are all on the node's stream"


def test_what_a_latest_port_holds_is_waited_for(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    up = shop.run(ToDevice(NoConfig()), [frame(0), frame(1), end()])
    (side,) = frames_in(shop.run(ToDevice(NoConfig()), [frame(7), end()]))
    made = shop.run(Sum(NoConfig()), up, side=side)
    assert len(frames_in(made)) == 2
    assert shop.stats.quarantined == 0


def test_without_the_wait_the_device_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeviceScope, "admit", lambda self, data: None)
    shop = Shop(tmp_path)
    up = shop.run(ToDevice(NoConfig()), [frame(0), end()])
    shop.run(PlusOne(NoConfig()), up)
    assert shop.stats.quarantined == 1
    assert OrderingError.__name__ in str(shop.stats.error)


def test_a_device_that_is_full_is_told_and_a_live_node_tries_again(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    up = shop.run(ToDevice(NoConfig()), [frame(0), end()])
    shop.run(Greedy(NoConfig()), up)
    ((_, _, told),) = shop.hosts[-1].failures
    assert told.startswith("GPU_OUT_OF_MEMORY: cuda:0 has ")
    with pytest.raises(OperatorError) as caught:
        shop.device.empty((1 << 40,), "uint8", shop.device.stream(0))
    assert not caught.value.permanent


def test_pixels_on_a_gpu_are_not_asked_for_when_a_frame_is_bad(tmp_path: Path) -> None:
    class Broken(PlusOne):
        def process(self, frames: OnGpu) -> OnGpu:
            raise ValueError("no")

    shop = Shop(tmp_path)
    up = shop.run(ToDevice(NoConfig()), [frame(0), end()])
    shop.run(Broken(NoConfig()), up)
    kept = sorted(path.suffix for path in (tmp_path / "quarantine" / "node").iterdir())
    assert kept == [".json", ".txt"]
