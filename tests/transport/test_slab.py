"""Shared memory for pixels: leases, arrays without copies, and nothing left in /dev/shm."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from engine.errors import TransportError
from engine.transport import slab as slabs
from engine.transport.sender import SHM_RETRY_NS, SPARE_SLOTS
from engine.transport.slab import FOLDER, PAGE, Slab, SlabView, start_time, sweep_stale_slabs
from engine.transport.wire import SLAB_NAME
from tests.contract.ends import Link, eventually, frame

PIXELS = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
Open = Callable[..., Link]


@pytest.fixture
def slab() -> Iterator[Slab]:
    made = Slab(slots=3, slot_bytes=100)
    yield made
    made.unlink()


@pytest.fixture
def open_link(tmp_path: Path) -> Iterator[Open]:
    """Makes an ipc link that is joined."""
    links: list[Link] = []

    def make(**fields: object) -> Link:
        links.append(Link("ipc", tmp_path, **fields))
        return links[-1].join()

    yield make
    for link in links:
        link.close()


def nothing() -> None:
    """Nobody waits for this slot."""


def own_slabs() -> list[str]:
    return sorted(path.name for path in FOLDER.glob(f"frameloom-{os.getpid()}-*"))


def view_of(slab: Slab, released: Callable[[], None] = nothing) -> np.ndarray:
    """The pixels of slot 0 as a reader sees them."""
    return SlabView(slab.name).array(slab.offset(0), "float32", PIXELS.shape, released)


# ---- leases


def test_every_slot_is_leased_once(slab: Slab) -> None:
    leases = [slab.lease() for _ in range(3)]

    assert {slot for slot, _ in leases if slot is not None} == {0, 1, 2}
    assert slab.lease() is None
    assert not slab.idle


def test_a_released_slot_comes_again_under_a_new_generation(slab: Slab) -> None:
    leases = [slab.lease() for _ in range(3)]
    slot, generation = leases[1]

    assert slab.release(slot, generation)

    assert slab.lease() == (slot, generation + 1)


def test_only_the_lease_that_holds_a_slot_frees_it(slab: Slab) -> None:
    slot, generation = slab.lease()

    assert not slab.release(slot, generation + 1)
    assert not slab.release(slot + 1, generation)
    assert not slab.release(-1, generation)
    assert slab.release(slot, generation)
    assert not slab.release(slot, generation), "a second time"
    assert slab.idle


def test_reclaiming_frees_all_leases_and_makes_them_worthless(slab: Slab) -> None:
    old = [slab.lease(), slab.lease()]
    view = SlabView(slab.name)
    assert [view.generation(slot) for slot, _ in old] == [generation for _, generation in old]

    assert slab.reclaim() == 2

    assert slab.idle
    assert all(view.generation(slot) != generation for slot, generation in old)
    assert not any(slab.release(*lease) for lease in old)
    assert len({slab.lease() for _ in range(3)}) == 3


def test_slots_do_not_overlap_and_lie_on_pages(slab: Slab) -> None:
    offsets = [slab.offset(slot) for slot in range(3)]

    assert [offset % PAGE for offset in offsets] == [0, 0, 0]
    assert np.diff(offsets).tolist() == [slab.slot_bytes] * 2
    assert slab.slot_bytes == PAGE
    assert offsets[0] >= 3 * slabs.GENERATION_BYTES, "the generations lie in front"


# ---- arrays


def test_a_reader_sees_the_pixels_themselves(slab: Slab) -> None:
    slab.lease()
    array = view_of(slab)

    slab.write(0, PIXELS)

    np.testing.assert_array_equal(array, PIXELS)
    assert not array.flags.owndata
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


def test_a_slot_is_released_when_its_last_view_is_gone(slab: Slab) -> None:
    released: list[bool] = []
    array = view_of(slab, lambda: released.append(True))
    corner = array[0, :1].view()

    del array
    assert released == []

    del corner
    assert released == [True]


def test_arrays_outlive_the_name_and_the_view(slab: Slab) -> None:
    slab.lease()
    slab.write(0, PIXELS)
    array = view_of(slab)

    slab.unlink()

    np.testing.assert_array_equal(array, PIXELS)
    with pytest.raises(TransportError, match="cannot be opened"):
        SlabView(slab.name)


@pytest.mark.parametrize("offset", [-4, 1 << 20, 1 << 62])
def test_no_array_outside_the_slab(slab: Slab, offset: int) -> None:
    with pytest.raises(TransportError, match="outside"):
        SlabView(slab.name).array(offset, "float32", PIXELS.shape, nothing)


@pytest.mark.parametrize("slot", [-1, 1 << 20, 1 << 62])
def test_no_generation_outside_the_slab(slab: Slab, slot: int) -> None:
    with pytest.raises(TransportError, match="outside"):
        SlabView(slab.name).generation(slot)


def test_a_slab_that_is_a_link_to_elsewhere_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "other"
    target.write_bytes(bytes(PAGE))
    name = f"frameloom-{os.getpid()}-{start_time(os.getpid())}-999999"
    (FOLDER / name).symlink_to(target)
    try:
        with pytest.raises(TransportError, match="cannot be opened"):
            SlabView(name)
    finally:
        (FOLDER / name).unlink()


# ---- files


def test_a_slab_is_named_after_its_owner_and_private(slab: Slab) -> None:
    mode = (FOLDER / slab.name).stat().st_mode

    assert SLAB_NAME.fullmatch(slab.name)
    assert slab.name.split("-")[1:3] == [str(os.getpid()), str(start_time(os.getpid()))]
    assert stat.S_IMODE(mode) == 0o600


def test_unlinking_twice_is_no_error(slab: Slab) -> None:
    slab.unlink()
    slab.unlink()

    assert own_slabs() == []


def test_sweeping_removes_what_dead_owners_left(slab: Slab) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as owner:
        started = start_time(owner.pid)
        owner.communicate(b"\n")
    dead = FOLDER / f"frameloom-{owner.pid}-{started}-0"
    reused = FOLDER / f"frameloom-{os.getpid()}-{start_time(os.getpid()) + 1}-0"
    foreign = FOLDER / "frameloom-of-somebody-else"
    for path in (dead, reused, foreign):
        path.touch()
    try:
        swept = sweep_stale_slabs()

        assert {dead.name, reused.name} <= set(swept)
        assert not dead.exists()
        assert not reused.exists()
        assert foreign.exists()
        assert (FOLDER / slab.name).exists(), "its owner lives"
    finally:
        for path in (dead, reused, foreign):
            path.unlink(missing_ok=True)


def test_a_full_memory_is_told_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabs, "os", full_shm())

    with pytest.raises(TransportError, match=r"no room for a slab of 3 MiB.*shm-size"):
        Slab(slots=3, slot_bytes=1 << 20)

    assert own_slabs() == [], "nothing half-made stays"


# ---- on an ipc link


def test_frames_lie_in_shared_memory(open_link: Open) -> None:
    link = open_link()
    link.put(frame(3))
    data = link.take_frame().data

    address = data.__array_interface__["data"][0]

    assert own_slabs()[0] in mapping_at(address)
    assert link.settled().slab_misses == 0


def test_a_slot_is_not_used_again_while_any_view_lives(open_link: Open) -> None:
    link = open_link(window=1)
    link.put(frame(1))
    held = link.take_frame().data[2:4, 1:]

    for seq in range(2, 60):
        link.put(frame(seq))
        link.take_frame()

    assert (held == 1).all()
    assert link.settled().slab_misses == 0


def test_a_consumer_that_holds_everything_gets_copies(open_link: Open) -> None:
    link = open_link(window=1)
    held = []
    for seq in range(2 * SPARE_SLOTS):
        link.put(frame(seq))
        held.append(link.take_frame())

    assert [int(item.data[0, 0]) for item in held] == list(range(2 * SPARE_SLOTS))
    slots = 1 + SPARE_SLOTS
    assert link.settled().slab_misses == 2 * SPARE_SLOTS - slots


def test_larger_frames_get_a_new_slab_and_the_old_one_goes_when_idle(open_link: Open) -> None:
    link = open_link(window=1)
    link.put(frame(0))
    small = link.take_frame()
    assert len(own_slabs()) == 1

    link.put(frame(1, size_px=200))
    assert link.take_frame().data.shape == (200, 200)
    link.settled()
    assert len(own_slabs()) == 2, "the old one is still read"

    assert (small.data == 0).all()
    del small
    eventually(lambda: len(own_slabs()) == 1)


def test_without_shared_memory_frames_are_copied_and_it_is_told(
    open_link: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = open_link(queue=8)
    with monkeypatch.context() as full:
        full.setattr(slabs, "os", full_shm())
        link.put(frame(0), frame(1))
        assert [link.take_frame().stamp.seq for _ in range(2)] == [0, 1]
    stats = link.settled()
    assert stats.slab_misses == 2
    assert "no room for a slab" in str(link.outbox.slab_error)

    link.put(frame(2))
    link.take_frame()
    assert link.settled().slab_misses == 3, "it is not tried again at once"
    link.clock.advance(SHM_RETRY_NS)
    link.put(frame(3))
    link.take_frame()
    assert link.settled().slab_misses == 3


def full_shm() -> SimpleNamespace:
    """The module `os` of a machine without room in /dev/shm."""

    def fallocate(descriptor: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    return SimpleNamespace(**{**vars(os), "posix_fallocate": fallocate})


def mapping_at(address: int) -> str:
    """The line of this process's memory map that holds an address."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(text, 16) for text in line.split()[0].split("-"))
        if first <= address < last:
            return line
    raise LookupError(address)
