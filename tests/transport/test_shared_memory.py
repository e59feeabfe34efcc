"""Shared memory under an ipc link: no copies, no slot too early, and what if there is none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.errors import TransportError
from engine.transport import slab as slabs
from engine.transport.owner import start_time
from engine.transport.sender import SHM_RETRY_NS, SPARE_SLOTS
from engine.transport.slab import FOLDER, PAGE, Slab, SlabView
from tests.contract.ends import Link, eventually, frame

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


def test_only_the_lease_that_holds_a_slot_frees_it(slab: Slab) -> None:
    slot, generation = slab.lease()

    assert not slab.release(slot, generation + 1)
    assert not slab.release(slot + 1, generation)
    assert not slab.release(-1, generation)
    assert slab.release(slot, generation)
    assert not slab.release(slot, generation), "a second time"
    assert slab.idle


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


def test_unlinking_twice_is_no_error(slab: Slab) -> None:
    slab.unlink()
    slab.unlink()

    assert own_slabs() == []


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
