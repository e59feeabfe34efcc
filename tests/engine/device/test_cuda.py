"""The device interface on a real GPU: what the simulated device promises, CUDA keeps."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from engine.caps import Caps
from engine.device.array import DeviceArray
from engine.device.graphs import BatchGraphs
from engine.device.ipc import SlabWriter
from engine.device.opening import Devices, open_device
from engine.device.scope import DeviceScope
from engine.device.staging import StagingRing
from engine.errors import OperatorError
from engine.frame import Frame
from engine.timing import Stamp

pytestmark = [pytest.mark.needs_cuda, pytest.mark.slow]
ON_GPU = Caps(media="video", dtype="float32", device="cuda:0")
SIDE = 2048


@pytest.fixture(scope="module")
def device() -> Any:
    return open_device("cuda:0")


@pytest.fixture
def scopes(device: Any) -> Iterator[list[DeviceScope]]:
    yield [DeviceScope(device, device.stream(0)) for _ in range(3)]
    device.synchronize()


def frame_of(data: Any) -> Frame:
    return Frame(data, ON_GPU, Stamp("cam", 0, Fraction(1, 30), 0, 0))


def slowly_plus_one(array: Any) -> Any:
    """A kernel behind others that take long: who does not wait reads something else."""
    import torch

    busy = torch.ones(SIDE, SIDE, device=array.device)
    for _ in range(30):
        busy = busy @ busy * 1e-4
    return array + 1 + 0 * busy[0, 0]


def test_a_consumer_on_another_stream_sees_what_the_producer_made(
    device: Any, scopes: list[DeviceScope]
) -> None:
    entry, first, second = scopes
    ring, rim = StagingRing(device), StagingRing(device)
    for seq in range(10):
        image = np.full((64, 64), seq, np.float32)
        sent = frame_of(ring.upload(image, entry.stream))
        image.fill(-1)  # the ring has its own copy
        once = first.call(lambda f=sent: f.with_data(slowly_plus_one(f.data.array)), [sent])
        assert isinstance(once.data, DeviceArray)
        twice = second.call(lambda f=once: f.with_data(f.data.array * 2), [once])
        del sent, once  # their memory may be used again, but not before `second` is done
        got = second.call(lambda f=twice: rim.download(f.data, second.stream, "float32"), [twice])
        assert np.array_equal(got, np.full((64, 64), 2 * (seq + 1), np.float32))
        assert not got.flags.writeable


def test_the_host_does_not_wait_for_work(device: Any, scopes: list[DeviceScope]) -> None:
    entry, first, _ = scopes
    sent = frame_of(StagingRing(device).upload(np.ones((8, 8), np.float32), entry.stream))
    made = first.call(lambda: sent.with_data(slowly_plus_one(sent.data.array)), [sent])
    assert not made.data.ready.done(), "the call came back while the device still works"
    made.data.ready.wait_host()
    assert made.data.ready.done()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_graphs_give_what_single_launches_give(
    device: Any, scopes: list[DeviceScope], count: int
) -> None:
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.Linear(8 * 16 * 16, 5),
    ).cuda().eval()  # fmt: skip
    node = scopes[0]
    with torch.inference_mode():
        graphs = BatchGraphs(
            device, node.stream, lambda x: (net(x),), ((3, 16, 16), "float32"), (2, 4)
        )
        batch = torch.randn(count, 3, 16, 16, device="cuda")
        torch.cuda.synchronize()
        with node.stream.use():
            (replayed,) = graphs(batch)
            graphs(torch.zeros_like(batch))  # the next call leaves results alone
            eager = net(batch)
        device.synchronize()
    assert replayed.shape == (count, 5)
    assert torch.allclose(replayed, eager, atol=1e-4)


def test_streams_have_their_priority(device: Any) -> None:
    assert device.stream(-1).raw.priority == -1
    assert device.stream(0).raw.priority == 0
    assert device.stream(0).handle != device.stream(0).handle


def test_memory_that_is_not_there_is_an_error_that_says_how_much_is(device: Any) -> None:
    with pytest.raises(OperatorError) as caught:
        device.empty((1 << 46,), "uint8", device.stream(0))
    assert caught.value.code == "GPU_OUT_OF_MEMORY"
    assert not caught.value.permanent
    assert "cuda:0 has" in caught.value.message


def test_memory_runs_out_inside_of_an_operator(device: Any, scopes: list[DeviceScope]) -> None:
    import torch

    with pytest.raises(OperatorError, match="GPU_OUT_OF_MEMORY"):
        scopes[0].call(lambda: torch.empty(1 << 46, dtype=torch.uint8, device="cuda"), [])


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(RuntimeError, match="cuda:99 was asked for; there is cuda:0"):
        open_device("cuda:99")


READER = """
import sys
import msgspec
from engine.device.ipc import Exported, SlabReader
from engine.device.opening import open_device
device = open_device("cuda:0")
exported = msgspec.msgpack.decode(bytes.fromhex(sys.stdin.readline()), type=Exported)
reader, stream = SlabReader(device, exported), device.stream(0)
for line in sys.stdin:
    gone = []
    data = reader.array((1 << 20,), "uint8", lambda: gone.append(1))
    stream.wait(data.ready)
    data.lease.use(stream)
    with stream.use():
        seen = set(data.array.cpu().tolist())
    del data
    assert gone, "the view is gone, so the slot is free"
    print(*seen, flush=True)
