"""The cache of engines: hits, damage, folders that cannot be used, eviction, two builders."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.device import engines
from engine.device import lock as lock_file
from engine.device.engine_file import MAGIC
from engine.device.engines import EngineCacheWarning, EngineStore, Held, digest_of
from engine.device.lock import Lock, remove_unheld
from tests.device.modules import key

PAYLOAD = bytes(range(256)) * 40
ROOT = Path(__file__).parents[2]


def never() -> bytes:
    raise AssertionError("a hit must not build")


def fetch(store: EngineStore, build: Callable[[], bytes] = lambda: PAYLOAD) -> Held:
    held = store.get(key(), "Tiny", build)
    assert bytes(held.payload) == PAYLOAD
    return held


def path_in(folder: Path) -> Path:
    return folder / f"{digest_of(key())}.engine"


def test_a_hit_never_builds(tmp_path: Path) -> None:
    first = fetch(EngineStore(tmp_path))
    second = fetch(EngineStore(tmp_path), never)
    assert (first.from_cache, second.from_cache) == (False, True)
    assert second.notes == []
    assert [path.name for path in tmp_path.iterdir()] == [path_in(tmp_path).name]


def test_the_file_tells_what_it_is(tmp_path: Path) -> None:
    fetch(EngineStore(tmp_path)).close()
    (entry,) = EngineStore(tmp_path).entries()
    assert entry.header is not None
    assert entry.header.key == key()
    assert (entry.header.label, entry.problem) == ("Tiny", "")
    assert entry.size_bytes == path_in(tmp_path).stat().st_size


def cut(length: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:length]


def flip(place: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[place] ^= 1
        return bytes(changed)

    return change


DAMAGE = {
    "empty": cut(0),
    "magic only": cut(8),
    "half a header": cut(100),
    "payload missing": cut(-len(PAYLOAD)),
    "last byte missing": cut(-1),
    "a byte too many": lambda data: data + b"\0",
    "magic": flip(0),
    "header length": flip(9),
    "header": flip(60),
    "payload": flip(-5),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_found_and_built_anew(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    fetch(EngineStore(tmp_path)).close()
    path = path_in(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    again = fetch(EngineStore(tmp_path))
    assert not again.from_cache
    (note,) = again.notes
    assert "was built again" in note
    assert fetch(EngineStore(tmp_path), never).notes == []


def test_an_engine_of_another_version_is_not_taken(tmp_path: Path) -> None:
    other = msgspec.structs.replace(key(), versions={"fake": "2"})
    EngineStore(tmp_path).get(other, "Tiny", lambda: b"other").close()
    (tmp_path / f"{digest_of(other)}.engine").rename(path_in(tmp_path))
    again = fetch(EngineStore(tmp_path))
    assert again.notes == [
        "the engine in the cache is of another version or machine: it was built again"
    ]


def test_a_header_of_another_version_is_damage(tmp_path: Path) -> None:
    header = b'{"other": 1}'
    digest = hashlib.sha256(header).digest()
    prefix = MAGIC + len(header).to_bytes(4, "little") + digest
    path_in(tmp_path).write_bytes(prefix + header + PAYLOAD)
    (entry,) = EngineStore(tmp_path).entries()
    assert "header of another version" in entry.problem
    assert "header of another version" in fetch(EngineStore(tmp_path)).notes[0]


def test_what_build_raises_comes_through_and_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        EngineStore(tmp_path).get(key(), "Tiny", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for _ in range(2):  # nothing is kept: built each time, and told each time
        with pytest.warns(EngineCacheWarning, match="cannot be kept"):
            held = fetch(EngineStore(file / "engines"))
        assert not held.from_cache
        (note,) = held.notes
        assert "cannot be kept" in note


def test_a_folder_that_is_a_file_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(EngineCacheWarning) as warned:
        (note,) = fetch(EngineStore(tmp_path / "file")).notes
    assert len(warned) == 1
    assert "Not a directory" in note


def test_a_read_only_folder_serves_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(EngineStore(tmp_path)).close()
    refuse_writing(monkeypatch)
    assert fetch(EngineStore(tmp_path), never).from_cache
    other = key(weights="other")
    with pytest.warns(EngineCacheWarning, match="Read-only file system; set FRAMELOOM_ENGINES"):
        held = EngineStore(tmp_path).get(other, "Tiny", lambda: b"built")
    assert bytes(held.payload) == b"built"
    assert len(held.notes) == 1


def refuse_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file system that is mounted read-only does, for root, too."""
    real = os.open

    def opened(path: Any, flags: int, *rest: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *rest)

    def utime(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(engines.os, "open", opened)
    monkeypatch.setattr(engines.os, "utime", utime)


def test_a_full_disk_costs_the_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(engines.os, "fsync", full)
        with pytest.warns(EngineCacheWarning, match="No space left on device; free some"):
            held = fetch(EngineStore(tmp_path))
    assert not held.from_cache
    assert "No space left" in held.notes[0]
    assert list(tmp_path.iterdir()) == []
    assert fetch(EngineStore(tmp_path)).notes == []  # there is room again
    assert fetch(EngineStore(tmp_path), never).from_cache


def store_three(folder: Path, max_bytes: int) -> list[Path]:
    """Three engines of 1 KiB, used in this order long ago."""
    paths = []
    for index in range(3):
        store = EngineStore(folder, max_bytes)
        one = key(weights=str(index))
        store.get(one, "Tiny", lambda: bytes(1024)).close()
        path = store.path_of(one)
        os.utime(path, (1000 + index, 1000 + index))
        paths.append(path)
    return paths


def test_the_longest_unused_goes_first(tmp_path: Path) -> None:
    first, second, third = store_three(tmp_path, 1 << 20)
    size = first.stat().st_size
    EngineStore(tmp_path).get(key(weights="0"), "Tiny", never).close()  # used again
    EngineStore(tmp_path, 3 * size + 10).get(key(weights="new"), "Tiny", lambda: bytes(1024))
    assert (first.exists(), second.exists(), third.exists()) == (True, False, True)


def test_what_is_held_is_never_evicted(tmp_path: Path) -> None:
    first, second, third = store_three(tmp_path, 1 << 20)
    held = EngineStore(tmp_path).get(key(weights="0"), "Tiny", never)
    os.utime(first, (1, 1))
    one = EngineStore(tmp_path, 10).get(key(weights="new"), "Tiny", lambda: bytes(1024))
    assert (first.exists(), second.exists(), third.exists()) == (True, False, False)
    assert not EngineStore(tmp_path).remove(first)
    held.close()
    held.close()
    assert EngineStore(tmp_path).remove(first)
    assert EngineStore(tmp_path).remove(first), "it is gone"
    one.close()


def test_what_dead_builders_left_is_swept_and_the_living_are_left_alone(tmp_path: Path) -> None:
    dead, alive = "a" * 64, "b" * 64
    left = [tmp_path / f"{dead}.lock", tmp_path / f"{dead}.1.tmp", tmp_path / f"{'c' * 64}.2.tmp"]
    for path in (*left, tmp_path / f"{alive}.3.tmp"):
        path.write_bytes(b"half")
    lock = Lock(tmp_path / f"{alive}.lock")
    assert EngineStore(tmp_path).sweep() == len(left)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".lock", ".tmp"]
    lock.release()
    fetch(EngineStore(tmp_path)).close()  # a build sweeps, too
    assert [path.name for path in tmp_path.iterdir()] == [path_in(tmp_path).name]


