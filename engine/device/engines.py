"""Built engines on disk: found by what they depend on, checked, locked, evicted by last use.

One file per engine, `<SHA-256 of its key>.engine`, written beside and renamed, so that a reader
sees all of it or nothing. A reader holds a shared lock on the file until it closes the
engine; eviction takes only what nobody holds. A builder holds an exclusive lock on `<key>.lock`.
A folder that cannot be used costs time, never a result: the engine is built and the report says so.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG

import msgspec

from engine.device.engine_file import (
    DamagedError,
    Header,
    encode_head,
    header_or_problem,
    read_payload,
)
from engine.device.lock import Lock, remove_unheld
from engine.device.report import Choice, EngineKey

DEFAULT_MAX_BYTES = 4 << 30
VARIABLE = "FRAMELOOM_ENGINES"


class EngineCacheWarning(UserWarning):
    """Engines cannot be kept: every start builds them again."""


@dataclass
class Held:
    """An engine's bytes. Until `close` no eviction takes its file."""

    payload: bytes | memoryview
    from_cache: bool
    seconds: float  # to build it, or to read it
    notes: list[str] = field(default_factory=list)
    _release: Callable[[], object] | None = None

    def close(self) -> None:
        """Let the file go; the bytes must not be used any more. May be called twice."""
        self.payload = b""
        if self._release is not None:
            self._release()


@dataclass(frozen=True)
class Entry:
    """A file of the cache, for `frameloom engines list`."""

    path: Path
    header: Header | None  # None: damaged, see `problem`
    size_bytes: int
    used_ago_s: float
    problem: str = ""


def digest_of(key: EngineKey) -> str:
    """SHA-256 of the key: the engine's name on disk, the same in every process."""
    return hashlib.sha256(msgspec.json.encode(key)).hexdigest()


def default_folder() -> Path:
    """`FRAMELOOM_ENGINES`, else a folder in the user's cache."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "frameloom" / "engines"


class EngineStore:
    """The cache in one folder, shared by all processes that use it."""

    def __init__(self, folder: Path | None = None, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.folder = default_folder() if folder is None else folder
        self.max_bytes = max_bytes

    def get(self, key: EngineKey, label: str, build: Callable[[], bytes]) -> Held:
        """The engine of a key: read, or else built, kept and read. A hit never calls `build`.

        Of several processes that want the same one builds, the others wait for it. What `build`
        raises comes through. If the folder cannot be written, the engine lives in memory only:
        a line in `notes` and an EngineCacheWarning tell it.
        """
        notes: list[str] = []
        found = self._read(key, notes)
        if found is not None:
            return found
        with self._building(key, notes) as lock:
            found = self._read(key, notes)  # another process may have built it meanwhile
            if found is not None:
                if lock is not None and lock.waited_s:
                    notes.append(f"waited {lock.waited_s:.1f} s for another process to build it")
                return found
            start = time.perf_counter()
            payload = build()
            seconds = time.perf_counter() - start
            if lock is None or not self._write(key, label, payload, seconds, notes):
                return Held(payload, False, seconds, notes)
            kept = self._read(key, notes)
        self._evict()
        if kept is None:
            return Held(payload, False, seconds, notes)
        kept.from_cache, kept.seconds = False, seconds
        return kept

    def entries(self) -> list[Entry]:
        """All engines, the last used first."""
        found = []
        now = time.time()
        for path in self.folder.glob("*.engine"):
            with contextlib.suppress(FileNotFoundError):  # evicted meanwhile
                stat = path.stat()
                if S_ISREG(stat.st_mode):  # whatever else has such a name is not ours
                    header, problem = header_or_problem(path)
                    ago = max(now - stat.st_mtime, 0.0)
                    found.append(Entry(path, header, stat.st_size, ago, problem))
        return sorted(found, key=lambda entry: entry.used_ago_s)

    def choice(self, entry: Entry) -> Choice:
        """What `auto` chose, of an entry of that backend. DamagedError, OSError: no telling."""
        with entry.path.open("rb") as file:
            payload = bytes(read_payload(file.fileno()))
        try:
            return msgspec.json.decode(payload, type=Choice)
        except msgspec.DecodeError as error:
            raise DamagedError(f"holds no choice of this version ({error})") from error

    def remove(self, path: Path) -> bool:
        """Delete an engine, unless somebody holds it or owns it; whether it is gone."""
        return remove_unheld(path)

    def sweep(self) -> int:
        """Delete what builders that died half-way left behind; how many files. Who still builds
        holds the lock of its key.
        """
        swept = sum(map(remove_unheld, self.folder.glob("*.lock")))
        for half in self.folder.glob("*.tmp"):
            key = half.name.partition(".")[0]
            if not half.with_name(f"{key}.lock").exists():
                swept += remove_unheld(half)
        return swept

    def path_of(self, key: EngineKey) -> Path:
        return self.folder / f"{digest_of(key)}.engine"

    def _read(self, key: EngineKey, notes: list[str]) -> Held | None:
        """The engine if its file is there and whole; a note if it is there and damaged."""
        start = time.perf_counter()
        path = self.path_of(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell_unusable(error, notes)
            return None
        held: Held | None = None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            held = Held(read_payload(descriptor, key), True, 0.0, notes)
            held._release = weakref.finalize(held, os.close, descriptor)
            with contextlib.suppress(OSError):  # a read-only folder keeps no time of last use
                os.utime(path)
            held.seconds = time.perf_counter() - start
        except DamagedError as problem:
            note = f"the engine in the cache {problem}: it was built again"
            if note not in notes:
                notes.append(note)
        except OSError as error:
            self._tell_unusable(error, notes)
        finally:
            if held is None:
                os.close(descriptor)
        return held

    def _write(
        self, key: EngineKey, label: str, payload: bytes, seconds: float, notes: list[str]
    ) -> bool:
        """Keep an engine: whole or not at all. False, with a note, where that cannot be."""
        head = encode_head(key, label, payload, seconds)
        path = self.path_of(key)
        beside = path.with_suffix(f".{os.getpid()}.tmp")
        try:
            with beside.open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.writelines((head, payload))
                file.flush()
                os.fsync(file.fileno())
                beside.replace(path)
            _sync_folder(self.folder)
        except OSError as error:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                beside.unlink(missing_ok=True)
            self._tell_unusable(error, notes)
            return False
        return True

    def _evict(self) -> None:
        """Bring the folder below its limit, the longest unused first; sweep what died half-way."""
        self.sweep()
        entries = self.entries()
        total = sum(entry.size_bytes for entry in entries)
        for entry in reversed(entries):
            if total <= self.max_bytes:
                return
            if self.remove(entry.path):
                total -= entry.size_bytes

    @contextmanager
    def _building(self, key: EngineKey, notes: list[str]) -> Iterator[Lock | None]:
        """Alone among all processes with this key; None where the folder cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = Lock(self.path_of(key).with_suffix(".lock"))
        except OSError as error:
            self._tell_unusable(error, notes)
            yield None
            return
        try:
            yield lock
        finally:
            lock.release()

    def _tell_unusable(self, error: OSError, notes: list[str]) -> None:
        cause = error.strerror or str(error)
        remedy = (
            "free some space there" if error.errno == errno.ENOSPC else f"set {VARIABLE} to another"
        )
        what = f"engines cannot be kept in {self.folder}"
        if not any(note.startswith(what) for note in notes):  # its first cause is the one to tell
            notes.append(f"{what}: {cause}; {remedy}")
            warnings.warn(notes[-1], EngineCacheWarning, stacklevel=4)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
