"""Shared memory for pixels: leases, generations, views, a full /dev/shm, and what others left."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engine.errors import TransportError
from engine.transport import slab as module
from engine.transport.owner import start_time
from engine.transport.slab import FOLDER, Slab, SlabView, sweep_stale_slabs

BYTES = 1000


@pytest.fixture
def slab() -> Iterator[Slab]:
    made = Slab(3, BYTES)
    yield made
    made.unlink()


def leased(slab: Slab) -> tuple[int, int]:
    lease = slab.lease()
    assert lease is not None
    return lease


def test_every_slot_is_leased_once_and_comes_back(slab: Slab) -> None:
    leases = [leased(slab) for _ in range(3)]
    assert {slot for slot, _ in leases} == {0, 1, 2}
    assert slab.lease() is None
    assert slab.release(*leases[1])
    assert not slab.release(*leases[1])  # twice
    slot, generation = leased(slab)
    assert slot == leases[1][0]
    assert generation > leases[1][1]
    assert not slab.release(slot, leases[1][1])  # the lease before this one
    assert not slab.idle


def test_what_is_written_is_what_readers_see(slab: Slab) -> None:
    view = SlabView(slab.name)
    arrays = [np.arange(12, dtype=np.float32).reshape(3, 4), np.full((5, 7, 2), 200, np.uint8)]
    for array in arrays:
        slot, generation = leased(slab)
        slab.write(slot, array)
        seen = view.array(slab.offset(slot), str(array.dtype), array.shape, lambda: None)
        assert np.array_equal(seen, array)
        assert not seen.flags.writeable
        assert view.generation(slot) == generation


def test_slots_do_not_touch(slab: Slab) -> None:
    view = SlabView(slab.name)
    slots = [leased(slab)[0] for _ in range(3)]
    for slot in slots:
        slab.write(slot, np.full(BYTES, slot + 1, np.uint8))
    for slot in slots:
        seen = view.array(slab.offset(slot), "uint8", (BYTES,), lambda: None)
        assert (seen == slot + 1).all()


def test_a_lease_ends_with_the_last_view(slab: Slab) -> None:
    released: list[bool] = []
    view = SlabView(slab.name)
    array = view.array(slab.offset(0), "uint8", (10, 10), lambda: released.append(True))
    part = array[2:, ::3].T
    del array, view  # the mapping lives as long as arrays on it
    assert part.shape == (4, 8)
    assert released == []
    del part
    assert released == [True]


def test_reclaimed_leases_are_seen_by_readers_and_free(slab: Slab) -> None:
    view = SlabView(slab.name)
    slot, generation = leased(slab)
    leased(slab)
    assert slab.reclaim() == 2
    assert view.generation(slot) == generation + 1
    assert slab.idle
    assert len({leased(slab)[0] for _ in range(3)}) == 3
    assert not slab.release(slot, generation)


def test_a_view_stays_inside_its_slab(slab: Slab) -> None:
    view = SlabView(slab.name)
    end = slab.offset(2) + slab.slot_bytes
    view.array(end - 8, "uint8", (8,), lambda: None)
    for offset, shape in ((end - 8, (9,)), (-1, (1,)), (0, (end + 1,))):
        with pytest.raises(TransportError, match="outside"):
            view.array(offset, "uint8", shape, lambda: None)
    for slot in (-1, 2**40):
        with pytest.raises(TransportError, match="outside"):
            view.generation(slot)


def test_only_the_owner_may_look(slab: Slab) -> None:
    assert stat.S_IMODE((FOLDER / slab.name).stat().st_mode) == 0o600
    assert slab.name.startswith(f"frameloom-{os.getpid()}-{start_time(os.getpid())}-")


def test_an_unlinked_slab_lives_until_its_readers_are_done(slab: Slab) -> None:
    view = SlabView(slab.name)
    slab.write(0, np.full(BYTES, 7, np.uint8))
    slab.unlink()
    slab.unlink()
    assert not (FOLDER / slab.name).exists()
    assert (view.array(slab.offset(0), "uint8", (BYTES,), lambda: None) == 7).all()
    with pytest.raises(TransportError, match="cannot be opened"):
        SlabView(slab.name)


def test_full_shared_memory_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "posix_fallocate", full)
    before = set(FOLDER.glob("frameloom-*"))
    with pytest.raises(TransportError, match=r"5 MiB.*No space left.*--shm-size"):
        Slab(5, 1 << 20)
    assert set(FOLDER.glob("frameloom-*")) == before


def test_pages_are_there_before_anything_is_written() -> None:
    made = Slab(2, 1 << 20)
    try:
        assert (FOLDER / made.name).stat().st_blocks * 512 >= 2 << 20
    finally:
        made.unlink()


def test_slabs_of_processes_that_are_gone_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = start_time(child.pid)
    names = {
        "alive": f"frameloom-{child.pid}-{started}-0",
        "same pid, another process": f"frameloom-{child.pid}-{started + 1}-0",
        "ours": f"frameloom-{os.getpid()}-{start_time(os.getpid())}-9",
        "no slab": "frameloom-notes-of-somebody-else",
        "too short": "frameloom-1-2",
    }
    for name in names.values():
        (tmp_path / name).write_bytes(b"")
    assert sweep_stale_slabs() == [names["same pid, another process"]]
    child.communicate(b"\n")
    assert sweep_stale_slabs() == [names["alive"]]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {names["ours"], names["no slab"], names["too short"]}
