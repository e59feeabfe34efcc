"""Whether a connection stands, for those that nobody supervises: ZeroMQ tells, we give it names."""

from __future__ import annotations

from typing import Any, Literal

import zmq
from zmq.utils.monitor import parse_monitor_message

Connection = Literal["CONNECTING", "CONNECTED", "DISCONNECTED", "AUTH_FAILED"]

_NAMES: dict[int, Connection] = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: "CONNECTED",
    zmq.EVENT_DISCONNECTED: "DISCONNECTED",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "AUTH_FAILED",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "AUTH_FAILED",
    # A server with another key than the one expected just hangs up during the handshake.
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "AUTH_FAILED",
}


class Watch:
    """The monitor of one socket. Belongs to the I/O thread, as the socket does."""

    def __init__(self, socket: zmq.Socket[Any]) -> None:
        self._watched = socket
        events = 0
        for event in _NAMES:
            events |= event
        self.socket: zmq.Socket[Any] = socket.get_monitor_socket(events)

    def read(self) -> Connection | None:
        """The next thing that happened, or None."""
        try:
            parts = self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        return _NAMES[int(parse_monitor_message(parts)["event"])]

    def close(self) -> None:
        self._watched.disable_monitor()
        self.socket.close(linger=0)