"""


def test_another_process_reads_a_slot_again_and_again(device: Any) -> None:
    import msgspec
    import torch

    scope = DeviceScope(device, device.stream(0))
    writer = SlabWriter(device, device.stream(0), 1, 1 << 20)
    reader = subprocess.Popen(
        [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write(msgspec.msgpack.encode(writer.exported(0)).hex() + "\n")
        for value in range(5):
            made = scope.call(
                lambda v=value: frame_of(
                    torch.full((1 << 20,), v, dtype=torch.uint8, device="cuda")
                ),
                [],
            )
            writer.write(0, made.data)
            del made
            reader.stdin.write("next\n")
            reader.stdin.flush()
            assert reader.stdout.readline().strip() == str(value)
    finally:
        reader.communicate(timeout=30)
    assert reader.returncode == 0
    writer.close()


def test_what_no_driver_opened_is_refused(device: Any) -> None:
    from engine.errors import DeviceError

    with pytest.raises(DeviceError, match="cuIpcOpenMemHandle"):
        device.open_memory(bytes(64))


def test_scopes_of_one_process_share_the_device() -> None:
    devices = Devices()
    with devices.scope("cuda:0", -1) as one, devices.scope("cuda:0", -1) as other:
        assert one.device is other.device
        assert one.stream.handle != other.stream.handle


BREAK_IT = """
import torch
from engine.device.opening import open_device
from engine.device.scope import DeviceScope
from engine.errors import DeviceLostError
device = open_device("cuda:0")
scope = DeviceScope(device, device.stream(0))
def outside():
    torch.zeros(4, device="cuda")[torch.tensor([9], device="cuda")].cpu()
try:
    scope.call(lambda: torch.zeros(2, device="cuda") @ torch.zeros(3, device="cuda"), [])
except DeviceLostError:
    raise SystemExit("a mistake of the caller is no loss")
except RuntimeError:
    print("a mistake is a mistake")
try:
    scope.call(outside, [])
except DeviceLostError as error:
    print("lost:", error)
"""


def test_a_broken_context_is_told_from_a_mistake() -> None:
    """In a process of its own, which can use the GPU no more afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", BREAK_IT], capture_output=True, text=True, check=False, timeout=120
    )
    assert "a mistake is a mistake" in done.stdout, done.stderr
    assert "lost: cuda:0 is lost" in done.stdout, done.stderr