def test_a_file_that_took_the_place_of_another_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking, its holder deletes it, and the next one makes its own."""
    path, real = tmp_path / "x.lock", fcntl.flock
    path.write_bytes(b"old")

    def flock(descriptor: Any, operation: int) -> None:
        path.unlink()
        path.write_bytes(b"new")
        real(descriptor, operation)

    monkeypatch.setattr(lock_file.fcntl, "flock", flock)
    assert not remove_unheld(path)
    assert path.read_bytes() == b"new"


@pytest.mark.slow
def test_a_killed_builder_leaves_nothing_for_long(tmp_path: Path) -> None:
    command = [sys.executable, "-c", BUILDER, str(tmp_path / "engines"), str(tmp_path / "log")]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["starts\n", "building\n"]
        process.kill()
    assert [path.suffix for path in (tmp_path / "engines").iterdir()] == [".lock"]
    assert EngineStore(tmp_path / "engines").sweep() == 1
    assert list((tmp_path / "engines").iterdir()) == []


def test_the_second_builder_waits_and_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is held inside `build` until the second stands in front of its lock."""
    building, waiting = threading.Event(), threading.Event()
    real = fcntl.flock

    def flock(descriptor: Any, operation: int) -> None:
        if operation == fcntl.LOCK_EX and threading.current_thread() is threading.main_thread():
            waiting.set()
        real(descriptor, operation)

    def build() -> bytes:
        building.set()
        assert waiting.wait(10)
        return PAYLOAD

    monkeypatch.setattr(engines.fcntl, "flock", flock)
    first = threading.Thread(target=lambda: fetch(EngineStore(tmp_path), build).close())
    first.start()
    assert building.wait(10)
    second = fetch(EngineStore(tmp_path), never)
    first.join()
    assert second.from_cache
    assert "for another process to build it" in second.notes[0]
    second.close()
    assert [path.name for path in tmp_path.iterdir()] == [path_in(tmp_path).name]


BUILDER = """
import sys
from pathlib import Path
from engine.device.engine_file import MAGIC
from engine.device.engines import EngineStore
from engine.device.lock import Lock, remove_unheld
from tests.device.modules import key

def build():
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    print("building", flush=True)
    sys.stdin.readline()
    return b"engine"

print("starts", flush=True)
held = EngineStore(Path(sys.argv[1])).get(key(), "Tiny", build)
print(bytes(held.payload).decode(), held.from_cache, flush=True)
"""


@pytest.mark.slow
def test_two_processes_build_once(tmp_path: Path) -> None:
    log, folder = tmp_path / "log", tmp_path / "engines"
    command = [sys.executable, "-c", BUILDER, str(folder), str(log)]
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:  # whichever builds: it goes on when both have been started
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outs = [process.communicate(timeout=50)[0].split("\n") for process in processes]
    assert log.read_text() == "built\n"
    ends = sorted(out[-2] for out in outs)
    assert ends == ["engine False", "engine True"]


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FRAMELOOM_ENGINES", str(tmp_path / "mine"))
    assert EngineStore().folder == tmp_path / "mine"
    monkeypatch.delenv("FRAMELOOM_ENGINES")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EngineStore().folder == tmp_path / "frameloom" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert EngineStore().folder == Path.home() / ".cache" / "frameloom" / "engines"


@pytest.mark.slow
def test_nothing_heavy_is_imported() -> None:
    code = (
        "import engine.device, engine.device.engines, engine.device.report, engine.device.networks,"
        "engine.device.backends, engine.commands.engines, sys; "
        "assert not {'torch', 'onnx', 'onnxruntime', 'openvino'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
