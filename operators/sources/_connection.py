"""One RTSP connection, read on a thread, so that its owner never waits for a server."""

from __future__ import annotations

import errno
import queue
import re
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from msgspec import Struct

from engine import Clock

if TYPE_CHECKING:
    from av.container import InputContainer

QUEUED_PACKETS = 256  # between the two threads; a full queue makes the server wait (TCP)
OFFER_S = 0.1  # how often a reader with a full queue looks whether it is still wanted
UNREACHABLE = frozenset(
    {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.EIO, errno.EADDRNOTAVAIL}
)
SECRET = re.compile(r"((?:pass\w*|pwd|token|key|secret|auth)=)[^&/_\s]*", re.IGNORECASE)


class Opened(Struct, frozen=True):
    """The connection stands; these are its streams."""

    video: Any
    audio: Any  # None without sound


class Arrived(Struct, frozen=True):
    """A packet and when it came, in ns of the monotonic clock."""

    packet: Any
    arrival_ns: int


class Lost(Struct, frozen=True):
    """Nothing more comes of this connection."""

    cause: str


Step = Opened | Arrived | Lost


def with_login(url: str, user: str, password: str) -> str:
    """`url` with user and password put in, unless it has its own."""
    parts = urlsplit(url)
    if not user or "@" in parts.netloc:
        return url
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))


def redacted(url: str) -> str:
    """`url` without anything secret: the only form that may be shown, logged or raised."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return SECRET.sub(r"\1***", urlunsplit(parts._replace(netloc=host)))


class Connection:
    """A thread that opens one address and reads it until it is lost or closed."""

    def __init__(
        self,
        url: str,
        options: dict[str, str],
        timeouts_s: tuple[float, float],
        clock: Clock,
        hwaccel: Any = None,
    ) -> None:
        self._url = url
        self._hwaccel = hwaccel
        self._options = options
        self._timeouts_s = timeouts_s
        self._clock = clock
        self._steps: queue.Queue[Step] = queue.Queue(QUEUED_PACKETS)
        self._unwanted = threading.Event()
        self._container: InputContainer | None = None
        self._thread = threading.Thread(target=self._run, name="rtsp", daemon=True)
        self._thread.start()

    def next_step(self, wait_s: float) -> Step | None:
        """What happened next; None when nothing did within `wait_s`."""
        with suppress(queue.Empty):
            return self._steps.get(timeout=wait_s)
        return None

    def close(self) -> None:
        """End the thread. Takes as long as the timeouts at most, when the server is silent."""
        self._unwanted.set()
        self._thread.join()
        # Only now: packets that the owner held pointed into the container.
        if self._container is not None:
            self._container.close()

    def _run(self) -> None:
        from av.error import FFmpegError

        began_ns = self._clock.now_ns()
        try:
            cause = self._open_and_read()
        except FFmpegError as error:
            # Its text holds the whole URL: only the kind of error leaves this thread.
            cause = cause_of(error)
            overdue = (self._clock.now_ns() - began_ns) / 1e9 >= self._timeouts_s[0]
            if cause == "DISCONNECTED" and self._container is None and overdue:
                cause = "TIMEOUT"  # FFmpeg calls a reply that never came invalid data
        self._offer(Lost(cause))

    def _open_and_read(self) -> str:
        import av

        self._container = av.open(
            self._url, options=self._options, timeout=self._timeouts_s, hwaccel=self._hwaccel
        )
        return self._read(self._container)

    def _read(self, container: InputContainer) -> str:
        """Read to the end; returns why it ended."""
        videos, audios = container.streams.video, container.streams.audio
        if not videos:
            return "NO_VIDEO"
        if getattr(videos[0], "codec_context", None) is None:
            return "CODEC_UNSUPPORTED"
        self._offer(Opened(videos[0], audios[0] if audios else None))
        for packet in container.demux(*videos[:1], *audios[:1]):
            if self._unwanted.is_set():
                break
            if packet.size:
                self._offer(Arrived(packet, self._clock.now_ns()))
        return "DISCONNECTED"

    def _offer(self, step: Step) -> None:
        while not self._unwanted.is_set():
            with suppress(queue.Full):
                self._steps.put(step, timeout=OFFER_S)
                return


def cause_of(error: Exception) -> str:
    """The typed cause of an FFmpeg error."""
    from av import error as av

    if isinstance(error, (av.HTTPUnauthorizedError, av.HTTPForbiddenError)):
        return "AUTH_FAILED"
    if isinstance(error, av.HTTPNotFoundError):
        return "NOT_FOUND"
    if isinstance(error, (av.ExitError, av.TimeoutError)):
        return "TIMEOUT"
    if isinstance(error, av.ConnectionRefusedError):
        return "REFUSED"
    if isinstance(error, av.DecoderNotFoundError):
        return "CODEC_UNSUPPORTED"
    return "UNREACHABLE" if getattr(error, "errno", 0) in UNREACHABLE else "DISCONNECTED"
