"""Folders of sockets: short names, and nothing left of a killed run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from engine.errors import TransportError
from engine.runtime import rundir
from engine.runtime.rundir import LONGEST_NAME, LONGEST_SOCKET_PATH, make_run_dir, worker_socket
from engine.transport.owner import is_orphan, owned_name, start_time


@pytest.fixture
def parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The temporary folder, with too long a name, and the one to fall back to."""
    short = Path(tempfile.mkdtemp(prefix="fl", dir="/tmp"))
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.setattr(rundir, "FALLBACK", short)
    return long, short


def test_a_long_name_is_evaded(parents: tuple[Path, Path]) -> None:
    long, short = parents
    made = make_run_dir()
    assert made.parent == short
    assert list(long.iterdir()) == []
    assert len(bytes(made / LONGEST_NAME)) <= LONGEST_SOCKET_PATH
    assert made.stat().st_mode & 0o077 == 0, "nobody else may connect"
    made.rmdir()
    short.rmdir()


def test_where_none_can_be_made_the_remedy_is_told(parents: tuple[Path, Path]) -> None:
    long, short = parents
    short.rmdir()
    with pytest.raises(TransportError, match="set TMPDIR") as caught:
        make_run_dir()
    assert str(long) in str(caught.value)


def test_the_longest_socket_name_is_reckoned_with() -> None:
    assert len(worker_socket(999, 999_999)) == len(LONGEST_NAME)


def test_folders_of_killed_runs_are_swept_and_no_others(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        stale = tmp_path / f"frameloom-{child.pid}-{start_time(child.pid)}-abc"
    (stale / "control.sock").parent.mkdir()
    (stale / "control.sock").touch()
    ours = tmp_path / owned_name("abc")
    others = tmp_path / "frameloom-notes"
    ours.mkdir()
    others.mkdir()
    rundir.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {ours.name, others.name}


def test_names_tell_whose_they_are() -> None:
    started = start_time(os.getpid())
    assert not is_orphan(owned_name("x"))
    assert is_orphan(f"frameloom-{os.getpid()}-{started + 1}-x"), "the pid was given out again"
    assert not is_orphan("frameloom-notes-of-mine")
