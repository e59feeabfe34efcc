"""Ways to bring frames from one process to another that are not ours: what our links stand beside.

A carrier is made in both processes. The sender's side binds and tells its address, the receiver's
side connects; `send` hands one picture over, `receive` waits for one and looks at it.
"""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import zmq

SHAPE = (720, 1280, 3)
FRAME_BYTES = 720 * 1280 * 3
IN_FLIGHT = 8  # messages a socket may hold: enough to keep both sides busy
TIMEOUT_MS = 10_000


class Carrier(Protocol):
    """One way to carry pictures [720, 1280, 3] uint8."""

    def open_sender(self) -> str:
        """In the sending process: be ready; the address to connect to."""

    def open_receiver(self, address: str) -> None:
        """In the receiving process."""

    def send(self, picture: np.ndarray) -> None:
        """Hand one over; waits while the way is full."""

    def receive(self) -> None:
        """Wait for one, look at its first and last pixel, let it go."""

    def close(self) -> None:
        """Either side: give everything back."""


class Pyzmq:
    """A bare PUSH/PULL pair, the fastest one can write with pyzmq in ten lines."""

    def __init__(self, scheme: str, folder: Path, *, copy: bool, curve: bool = False) -> None:
        self._scheme = scheme
        self._folder = folder
        self._copy = copy
        self._curve = curve
        self._context: zmq.Context[Any] | None = None

    def open_sender(self) -> str:
        pipe = self._open(zmq.PUSH)
        if self._curve:
            public, secret = zmq.curve_keypair()
            pipe.curve_publickey, pipe.curve_secretkey, pipe.curve_server = public, secret, True
            (self._folder / "curve.pub").write_bytes(public)
        name = f"raw-{'copy' if self._copy else 'view'}.sock"
        pipe.bind("tcp://127.0.0.1:*" if self._scheme == "tcp" else f"ipc://{self._folder / name}")
        endpoint: str = pipe.getsockopt_string(zmq.LAST_ENDPOINT)
        return endpoint

    def open_receiver(self, address: str) -> None:
        pipe = self._open(zmq.PULL)
        if self._curve:
            pipe.curve_publickey, pipe.curve_secretkey = zmq.curve_keypair()
            pipe.curve_serverkey = (self._folder / "curve.pub").read_bytes()
        pipe.connect(address)

    def _open(self, kind: int) -> zmq.Socket[Any]:
        self._context = zmq.Context()
        self._pipe = self._context.socket(kind)
        for option in (zmq.SNDHWM, zmq.RCVHWM):
            self._pipe.setsockopt(option, IN_FLIGHT)
        for option in (zmq.SNDTIMEO, zmq.RCVTIMEO):
            self._pipe.setsockopt(option, TIMEOUT_MS)
        self._pipe.setsockopt(zmq.LINGER, 0)
        return self._pipe

    def send(self, picture: np.ndarray) -> None:
        self._pipe.send(picture.data, 0, self._copy)

    def receive(self) -> None:
        message: Any = self._pipe.recv(copy=self._copy)  # bytes, or a Frame: both are buffers
        look(np.frombuffer(message, np.uint8))

    def close(self) -> None:
        if self._context is not None:
            self._pipe.close()
            self._context.term()


class ImageZmq:
    """imageZMQ as its documentation has it: REQ/REP over tcp."""

    def __init__(self, port: int) -> None:
        self._address = f"tcp://127.0.0.1:{port}"
        self._end: Any = None

    def open_sender(self) -> str:
        import imagezmq  # type: ignore[import-untyped]

        self._end = imagezmq.ImageSender(connect_to=self._address)
        self._limit()
        return self._address

    def open_receiver(self, address: str) -> None:
        import imagezmq

        self._end = imagezmq.ImageHub(open_port=address)
        self._limit()

    def _limit(self) -> None:
        for option in (zmq.SNDTIMEO, zmq.RCVTIMEO):
            self._end.zmq_socket.setsockopt(option, TIMEOUT_MS)
        self._end.zmq_socket.setsockopt(zmq.LINGER, 0)

    def send(self, picture: np.ndarray) -> None:
        self._end.send_image("camera", picture)

    def receive(self) -> None:
        _, picture = self._end.recv_image()
        self._end.send_reply(b"OK")
        look(picture)

    def close(self) -> None:
        if self._end is not None:
            self._end.close()


class MpQueue:
    """`multiprocessing.Queue`: pickled through a pipe."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def open_sender(self) -> str:
        return ""

    def open_receiver(self, address: str) -> None:
        """The queue came with the process."""

    def send(self, picture: np.ndarray) -> None:
        self._queue.put(picture, timeout=TIMEOUT_MS / 1e3)

    def receive(self) -> None:
        look(self._queue.get(timeout=TIMEOUT_MS / 1e3))

    def close(self) -> None:
        self._queue.close()
        self._queue.join_thread()


def look(picture: np.ndarray) -> int:
    """Read the first and the last value: the frame is there, and nobody copies it."""
    flat = picture.reshape(-1)
    return int(flat[0]) + int(flat[-1])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def mp_queue() -> Any:
    return multiprocessing.get_context("spawn").Queue(maxsize=IN_FLIGHT)


Factory = Callable[[], Carrier]


def foreign(folder: Path, port: int, queue: Any) -> dict[str, Factory]:
    """By figure name; made afresh in each process."""
    return {
        "zmq_tcp_copy": lambda: Pyzmq("tcp", folder, copy=True),
        "zmq_tcp_view": lambda: Pyzmq("tcp", folder, copy=False),
        "zmq_ipc_copy": lambda: Pyzmq("ipc", folder, copy=True),
        "zmq_ipc_view": lambda: Pyzmq("ipc", folder, copy=False),
        "zmq_curve_view": lambda: Pyzmq("tcp", folder, copy=False, curve=True),
        "imagezmq": lambda: ImageZmq(port),
        "mp_queue": lambda: MpQueue(queue),
    }
