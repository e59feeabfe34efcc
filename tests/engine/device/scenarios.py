"""What the device layer is for, played on a simulated device. `lib` has its classes by name."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np

from engine.caps import Caps
from engine.device.simulated import SimulatedArray, SimulatedDevice
from engine.frame import Frame
from engine.timing import Stamp

Scenario = Callable[[SimpleNamespace], None]
SHAPE = (4, 6)
ON_GPU = Caps(media="video", dtype="float32", device="cuda:0")


def picture(value: float, rows: int = SHAPE[0]) -> np.ndarray[Any, Any]:
    return np.full((rows, SHAPE[1]), value, np.float32)


def doubled(device: SimulatedDevice, given: SimulatedArray) -> SimulatedArray:
    """A kernel that doubles, on the current stream."""
    assert device.current is not None
    made = device.empty(given.shape, "float32", device.current)

    def run() -> None:
        made.values[...] = 2 * given.values

    device.launch(run, reads=[given], writes=[made])
    return made


def frame_of(data: Any, seq: int) -> Frame:
    return Frame(data, ON_GPU, Stamp("cam", seq, Fraction(1, 30), 0, seq))


def fetched(scope: Any, rim: Any, frame: Frame) -> np.ndarray[Any, Any]:
    """The frame on the host."""
    values: np.ndarray[Any, Any] = scope.call(
        lambda: rim.download(frame.data, scope.stream, "float32"), [frame]
    )
    return values


def nodes_in_a_row(lib: SimpleNamespace) -> None:
    """Upload on one stream, a node on another, a third; memory goes back and is used again."""
    device = SimulatedDevice()
    entry, first, second = (lib.DeviceScope(device, device.stream(0)) for _ in range(3))
    ring, rim = lib.StagingRing(device, 2), lib.StagingRing(device, 2)
    for seq in range(4):
        sent = frame_of(ring.upload(picture(seq), entry.stream), seq)
        once = first.call(lambda f=sent: f.with_data(doubled(device, f.data.array)), [sent])
        both = second.call(lambda f=once: [f, f.with_data(doubled(device, f.data.array))], [once])
        assert both[0] is once
        del sent, once
        seen = fetched(second, rim, both[1])
        assert np.array_equal(seen, picture(4.0 * seq))
        del both, seen


def latest_value(lib: SimpleNamespace) -> None:
    """A value made on another stream is read again and again, and by two nodes."""
    device = SimulatedDevice()
    maker, *readers = (lib.DeviceScope(device, device.stream(0)) for _ in range(3))
    ring = lib.StagingRing(device)
    for seq in range(3):
        kept = frame_of(ring.upload(picture(seq), maker.stream), seq)
        for reader in readers:
            for _ in range(2):
                reader.call(lambda f=kept: f.with_data(doubled(device, f.data.array)), [kept])
        del kept  # its memory goes to the next upload, while readers may still be at work


def staging_is_reused(lib: SimpleNamespace) -> None:
    """More uploads than slots, sizes that grow, downloads held by their readers."""
    device = SimulatedDevice()
    scope = lib.DeviceScope(device, device.stream(0))
    ring, rim = lib.StagingRing(device, 2), lib.StagingRing(device, 2)
    held = []
    for seq in range(7):
        image = picture(seq, rows=4 + seq // 3)
        data = ring.upload(image, scope.stream)
        image.fill(-1)
        held.append(rim.download(data, scope.stream, "float32"))
        if seq % 2:
            del held[0]
    assert [array[0, 0] for array in held] == [3, 4, 5, 6]


def uploads_without_a_pause(lib: SimpleNamespace) -> None:
    """The host never waits for a result: the ring alone keeps it from overwriting what travels."""
    device = SimulatedDevice()
    stream = device.stream(0)
    ring = lib.StagingRing(device, 2)
    sent = [ring.upload(picture(seq), stream) for seq in range(6)]
    assert len(device.host_blocks) == 2, "slots are used again"
    device.synchronize()
    assert [data.array.values[0, 0] for data in sent] == [0, 1, 2, 3, 4, 5]


def graphs_by_batch(lib: SimpleNamespace) -> None:
    """Captured graphs: padding, batches beyond the largest, results that outlive the next call."""
    device = SimulatedDevice()
    source, node, reader = (lib.DeviceScope(device, device.stream(0)) for _ in range(3))
    ring, rim = lib.StagingRing(device), lib.StagingRing(device)
    graphs = lib.BatchGraphs(
        device, node.stream, lambda given: (doubled(device, given),), (SHAPE[1:], "float32"), (2, 4)
    )
    for count in (1, 3, 4, 9, 2):
        sent = frame_of(ring.upload(picture(count, rows=count), source.stream), count)
        made = node.call(lambda f=sent: f.with_data(graphs(f.data.array)[0]), [sent])
        again = node.call(lambda f=sent: f.with_data(graphs(f.data.array)[0]), [sent])
        for frame in (made, again):
            got = reader.call(
                lambda f=frame: rim.download(f.data, reader.stream, "float32"), [frame]
            )
            assert np.array_equal(got, 2 * picture(count, rows=count))


def graph_after_clear(lib: SimpleNamespace) -> None:
    """The run ahead of capturing reads memory that has been written."""
    device = SimulatedDevice()
    stream = device.stream(0)
    lib.BatchGraphs(
        device, stream, lambda given: (doubled(device, given),), ((3,), "float32"), (1,)
    )
    assert [entry.what for entry in device.trace].count("capture") == 1


def streams_come_back(lib: SimpleNamespace) -> None:
    """A node that closes leaves nothing under way: what it owned on the host may be written."""
    device = SimulatedDevice()
    pool = lib.StreamPool(device)
    for value in range(3):
        with pool.lend(-1) as stream:
            memory = device.pinned(8)
            target = device.empty((8,), "uint8", stream)
            device.upload(memory, target, stream)
        device.host_writes(memory)
        memory[:] = value
    assert pool.made == 1


def frames_for_another_process(lib: SimpleNamespace) -> None:
    """Slots written, read by two nodes over there, kept in a view, given back, written again."""
    device = SimulatedDevice()
    sender = lib.DeviceScope(device, device.stream(0))
    readers = [lib.DeviceScope(device, device.stream(0)) for _ in range(2)]
    ring, rim = lib.StagingRing(device), lib.StagingRing(device)
    writer = lib.SlabWriter(device, device.stream(0), 2, picture(0).nbytes)
    slots = [lib.SlabReader(device, writer.exported(slot)) for slot in range(2)]
    free = [0, 1]
    for seq in range(6):
        slot = free.pop(0)
        sent = frame_of(ring.upload(picture(seq), sender.stream), seq)
        writer.write(slot, sent.data)
        del sent  # its memory is used again by the next upload
        data = slots[slot].array(SHAPE, "float32", lambda s=slot: free.append(s))
        got = frame_of(data, seq)
        for reader in readers:
            made = reader.call(lambda f=got: f.with_data(doubled(device, f.data.array)), [got])
            assert np.array_equal(fetched(reader, rim, made), picture(2.0 * seq))
        part = data.array[1:]
        del data, got, made
        assert slot not in free, "a view of the slot is still there"
        del part
        assert slot in free
    forwarded = slots[0].array(SHAPE, "float32", lambda: None)
    writer.write(1, forwarded)  # on to a third process, from a slot to a slot
    device.synchronize()
    del forwarded
    writer.close()
    assert device.used_bytes < 10 * picture(0).nbytes


def slots_without_a_pause(lib: SimpleNamespace) -> None:
    """As above, and the host never waits: only the events of the slots order anything."""
    device = SimulatedDevice()
    sender = lib.DeviceScope(device, device.stream(0))
    readers = [lib.DeviceScope(device, device.stream(0)) for _ in range(2)]
    ring = lib.StagingRing(device, 8)
    writer = lib.SlabWriter(device, device.stream(0), 1, picture(0).nbytes)
    onward = lib.SlabWriter(device, device.stream(0), 1, picture(0).nbytes)
    slot = lib.SlabReader(device, writer.exported(0))
    released = []
    for seq in range(6):
        writer.write(0, ring.upload(picture(seq), sender.stream))
        got = frame_of(slot.array(SHAPE, "float32", lambda s=seq: released.append(s)), seq)
        users = readers[:: 1 if seq % 2 else -1]
        for reader in users[: 1 + seq % 2]:
            reader.call(lambda f=got: f.with_data(doubled(device, f.data.array)), [got])
        if seq == 3:
            onward.write(0, got.data)  # to a third process
        del got
        assert released == list(range(seq + 1))


def made_and_sent_on(lib: SimpleNamespace) -> None:
    """What a slab copies from goes back to its allocator while the copy may still run."""
    device = SimulatedDevice()
    node = lib.DeviceScope(device, device.stream(0))
    writer = lib.SlabWriter(device, device.stream(0), 8, picture(0).nbytes)
    for slot in range(4):
        given = device.empty(SHAPE, "float32", node.stream)
        device.clear(given, node.stream)
        made = node.call(lambda g=given, s=slot: frame_of(doubled(device, g), s), [])
        del given
        writer.write(slot, made.data)
        del made


def slab_closes_behind_its_last_copy(lib: SimpleNamespace) -> None:
    device = SimulatedDevice()
    sender = lib.DeviceScope(device, device.stream(0))
    writer = lib.SlabWriter(device, device.stream(0), 1, picture(0).nbytes)
    writer.write(0, lib.StagingRing(device).upload(picture(1), sender.stream))
    writer.close()


def slab_closes_behind_its_last_reader(lib: SimpleNamespace) -> None:
    device = SimulatedDevice()
    sender, reader = (lib.DeviceScope(device, device.stream(0)) for _ in range(2))
    writer = lib.SlabWriter(device, device.stream(0), 1, picture(0).nbytes)
    slot = lib.SlabReader(device, writer.exported(0))
    writer.write(0, lib.StagingRing(device).upload(picture(1), sender.stream))
    got = frame_of(slot.array(SHAPE, "float32", lambda: None), 0)
    reader.call(lambda f=got: f.with_data(doubled(device, f.data.array)), [got])
    del got
    writer.close()


SCENARIOS: tuple[Scenario, ...] = (
    nodes_in_a_row,
    latest_value,
    staging_is_reused,
    uploads_without_a_pause,
    graphs_by_batch,
    graph_after_clear,
    streams_come_back,
    frames_for_another_process,
    slots_without_a_pause,
    made_and_sent_on,
    slab_closes_behind_its_last_copy,
    slab_closes_behind_its_last_reader,
)
