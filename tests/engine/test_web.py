"""The live page: what it answers, whom it refuses, and that it leaves no thread behind."""

from __future__ import annotations

import http.client
import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from engine.errors import EngineError
from engine.telemetry.stats import NodeStats, RunSnapshot
from engine.web.app import PAGE, newest_pictures
from engine.web.server import PageServer

FIRST = b"\xff\xd8 first"


@dataclass
class FakeRun:
    """A run as the page sees it."""

    previews: dict[str, bytes] = field(default_factory=lambda: {"preview/door": FIRST})
    state: str = "running"

    def snapshot(self) -> RunSnapshot:
        node = NodeStats(node="camera", worker="main", device="cpu", frames=5)
        node.state = self.state  # type: ignore[assignment]
        return RunSnapshot(graph="g", mode="live", seconds=1.0, nodes={"camera": node})


@pytest.fixture
def run() -> FakeRun:
    return FakeRun()


@pytest.fixture
def page(run: FakeRun) -> Iterator[PageServer]:
    with PageServer(run, 0) as server:
        yield server


def port_of(page: PageServer) -> int:
    return int(page.address.rstrip("/").rpartition(":")[2])


def get(page: PageServer, path: str, host: str = "") -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=5)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_the_page_comes_whole_and_needs_nothing_from_elsewhere(page: PageServer) -> None:
    status, headers, body = get(page, "/")
    assert status == 200
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    text = body.decode()
    assert text == PAGE
    assert not re.findall(r"(?:https?:)?//[\w.]+\.\w+", text)
    assert "width=device-width" in text
    assert "innerHTML" not in text  # names of streams come from outside


def test_snapshot(page: PageServer) -> None:
    status, headers, body = get(page, "/api/snapshot")
    data = json.loads(body)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert data["graph"] == "g"
    assert data["nodes"]["camera"]["frames"] == 5
    assert data["previews"] == ["preview/door"]


def test_metrics(page: PageServer) -> None:
    status, headers, body = get(page, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=")
    assert b'frameloom_node_frames_total{node="camera"} 5.0' in body


@pytest.mark.parametrize(("state", "status"), [("running", 200), ("failed", 503)])
def test_health(page: PageServer, run: FakeRun, state: str, status: int) -> None:
    run.state = state
    assert get(page, "/healthz")[0] == status


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/snapshot", "/preview/door.mjpeg"])
def test_a_rebound_name_is_refused(page: PageServer, path: str) -> None:
    assert get(page, path, host="evil.example")[0] == 400


def test_localhost_is_us(page: PageServer) -> None:
    assert get(page, "/healthz", host=f"localhost:{port_of(page)}")[0] == 200


def test_it_listens_on_loopback_only(page: PageServer) -> None:
    assert page.address.startswith("http://127.0.0.1:")


def test_unknown_previews_are_not_there(page: PageServer) -> None:
    assert get(page, "/preview/window.mjpeg")[0] == 404


def read_part(answer: http.client.HTTPResponse) -> bytes:
    """One picture of an MJPEG stream."""
    assert answer.readline() == b"--frame\r\n"
    headers = {}
    while line := answer.readline().strip():
        name, _, value = line.decode().partition(": ")
        headers[name] = value
    picture = answer.read(int(headers["Content-Length"]))
    assert answer.readline() == b"\r\n"
    return picture


def test_a_preview_shows_each_new_picture(page: PageServer, run: FakeRun) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=5)
    connection.request("GET", "/preview/door.mjpeg")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=frame"
    assert read_part(answer) == FIRST
    run.previews["preview/door"] = b"second"
    assert read_part(answer) == b"second"
    connection.close()


def drive(steps: int, run: FakeRun, between: list[bytes]) -> list[bytes]:
    """Read `steps` parts; before each further one, all pictures of `between` have come and gone."""
    import asyncio

    async def read() -> list[bytes]:
        parts = newest_pictures(run, "preview/door", lambda: False)
        found = []
        for _ in range(steps):
            found.append(await anext(parts))
            for picture in between:
                run.previews["preview/door"] = picture
        await parts.aclose()  # type: ignore[attr-defined]
        return found

    return asyncio.run(read())


def test_a_slow_reader_gets_the_newest_picture_only(run: FakeRun) -> None:
    first, second = drive(2, run, [b"2", b"3", b"4"])
    assert FIRST in first
    assert second.endswith(b"\r\n\r\n4\r\n")


def test_closing_ends_open_previews_and_the_thread(run: FakeRun) -> None:
    page = PageServer(run, 0)
    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=5)
    connection.request("GET", "/preview/door.mjpeg")
    answer = connection.getresponse()
    read_part(answer)
    page.close()
    assert answer.read() == b""  # the stream has ended
    connection.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "frameloom-page"]


def test_a_reader_that_has_stalled_does_not_hold_up_the_end() -> None:
    run = FakeRun({"preview/door": b"x" * (32 << 20)})
    page = PageServer(run, 0)
    with socket.create_connection(("127.0.0.1", port_of(page))) as reader:
        reader.sendall(b"GET /preview/door.mjpeg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        reader.recv(100)  # and no more
        page.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "frameloom-page"]


def test_the_port_is_free_again_afterwards(run: FakeRun) -> None:
    with PageServer(run, 0) as page:
        port = port_of(page)
        get(page, "/healthz")
    with PageServer(run, port) as again:
        assert port_of(again) == port


def test_a_port_in_use_is_told_with_a_remedy(page: PageServer, run: FakeRun) -> None:
    with pytest.raises(EngineError, match=r"in use: give another with --port, or 0"):
        PageServer(run, port_of(page))


def test_without_the_extra_the_remedy_is_told(
    run: FakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(EngineError, match=r"pip install 'frameloom\[web\]', or say --no-page"):
        PageServer(run, 0)
