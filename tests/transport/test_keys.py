"""CURVE keys: made once, read only when private, never shown; who has none is not served."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from engine.errors import TransportError
from engine.transport import wire
from engine.transport.endpoints import require_secure, stays_on_host
from engine.transport.keys import KeyRing, new_keypair
from tests.contract.ends import EDGE, PATIENCE_S, Link, frame


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one pair of keys."""
    new_keypair(tmp_path, "graph")
    return tmp_path


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    """An encrypted link whose consumer has not joined."""
    made = Link("curve", tmp_path)
    yield made
    made.close()


def test_a_key_pair_is_made_where_it_is_wanted(tmp_path: Path) -> None:
    public, secret = new_keypair(tmp_path / "new", "cam")

    assert [path.name for path in (public, secret)] == ["cam.public", "cam.secret"]
    assert secret.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    assert zmq.curve_public(secret.read_bytes().strip()) == public.read_bytes().strip()


def test_keys_are_never_overwritten(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}

    with pytest.raises(TransportError, match="never overwritten"):
        new_keypair(folder, "graph")

    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_every_public_key_of_the_folder_is_let_in(folder: Path) -> None:
    friend, _ = new_keypair(folder / "elsewhere", "friend")
    (folder / "friend.public").write_bytes(friend.read_bytes())

    keys = KeyRing.load(folder)

    assert keys.allowed == {keys.public, friend.read_bytes().strip()}
    assert zmq.curve_public(keys.secret) == keys.public


def test_the_secret_is_not_shown(folder: Path) -> None:
    keys = KeyRing.load(folder)

    assert keys.secret.decode() not in f"{keys} {keys!r}"
    assert keys.public.decode() in repr(keys)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_secret_that_others_can_reach_is_refused(folder: Path, mode: int) -> None:
    (folder / "graph.secret").chmod(mode)

    with pytest.raises(TransportError, match="chmod 600"):
        KeyRing.load(folder)


def test_a_folder_without_a_secret_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TransportError, match=r"0 secret keys.*keygen"):
        KeyRing.load(tmp_path)


def test_two_secrets_are_one_too_many(folder: Path) -> None:
    new_keypair(folder, "other")

    with pytest.raises(TransportError, match="2 secret keys"):
        KeyRing.load(folder)


def test_a_secret_without_its_public_key_is_refused(folder: Path) -> None:
    (folder / "graph.public").unlink()

    with pytest.raises(TransportError, match="missing beside"):
        KeyRing.load(folder)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 41])
def test_a_file_that_is_no_key_is_refused(folder: Path, content: bytes) -> None:
    (folder / "friend.public").write_bytes(content)

    with pytest.raises(TransportError, match="not a CURVE key"):
        KeyRing.load(folder)


@pytest.mark.parametrize(
    "endpoint", ["ipc:///tmp/x", "tcp://127.0.0.1:0", "tcp://[::1]:5", "tcp://localhost:5"]
)
def test_what_stays_on_the_host_may_go_in_plain(endpoint: str) -> None:
    assert stays_on_host(endpoint)
    require_secure(endpoint, encrypted=False)


@pytest.mark.parametrize("endpoint", ["tcp://*:5", "tcp://10.0.0.1:5", "tcp://[::]:5", "tcp://a:5"])
def test_what_leaves_the_host_is_encrypted(endpoint: str) -> None:
    assert not stays_on_host(endpoint)
    require_secure(endpoint, encrypted=True)
    with pytest.raises(TransportError, match="keygen"):
        require_secure(endpoint, encrypted=False)


def test_who_has_no_key_at_all_is_not_served(link: Link) -> None:
    link.put(frame(0))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    plain = context.socket(zmq.DEALER)
    plain.setsockopt(zmq.LINGER, 0)
    monitor = plain.get_monitor_socket(
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_DISCONNECTED
    )
    try:
        plain.connect(link.endpoint)
        plain.send(wire.encode(wire.Hello(EDGE.id, "session", 1)))
        assert monitor.poll(PATIENCE_S * 1000), "it was not turned away"
        assert not plain.poll(0)
    finally:
        plain.disable_monitor()
        monitor.close(linger=0)
        plain.close()
        context.term()
    assert link.stats().depth == 1, "nothing was given to it"
    assert link.join().take_frame().stamp.seq == 0
