"""The folder of a run's sockets: short enough for the kernel, found again when left behind."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from engine.errors import TransportError
from engine.transport.owner import is_orphan, owned_name

LONGEST_SOCKET_PATH = 107  # bytes: what the kernel takes
CONTROL = "control.sock"
LONGEST_NAME = "w999-999999.sock"
FALLBACK = Path("/tmp")


def make_run_dir() -> Path:
    """A new folder below the system's temporary one, or below /tmp where that has too long a name.

    Folders whose process was killed are removed first. TransportError when none can be made.
    """
    refused: list[str] = []
    for parent in _parents():
        sweep(parent)
        try:
            made = Path(tempfile.mkdtemp(prefix=owned_name(""), dir=parent))
        except OSError as error:
            refused.append(f"{parent}: {error.strerror}")
            continue
        if len(bytes(made / LONGEST_NAME)) <= LONGEST_SOCKET_PATH:
            return made
        made.rmdir()
        refused.append(f"{parent}: too long a name for sockets ({LONGEST_SOCKET_PATH} bytes)")
    message = f"no folder for sockets can be made ({'; '.join(refused)}); set TMPDIR to another"
    raise TransportError(message)


def worker_socket(number: int, incarnation: int) -> str:
    """File name of a worker's socket; not by its name, which may be long."""
    return f"w{number}-{incarnation}.sock"


def sweep(parent: Path) -> None:
    """Remove the run folders of processes that are gone."""
    for path in parent.glob("frameloom-*"):
        if is_orphan(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _parents() -> list[Path]:
    try:
        first = Path(tempfile.gettempdir())
    except FileNotFoundError:  # no usable temporary folder at all
        return [FALLBACK]
    return list(dict.fromkeys((first, FALLBACK)))
