"""`guard` on a real RTSP server that is killed and comes back, and on one that refuses us."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from engine.check import check
from engine.loader import load_graph
from engine.runtime.supervisor import Run
from tests.operators.test_rtsp import Server

pytestmark = pytest.mark.slow
WRONG_PASSWORD = "hunter-seven"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.kill()


def guard_on(url: str, out: Path) -> Run:
    """The graph as the command line makes it for an RTSP input."""
    spec = load_graph("guard")
    camera = msgspec.structs.replace(
        spec.nodes["camera"], op="operators.sources.rtsp:RtspSource", config={"url": url}
    )
    spec = msgspec.structs.replace(spec, mode="live", nodes={**spec.nodes, "camera": camera})
    return Run(check(spec), out)


def wait_for(condition: Callable[[], bool], seconds: float) -> float:
    """How long it took; fails when it takes longer."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not happen in time"
        time.sleep(0.02)  # a real process is being watched
    return time.monotonic() - start


def test_a_server_that_was_killed_is_found_again_within_5_s(server: Server, tmp_path: Path) -> None:
    with guard_on(f"rtsp://127.0.0.1:{server.port}/live", tmp_path) as run:

        def frames() -> int:
            return run.snapshot().nodes["video"].frames

        wait_for(lambda: frames() >= 20, 15)
        rss_before = run.snapshot().workers["main"].rss_bytes
        server.kill()
        wait_for(lambda: any(e.code == "DISCONNECTED" for e in run.snapshot().events), 10)
        server.start()
        seen = frames()
        assert wait_for(lambda: frames() > seen, 5) < 5
        wait_for(lambda: frames() > seen + 20, 5)
        snapshot = run.snapshot()
        assert snapshot.workers["main"].restarts == 0
        assert snapshot.workers["main"].rss_bytes < rss_before * 1.1 + (20 << 20)
        run.stop()
        assert run.wait(10)
    result = run.close()
    assert result.exit_code == 0, result.failures
    assert all(edge.balanced and not edge.in_flight for edge in result.snapshot.edges.values())
    assert len(list(tmp_path.glob("*.mp4"))) == 2  # a break begins a new file


def test_a_wrong_password_fails_at_once_and_is_shown_nowhere(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"rtsp://user:{WRONG_PASSWORD}@127.0.0.1:{server.auth_port}/auth"
    run = guard_on(url, tmp_path)
    run.start()
    assert run.wait(8)
    result = run.close()
    assert result.exit_code == 1
    assert [failure.code for failure in result.failures] == ["AUTH_FAILED"]
    told = repr(result) + "".join(capfd.readouterr())
    assert WRONG_PASSWORD not in told
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(WRONG_PASSWORD.encode() in path.read_bytes() for path in files)
