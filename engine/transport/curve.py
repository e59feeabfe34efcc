"""CURVE on TCP: socket options, and the gate that lets known keys in."""

from __future__ import annotations

from typing import Any

import zmq
from zmq.utils import z85

from engine.transport.keys import KeyRing

DOMAIN = b"frameloom"
ZAP_ENDPOINT = "inproc://zeromq.zap.01"


class Gate:
    """Answers ZeroMQ's authentication requests (ZAP, RFC 27): known keys only."""

    def __init__(self, context: zmq.Context[Any], keys: KeyRing) -> None:
        self.refused = 0
        self._keys = keys
        self.socket: zmq.Socket[Any] = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ZAP_ENDPOINT)

    def answer(self) -> None:
        """Reply to one request."""
        version, request, _domain, _address, _identity, mechanism, *credentials = (
            self.socket.recv_multipart()
        )
        known = (
            mechanism == b"CURVE"
            and len(credentials) == 1
            and z85.encode(credentials[0]) in self._keys.allowed
        )
        self.refused += not known
        code, text = (b"200", b"OK") if known else (b"400", b"unknown key")
        self.socket.send_multipart([version, request, code, text, b"", b""])


def server_side(socket: zmq.Socket[Any], keys: KeyRing) -> None:
    """Have a socket accept only known keys."""
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
    socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)


def client_side(socket: zmq.Socket[Any], keys: KeyRing, server: bytes | None = None) -> None:
    """Have a socket connect with our key. The workers of one graph share one ring, so the server's
    public key is our own unless another is given."""
    socket.setsockopt(zmq.CURVE_SERVERKEY, server or keys.public)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
