"""A temporary folder of its own for tests that start processes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_tempdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of its own (short: it holds sockets) that must be empty in the end."""
    assert tmp_path.is_dir(), "made before, elsewhere"
    folder = Path(tempfile.mkdtemp(prefix="fl"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    left = [path.name for path in folder.iterdir()]
    shutil.rmtree(folder)
    if left:
        pytest.fail(f"left behind in the temporary folder: {left}")
