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
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "AUTH_FAILED",
}
# A server with another key than the one expected just hangs up during the handshake. So does one
# that is just being started again, but not three times in a row.
SURELY = 3


class Watch:
    """The monitor of one socket. Belongs to the I/O thread, as the socket does."""

    def __init__(self, socket: zmq.Socket[Any], *, encrypted: bool) -> None:
        self._watched = socket
        self._encrypted = encrypted
        self._hung_up = 0  # times in a row
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
        event = int(parse_monitor_message(parts)["event"])
        if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
            self._hung_up += 1
            return "AUTH_FAILED" if self._encrypted and self._hung_up >= SURELY else "DISCONNECTED"
        if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._hung_up = 0
        return _NAMES[event]

    def close(self) -> None:
        self._watched.disable_monitor()
        self.socket.close(linger=0)
