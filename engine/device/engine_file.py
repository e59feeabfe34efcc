"""The file of one engine: magic, header length, SHA-256 of the header, header, payload.

The header is JSON and holds the engine's key and the payload's size and SHA-256, so that a file
that was cut, changed or made for something else is never taken for an engine.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

import msgspec

from engine.device.report import EngineKey

MAGIC = b"FLENGIN1"
PREFIX_BYTES = len(MAGIC) + 4 + 32  # magic, header length, digest of the header
MOST_HEADER_BYTES = 1 << 20


class Header(msgspec.Struct, frozen=True):
    """What an engine file says of itself."""

    key: EngineKey
    label: str  # class of the module, for people
    build_seconds: float
    payload_bytes: int
    payload_sha256: str


class DamagedError(Exception):
    """A file is not the engine it should be; the message ends a sentence."""


def encode_head(key: EngineKey, label: str, payload: bytes, build_seconds: float) -> bytes:
    """All that stands in front of the payload."""
    digest = hashlib.sha256(payload).hexdigest()
    header = msgspec.json.encode(Header(key, label, build_seconds, len(payload), digest))
    return MAGIC + len(header).to_bytes(4, "little") + hashlib.sha256(header).digest() + header


def read_payload(descriptor: int, key: EngineKey | None = None) -> memoryview:
    """The engine's bytes, mapped; with a key only if they were made for it. DamagedError says what
    is wrong.
    """
    header, start, whole = read_header(descriptor)
    if key is not None and header.key != key:
        raise DamagedError("is of another version or machine")
    if whole - start != header.payload_bytes:
        raise DamagedError(f"has {whole - start} bytes instead of {header.payload_bytes}")
    populate = getattr(mmap, "MAP_POPULATE", 0)
    mapped = mmap.mmap(descriptor, 0, mmap.MAP_SHARED | populate, mmap.PROT_READ)
    payload = memoryview(mapped)[start:]
    if hashlib.sha256(payload).hexdigest() != header.payload_sha256:
        raise DamagedError("is damaged: its checksum differs")
    return payload


def read_header(descriptor: int) -> tuple[Header, int, int]:
    """The header, where the payload starts, and the size of the file."""
    whole = os.fstat(descriptor).st_size
    prefix = os.pread(descriptor, PREFIX_BYTES, 0)
    if len(prefix) < PREFIX_BYTES or not prefix.startswith(MAGIC):
        raise DamagedError("is no engine of this version, or is truncated")
    length = int.from_bytes(prefix[len(MAGIC) : len(MAGIC) + 4], "little")
    data = os.pread(descriptor, min(length, MOST_HEADER_BYTES), PREFIX_BYTES)
    if hashlib.sha256(data).digest() != prefix[-32:]:
        raise DamagedError("has a damaged or truncated header")
    try:
        return msgspec.json.decode(data, type=Header), PREFIX_BYTES + length, whole
    except msgspec.DecodeError as error:
        raise DamagedError(f"has a header of another version ({error})") from error


def header_or_problem(path: Path) -> tuple[Header | None, str]:
    """FileNotFoundError comes through."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError as error:
        return None, f"cannot be read: {error.strerror}"
    try:
        return read_header(descriptor)[0], ""
    except DamagedError as problem:
        return None, str(problem)
    finally:
        os.close(descriptor)
