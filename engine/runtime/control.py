"""The supervisor's socket: commands out, news in. Nothing that comes here can end a run."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import zmq

from engine.errors import TransportError
from engine.runtime import messages as m
from engine.runtime.rundir import CONTROL

HIGH_WATER_MARK = 1000  # messages
MAX_MESSAGE_BYTES = 16 << 20


class Heard(NamedTuple):
    """What a worker said."""

    address: bytes
    worker: str
    incarnation: int
    message: m.ToSupervisor


class ControlSocket:
    """Used by one thread at a time: the one that opens it, then the supervisor's."""

    socket: zmq.Socket[Any]  # from `open` on

    def __init__(self) -> None:
        self._context: zmq.Context[Any] | None = None

    def open(self, run_dir: Path) -> str:
        """Listen; the endpoint. TransportError when that cannot be."""
        self._context = zmq.Context()
        self.socket = self._context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        self.socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)

        endpoint = f"ipc://{run_dir / CONTROL}"
        try:
            self.socket.bind(endpoint)
        except zmq.ZMQError as error:
            raise TransportError(f"cannot listen at {endpoint}: {error}") from error
        return endpoint

    def waiting(self, patience_ms: int = 0) -> bool:
        """Whether something has been said; waits so long for it."""
        return bool(self.socket.poll(patience_ms))

    def hear(self) -> Heard:
        """The next message; TransportError when it is none of ours."""
        address, *parts = self.socket.recv_multipart()
        try:
            worker, _, incarnation = parts[0].decode().rpartition(":")
            return Heard(address, worker, int(incarnation), m.decode_to_supervisor(parts[1]))
        except (msgspec.DecodeError, ValueError, IndexError) as error:
            raise TransportError(f"control message refused: {error!r}") from error

    def post(self, address: bytes, message: m.Message) -> bool:
        """Send a command; False when it is lost because the worker does not read its commands."""
        try:
            self.socket.send_multipart([address, m.encode(message)], zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:  # it is gone: its exit will be seen
                raise
        return True

    def close(self) -> None:
        """What has not been sent yet is not sent any more."""
        if self._context is not None:
            self.socket.close()
            self._context.term()
