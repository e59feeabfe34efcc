"""What a run wrote: files that are new in a folder, or have changed."""

from __future__ import annotations

from pathlib import Path

Files = dict[Path, tuple[int, int]]  # path -> (modification time in ns, bytes)


def list_files(folder: Path) -> Files:
    """Every file below a folder."""
    found: Files = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_file():
            state = path.stat()
            found[path] = (state.st_mtime_ns, state.st_size)
    return found


def written(before: Files, after: Files) -> Files:
    """The files that are new or have changed."""
    return {path: state for path, state in after.items() if before.get(path) != state}
