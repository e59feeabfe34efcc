"""CURVE keys for links between hosts: who we are, and whom we let in."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import TransportError

SECRET = ".secret"
PUBLIC = ".public"


@dataclass(frozen=True)
class KeyRing:
    """Our key pair and the public keys that may connect. Keys are Z85 text."""

    public: bytes
    secret: bytes = field(repr=False)
    allowed: frozenset[bytes] = frozenset()

    @classmethod
    def load(cls, folder: Path) -> KeyRing:
        """The one `*.secret` of a folder with its `.public`; every `*.public` there is let in."""
        secrets = sorted(folder.glob(f"*{SECRET}"))
        if len(secrets) != 1:
            raise TransportError(
                f"{folder} holds {len(secrets)} secret keys; exactly one is needed"
                f" (`frameloom keygen NAME --dir {folder}` makes one)"
            )
        mode = secrets[0].stat().st_mode & 0o077
        if mode:
            raise TransportError(f"{secrets[0]} can be read by others: chmod 600 it")
        public = secrets[0].with_suffix(PUBLIC)
        if not public.exists():
            raise TransportError(f"{public} is missing beside its secret key")
        allowed = frozenset(_read(path) for path in folder.glob(f"*{PUBLIC}"))
        return cls(_read(public), _read(secrets[0]), allowed)


def public_key(folder: Path, name: str) -> bytes:
    """The public key of that name in a folder."""
    return _read(folder / f"{name}{PUBLIC}")


def new_keypair(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a key pair; (public file, secret file). Refuses to overwrite."""
    import zmq

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    public, secret = zmq.curve_keypair()
    paths = folder / f"{name}{PUBLIC}", folder / f"{name}{SECRET}"
    for path, key, mode in zip(paths, (public, secret), (0o644, 0o600), strict=True):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError as error:
            raise TransportError(f"{path} exists; keys are never overwritten") from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(key + b"\n")
    return paths


def _read(path: Path) -> bytes:
    key = path.read_bytes().strip()
    if len(key) != 40:
        raise TransportError(f"{path} is not a CURVE key: {len(key)} characters instead of 40")
    return key
