"""A real RTSP server: reads, passwords, and a server that goes away and comes back."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import MonotonicClock, OperatorError
from engine.testing import HarnessContext
from operators.sources._connection import redacted, with_login
from operators.sources.rtsp import RtspSource, RtspSourceConfig

SERVER = Path(__file__).parents[1] / "peers" / "rtsp_server.py"
PYTHON = "/usr/bin/python3"  # the system's: it has GStreamer's bindings
PASSWORD = "hunter-seven"  # a wrong one


class Server:
    """A running peer that can be killed and started again on the same ports."""

    def __init__(self) -> None:
        self.port = self.auth_port = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        ports = [f"--port={self.port}", f"--auth-port={self.auth_port}"]
        self.process = subprocess.Popen(
            [PYTHON, str(SERVER), *ports], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.port, self.auth_port = map(int, self.process.stdout.readline().split())

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def opened() -> Iterator[Callable[..., tuple[RtspSource, HarnessContext]]]:
    sources: list[RtspSource] = []

    def build(url: str, **config: object) -> tuple[RtspSource, HarnessContext]:
        ctx = HarnessContext(mode="live", clock=MonotonicClock())
        source = RtspSource(RtspSourceConfig(url=url, **config))
        source.open(ctx)
        sources.append(source)
        return source, ctx

    yield build
    for source in sources:
        source.close()


def read(source: RtspSource, frames: int, within_s: float) -> list:
    deadline = time.monotonic() + within_s
    read = []
    while len(read) < frames:
        assert time.monotonic() < deadline, f"{len(read)} of {frames} frames in {within_s} s"
        media = source.process()
        if media is not None:
            read.append(media.frames)
    return read


def turn(source: RtspSource, until: Callable[[], bool], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not until():
        assert time.monotonic() < deadline
        source.process()


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_reads_live_frames(server, opened, transport):
    source, ctx = opened(f"rtsp://127.0.0.1:{server.port}/live", transport=transport)
    before_ns = time.monotonic_ns()
    frames = read(source, 30, 15)
    assert {(f.caps.width, f.caps.height, f.caps.pix_fmt) for f in frames} == {
        (320, 240, "yuv420p")
    }
    pts = [frame.stamp.pts for frame in frames]
    assert pts == sorted(set(pts))
    captured = [frame.stamp.capture_ns for frame in frames]
    assert captured == sorted(captured)
    assert before_ns < captured[0] < captured[-1] < time.monotonic_ns()
    assert ctx.reports == []
    assert ctx.breaks == []


@pytest.mark.slow
def test_login_is_accepted(server, opened):
    url = f"rtsp://127.0.0.1:{server.auth_port}/auth"
    source, _ = opened(url, user="user", password="secret")
    assert len(read(source, 3, 10)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("in_url", [True, False])
def test_wrong_password_fails_at_once_and_stays_secret(server, opened, caplog, capfd, in_url):
    caplog.set_level(logging.DEBUG)
    host = f"127.0.0.1:{server.auth_port}/auth"
    if in_url:
        source, ctx = opened(f"rtsp://user:{PASSWORD}@{host}")
    else:
        source, ctx = opened(f"rtsp://{host}", user="user", password=PASSWORD)
    started = time.monotonic()
    with pytest.raises(OperatorError) as caught:
        turn(source, lambda: False)
    assert time.monotonic() - started < 2
    assert caught.value.code == "AUTH_FAILED"
    assert caught.value.permanent
    assert caught.value.__context__ is None
    shown = (str(caught.value), repr(caught.value), caplog.text, *capfd.readouterr())
    shown += (repr(ctx.reports), repr(source.config), str(source.config))
    assert not [text for text in shown if PASSWORD in text]


@pytest.mark.slow
def test_frames_again_after_the_server_came_back(server, opened):
    source, ctx = opened(f"rtsp://127.0.0.1:{server.port}/live")
    before = read(source, 5, 15)
    server.kill()
    turn(source, lambda: any(code == "REFUSED" for code, _ in ctx.reports))
    causes = [code for code, _ in ctx.reports if code != "CORRUPT"]  # half a frame may come last
    assert causes[0] == "DISCONNECTED"
    assert ctx.breaks == []
    server.start()
    back = time.monotonic()
    after = read(source, 5, 5)
    assert time.monotonic() - back < 5
    assert ctx.breaks == ["REFUSED"]
    assert after[0].stamp.pts > before[-1].stamp.pts
    gap_s = (after[0].stamp.capture_ns - before[-1].stamp.capture_ns) / 1e9
    assert after[0].stamp.pts_seconds - before[-1].stamp.pts_seconds == pytest.approx(
        gap_s, abs=0.5
    )


@pytest.mark.slow
def test_unknown_mount_is_tried_again(server, opened):
    source, ctx = opened(f"rtsp://127.0.0.1:{server.port}/nowhere")
    turn(source, lambda: bool(ctx.reports))
    turn(source, lambda: source._retry_ms >= 1000)
    assert [code for code, _ in ctx.reports] == ["NOT_FOUND"]


def test_process_returns_soon_while_nobody_answers(opened, silent_port):
    source, ctx = opened(f"rtsp://127.0.0.1:{silent_port}/x", open_timeout_ms=400)
    slowest = 0.0
    while not ctx.reports:
        started = time.monotonic()
        assert source.process() is None
        slowest = max(slowest, time.monotonic() - started)
    assert ctx.reports[0][0] == "TIMEOUT"
    assert slowest < 0.5


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never says a word."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://u:p@h:554/a", "rtsp://h:554/a"),
        ("rtsp://u:p%40q@h/a?token=abc&x=1", "rtsp://h/a?token=***&x=1"),
        (
            "rtsp://h/user=admin&password=geheim&channel=1",
            "rtsp://h/user=admin&password=***&channel=1",
        ),
        ("rtsp://h/a", "rtsp://h/a"),
    ],
)
def test_redacted_urls_hold_no_secret(url, shown):
    assert redacted(url) == shown


def test_login_is_quoted_and_does_not_replace_the_url_s_own():
    assert with_login("rtsp://h/a", "u", "p@/:") == "rtsp://u:p%40%2F%3A@h/a"
    assert with_login("rtsp://x:y@h/a", "u", "p") == "rtsp://x:y@h/a"
