"""The one I/O thread of a worker. It owns every socket: data out, data in, control, key checks."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq

from engine.clock import Clock
from engine.device.opening import Devices
from engine.errors import TransportError
from engine.plan import PlannedEdge
from engine.transport import wire
from engine.transport.curve import Gate, client_side, server_side
from engine.transport.endpoints import require_secure
from engine.transport.epochs import EpochTable
from engine.transport.keys import KeyRing
from engine.transport.outbox import Outbox
from engine.transport.receiver import RemoteInbox
from engine.transport.sender import Sender
from engine.transport.watch import Watch

HIGH_WATER_MARK = 1000  # messages; never reached, credits stop a sender long before
CONTROL_LINGER_MS = 1000  # last words reach the supervisor
ACK_LINGER_MS = 250  # and the last ack the producer
CALL_PATIENCE_S = 0.5  # between two looks whether the I/O thread still lives
HEARTBEAT_MS = 1000
HEARTBEAT_TIMEOUT_MS = 3000  # without a sign of life a lasting connection is lost
PARTS_MOST = 3  # of a message; a longer one is refused
LAZY_MS = 20  # how long an ack may wait that nobody is waiting for
PARTS_AT_ONCE = 64  # messages from one socket before the others have their turn


class Hub:
    """Start it, let it listen, serve outboxes and connect inboxes; stop it to close everything."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        epochs: EpochTable,
        *,
        keys: KeyRing | None = None,
        devices: Devices | None = None,
        on_control: Callable[[list[bytes]], None] | None = None,
    ) -> None:
        self.malformed = 0  # messages that name no edge of ours
        self._clock = clock
        self._epochs = epochs
        self._keys = keys
        self._devices = devices or Devices()
        self._on_control = on_control
        self._context: zmq.Context[Any] = zmq.Context()
        self._poller = zmq.Poller()
        self._router: zmq.Socket[Any] | None = None
        self._control: zmq.Socket[Any] | None = None
        self._gate: Gate | None = None
        self._bound: list[str] = []
        self._senders: dict[str, Sender] = {}
        self._inboxes: dict[zmq.Socket[Any], RemoteInbox] = {}
        self._sockets: dict[str, zmq.Socket[Any]] = {}
        self._watches: dict[zmq.Socket[Any], Watch] = {}
        self._dirty: deque[Sender | RemoteInbox] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._outgoing: deque[list[bytes]] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._awake = False
        self._running = True
        self._poller.register(self._wake_fd, zmq.POLLIN)
        self._thread = threading.Thread(target=self._run, name=f"frameloom-io-{name}", daemon=True)

    # ---- from any thread

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send what is due, close every socket, remove socket files and slabs."""
        if self._thread.is_alive():
            self._running = False
            self._ring()
            self._thread.join()
        else:
            self._close()

    def listen(self, endpoint: str) -> str:
        """Accept consumers there (`ipc://...`, `tcp://address:0`); the endpoint to connect to."""
        require_secure(endpoint, encrypted=self._keys is not None)
        return str(self._call(lambda: self._listen(endpoint)))

    def serve(self, outbox: Outbox) -> None:
        """Send an outbox's items to whoever says hello for its edge."""
        self._senders[outbox.edge.id] = Sender(outbox, self._clock, self._devices, self._mark)

    def unserve(self, edge_id: str) -> None:
        """Forget an outbox, and remove its slabs."""
        sender = self._senders.pop(edge_id, None)
        if sender is not None:
            sender.peer_gone()
            sender.close()

    def connect(
        self,
        edge: PlannedEdge,
        endpoint: str,
        *,
        server: bytes | None = None,
        lasting: bool = False,
    ) -> RemoteInbox:
        """The consumer's end of an edge whose producer listens at `endpoint`.

        A `lasting` one begins a new session by itself whenever the connection was lost and is back;
        the others are told by a supervisor. `server` is the producer's public key, if not our own.
        """
        require_secure(endpoint, encrypted=self._keys is not None)
        inbox = RemoteInbox(
            edge, self._epochs, self._clock, self._devices, self._mark, self._reconnect
        )
        self._call(
            lambda: self._connect(inbox, endpoint, again=False, server=server, lasting=lasting)
        )
        return inbox

    def disconnect(self, inbox: RemoteInbox) -> None:
        """Close the connection of an inbox."""
        self._call(lambda: self._disconnect(inbox))

    def connect_control(self, endpoint: str) -> None:
        """The supervisor's socket. What it sends goes to `on_control`, in the I/O thread."""
        self._call(lambda: self._connect_control(endpoint))

    def send_control(self, parts: list[bytes]) -> None:
        self._outgoing.append(parts)
        self._ring()

    def peer_gone(self, edge_id: str) -> None:
        """The consumer of that edge has died: its frames are lost, its leases free again."""
        sender = self._senders.get(edge_id)
        if sender is not None:
            sender.peer_gone()

    def attached(self, edge_id: str) -> bool:
        """Whether a consumer has said hello for a served edge and is not known to be gone."""
        sender = self._senders.get(edge_id)
        return sender is not None and sender.address is not None

    def over(self, edge_id: str) -> bool:
        """Whether the consumer of a served edge has seen its end."""
        sender = self._senders.get(edge_id)
        return sender is None or sender.over

    @property
    def refused(self) -> int:
        """Connections turned away because their key is not known."""
        return self._gate.refused if self._gate is not None else 0

    def _call(self, function: Callable[[], Any]) -> Any:
        """Run something in the I/O thread and wait for it."""
        done = threading.Event()
        results: list[Any] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                results.append(function())
            except (zmq.ZMQError, TransportError) as error:
                errors.append(error)
            finally:
                done.set()

        if threading.current_thread() is self._thread:
            run()
        else:
            self._calls.append(run)
            self._ring()
            while not done.wait(CALL_PATIENCE_S if self._thread.is_alive() else 0):
                if not self._thread.is_alive():
                    raise TransportError("the hub does not run: start it first")
        if errors:
            raise TransportError(str(errors[0])) from errors[0]
        return results[0]

    def _mark(self, end: Sender | RemoteInbox) -> None:
        self._dirty.append(end)
        self._ring()

    def _ring(self) -> None:
        if not self._awake:
            self._awake = True
            os.eventfd_write(self._wake_fd, 1)

    # ---- the I/O thread

    def _run(self) -> None:
        while self._running:
            self._turn(dict(self._poller.poll(LAZY_MS)))
        self._turn({})
        self._close()

    def _turn(self, ready: dict[Any, int]) -> None:
        if self._wake_fd in ready:
            os.eventfd_read(self._wake_fd)
        self._awake = False
        if self._control is not None and self._control in ready:
            self._drain(self._control, self._hear_control)
        while self._calls:
            self._calls.popleft()()
        self._send_control()
        if self._gate is not None and self._gate.socket in ready:
            self._gate.answer()
        if self._router is not None and self._router in ready:
            self._drain(self._router, self._hear_consumer)
        for socket, inbox in list(self._inboxes.items()):
            watch = self._watches.get(socket)
            if watch is not None and watch.socket in ready:
                self._follow(socket, inbox, watch)
            if socket in ready:
                self._drain(socket, inbox.receive)
                inbox.on_ready()  # once for all that came: waking the lane costs more than reading
        if not ready:  # nothing urgent: send the acks that were not worth a message of their own
            self._dirty.extend(self._inboxes.values())
            self._dirty.extend(sender for sender in [*self._senders.values()] if sender.waiting)
        self._send_dirty()

    def _follow(self, socket: zmq.Socket[Any], inbox: RemoteInbox, watch: Watch) -> None:
        """A connection that nobody supervises was made, lost or refused."""
        while (news := watch.read()) is not None:
            if news == "CONNECTED" and inbox.connection == "DISCONNECTED":
                socket.send(inbox.begin(again=True), zmq.NOBLOCK)
            if news != "DISCONNECTED" or inbox.connection == "CONNECTED":
                inbox.connection = news
        inbox.on_ready()

    def _drain(self, socket: zmq.Socket[Any], handle: Callable[[list[Any]], None]) -> None:
        for _ in range(PARTS_AT_ONCE):
            if not int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return
            parts: list[Any] = [socket.recv()]
            while socket.getsockopt(zmq.RCVMORE):  # headers are small; pixels must not be copied
                part = socket.recv(copy=False).buffer
                if len(parts) < PARTS_MOST:
                    parts.append(part)
            handle(parts)
        self._ring()

    def _hear_control(self, parts: list[Any]) -> None:
        if self._on_control is not None:
            self._on_control([bytes(part) for part in parts])

    def _hear_consumer(self, parts: list[Any]) -> None:
        sender = None
        try:
            if len(parts) != 2:
                raise TransportError(f"{len(parts)} parts from a consumer")
            message = wire.decode_to_producer(bytes(parts[1]))
            sender = self._senders.get(message.edge)
            if sender is None:
                raise TransportError(f"no edge {message.edge!r} here")
            if isinstance(message, wire.Hello):
                sender.hello(parts[0], message)
            else:
                sender.ack(message)
                self._dirty.append(sender)
        except TransportError:
            self.malformed += 1
            if sender is not None:
                sender.outbox.malformed += 1

    def _send_dirty(self) -> None:
        while self._dirty:
            end = self._dirty.popleft()
            if isinstance(end, Sender):
                end.advance()
                self._send_frames(end)
            else:
                ack = end.outcomes()
                socket = self._sockets.get(end.edge.id)
                if ack is not None and socket is not None:
                    with suppress(zmq.Again):  # the producer is gone: the session ends with it
                        socket.send(ack, zmq.NOBLOCK)

    def _send_frames(self, sender: Sender) -> None:
        if self._router is None:
            return
        while (message := sender.pop()) is not None:
            address, parts = message
            try:
                self._router.send(address, zmq.SNDMORE | zmq.NOBLOCK)
                self._send_parts(parts)
            except zmq.Again:  # a consumer that has stopped reading: it is tried again later
                sender.push_back(address, parts)
                return
            except zmq.ZMQError:  # the connection is gone; what was under way waits for a verdict
                sender.detach(address)

    def _send_parts(self, parts: list[Any]) -> None:
        assert self._router is not None
        if len(parts) == 1:
            self._router.send(parts[0])
        else:
            self._router.send(parts[0], zmq.SNDMORE)
            self._router.send(parts[1], copy=False)

    def _send_control(self) -> None:
        while self._outgoing and self._control is not None:
            try:
                self._control.send_multipart(self._outgoing[0], zmq.NOBLOCK)
            except zmq.Again:  # the supervisor does not read just now: it is tried again
                return
            self._outgoing.popleft()

    def _listen(self, endpoint: str) -> str:
        router = self._socket(zmq.ROUTER)
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        if self._keys is not None and endpoint.startswith("tcp://"):
            self._gate = Gate(self._context, self._keys)
            self._poller.register(self._gate.socket, zmq.POLLIN)
            server_side(router, self._keys)
        try:
            router.bind(endpoint)
        except zmq.ZMQError as error:
            router.close()
            raise TransportError(f"cannot listen at {endpoint}: {error}") from error
        self._router = router
        self._poller.register(router, zmq.POLLIN)
        actual = router.getsockopt_string(zmq.LAST_ENDPOINT)
        self._bound.append(actual)
        return actual

    def _connect(
        self,
        inbox: RemoteInbox,
        endpoint: str,
        *,
        again: bool,
        server: bytes | None = None,
        lasting: bool = False,
    ) -> None:
        socket = self._socket(zmq.DEALER)
        socket.setsockopt(zmq.LINGER, ACK_LINGER_MS)
        if self._keys is not None and endpoint.startswith("tcp://"):
            client_side(socket, self._keys, server)
        if lasting:
            socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)  # a host may just vanish
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
            encrypted = self._keys is not None
            watch = self._watches[socket] = Watch(socket, encrypted=encrypted)
            self._poller.register(watch.socket, zmq.POLLIN)
        socket.connect(endpoint)
        self._inboxes[socket] = inbox
        self._sockets[inbox.edge.id] = socket
        self._poller.register(socket, zmq.POLLIN)
        socket.send(inbox.begin(again=again))

    def _disconnect(self, inbox: RemoteInbox) -> None:
        socket = self._sockets.pop(inbox.edge.id, None)
        if socket is not None:
            self._poller.unregister(socket)
            del self._inboxes[socket]
            self._unwatch(socket)
            socket.close(linger=0)

    def _unwatch(self, socket: zmq.Socket[Any]) -> None:
        watch = self._watches.pop(socket, None)
        if watch is not None:
            self._poller.unregister(watch.socket)
            watch.close()

    def _reconnect(self, inbox: RemoteInbox, endpoint: str) -> None:
        def again() -> None:
            self._disconnect(inbox)
            self._connect(inbox, endpoint, again=True)

        self._call(again)

    def _connect_control(self, endpoint: str) -> None:
        control = self._socket(zmq.DEALER)
        control.setsockopt(zmq.LINGER, CONTROL_LINGER_MS)
        control.connect(endpoint)
        self._control = control
        self._poller.register(control, zmq.POLLIN)

    def _socket(self, kind: int) -> zmq.Socket[Any]:
        socket: zmq.Socket[Any] = self._context.socket(kind)
        socket.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
        socket.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_PAYLOAD_BYTES)
        return socket

    def _close(self) -> None:
        for sender in self._senders.values():
            sender.close()
        for watched in list(self._watches):
            self._unwatch(watched)
        for data, inbox in self._inboxes.items():
            if inbox.connection in {"DISCONNECTED", "AUTH_FAILED"}:
                data.setsockopt(zmq.LINGER, 0)
        for socket in (*self._inboxes, self._router, self._control):
            if socket is not None:
                socket.close()
        if self._gate is not None:
            self._gate.socket.close()
        self._context.term()
        for endpoint in self._bound:
            if endpoint.startswith("ipc://"):
                Path(endpoint.removeprefix("ipc://")).unlink(missing_ok=True)
        os.close(self._wake_fd)
