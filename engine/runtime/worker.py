"""A worker: one process that runs the lanes of its nodes and talks to its supervisor."""

from __future__ import annotations

import gc
import os
import queue
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from engine.clock import Clock, MonotonicClock, wall_clock_iso
from engine.device.opening import Devices
from engine.errors import EngineError, OperatorError
from engine.plan import PlannedEdge
from engine.runtime import messages as m
from engine.runtime.build import (
    NodeParts,
    close_outboxes,
    open_inbox,
    thread_budget,
    tuned_value,
)
from engine.runtime.flow import FlowLimit
from engine.runtime.lane import NodeLane
from engine.runtime.rundir import worker_socket
from engine.runtime.source import SourceLane
from engine.telemetry.doubling import Doubling
from engine.telemetry.stats import RunEvent, WorkerStats
from engine.transport.epochs import EpochTable
from engine.transport.hub import Hub
from engine.transport.keys import KeyRing
from engine.transport.link import Inbox
from engine.transport.outbox import Outbox

HEARTBEAT_S = 0.25
EPOCH_PATIENCE_S = 5.0  # for the supervisor to answer
LAST_WORDS_S = 0.05  # for the I/O thread to say why the process ends
SWITCH_INTERVAL_S = 0.0005  # a lane that has work must not wait 5 ms for the GIL


class Worker:
    """Implements `LaneHost` for its lanes. Commands are handled in the main thread, one by one."""

    def __init__(self, spawn: m.Spawn) -> None:
        plan = spawn.plan
        self.clock: Clock = MonotonicClock()
        self.mode = plan.mode
        self.out_dir = Path(spawn.out_dir)
        self.incarnation = spawn.incarnation
        live = plan.mode == "live" and plan.latency_budget_ms is not None
        self.latency_budget_ns = plan.latency_budget_ms * 1_000_000 if live else None  # type: ignore[operator]
        self.threads = thread_budget(plan)
        self.devices = Devices()
        self.epochs = EpochTable()
        self._spawn = spawn
        self._plan = plan
        self._name = spawn.worker
        self._identity = f"{spawn.worker}:{spawn.incarnation}".encode()
        self._flow = FlowLimit(plan)
        self._commands: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._parts: dict[str, NodeParts] = {}
        self._remote: dict[str, list[Any]] = {}  # producer worker -> inboxes fed by it
        self._ended: queue.SimpleQueue[NodeLane | SourceLane] = queue.SimpleQueue()
        self._go = threading.Event()
        self._abort = threading.Event()
        self._malformed, self._refused = Doubling(), Doubling()
        self._running = True
        self._stopping = False
        keys = KeyRing.load(Path(spawn.keys_dir)) if spawn.keys_dir else None
        self._hub = Hub(
            self._name,
            self.clock,
            self.epochs,
            keys=keys,
            devices=self.devices,
            on_control=self._on_control,
        )

    # ---- what lanes ask

    @property
    def aborted(self) -> bool:
        return self._abort.is_set()

    @property
    def going(self) -> bool:
        return self._go.is_set() and not self.aborted

    def wait_go(self) -> bool:
        self._go.wait()
        return not self.aborted

    def epoch_of(self, stream_id: str) -> int:
        return self.epochs.current(stream_id)

    def raise_epoch(self, stream_id: str, reason: str) -> bool:
        before = self.epochs.current(stream_id)
        self._send(m.RaiseEpoch(stream_id, reason))
        return self.epochs.wait_beyond(stream_id, before, EPOCH_PATIENCE_S, self._abort.is_set)

    def report(self, code: str, node: str, stream_id: str, message: str) -> None:
        event = RunEvent(
            code=code, node=node, stream_id=stream_id, message=message, time=wall_clock_iso()
        )
        self._send(m.Report(event))

    def publish(self, topic: str, payload: bytes) -> None:
        self._send(m.Publish(topic, payload))

    def admit(self, node: str, stream_id: str, seq: int) -> bool:
        return self._flow.admit(node, stream_id, seq, self.clock.now_ns())

    def progress(self, node: str, stream_id: str, seq: int) -> None:
        if not self._flow.active or self._parts[node].outboxes:
            return
        self._flow.done(node, stream_id, seq)
        if len(self._plan.workers) > 1 or any(
            other.worker != self._name for other in self._plan.nodes.values()
        ):
            self._send(m.Progress(node, stream_id, seq))

    def stream_ended(self, stream_id: str) -> None:
        self._flow.forget(stream_id)

    def node_failed(self, node: str, stream_id: str, error: BaseException, detail: str) -> None:
        self._send(m.NodeFailed(failure(node, stream_id, error, detail)))

    def device_lost(self, node: str, stream_id: str, error: BaseException) -> None:
        """Without closing anything: that would call the device, and wait for it."""
        self.report("DEVICE_LOST", node, stream_id, str(error))
        time.sleep(LAST_WORDS_S)
        os._exit(m.DEVICE_LOST_STATUS)

    def lane_ended(self, lane: NodeLane | SourceLane) -> None:
        self._ended.put(lane)
        self._commands.put(b"")

    def outbox(self, edge: PlannedEdge) -> Outbox:
        return self._parts[edge.producer].outboxes[edge.id]

    # ---- life

    def run(self) -> int:
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        try:
            self._build()
            self._hub.start()
            self._hub.connect_control(self._spawn.control)
            self._send(m.Listening(self._hub.listen(self._endpoint())))
            self._serve()
        except Exception as error:  # noqa: BLE001  the supervisor must hear why
            failed = failure("", "", error, traceback.format_exc())
            self._send(m.OpenFailed((failed,)))
            return 1
        finally:
            self._end()
        return 0

    def _endpoint(self) -> str:
        spec = self._plan.workers.get(self._name)
        if spec is not None and spec.host is not None:
            return f"tcp://{spec.host}:0"
        name = worker_socket(self._spawn.number, self.incarnation)
        return f"ipc://{self._spawn.run_dir}/{name}"

    def _build(self) -> None:
        spec = self._plan.workers.get(self._name)
        if spec is not None and spec.nice:
            os.nice(spec.nice)
        for node in self._plan.nodes.values():
            if node.worker == self._name:
                self._parts[node.name] = NodeParts(self, self._plan, node, self._hub)
        if "cv2" in sys.modules:
            sys.modules["cv2"].setNumThreads(self.threads)

    def _serve(self) -> None:
        beat = self.clock.now_ns()
        while self._running:
            patience = max(HEARTBEAT_S - (self.clock.now_ns() - beat) / 1e9, 0.0)
            try:
                self._handle(self._commands.get(timeout=patience))
            except queue.Empty:
                beat = self.clock.now_ns()
                self._send(self._heartbeat(final=False))
                self._retire_ended()
                self._tell_trouble()

    def _handle(self, payload: bytes) -> None:
        if payload:
            message = m.decode_to_worker(payload)
            self._handlers()[type(message)](message)
        self._retire_ended()

    def _handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            m.Peers: self._on_peers,
            m.Go: lambda _: self._go.set(),
            m.Stop: self._on_stop,
            m.PeerGone: self._on_peer_gone,
            m.PeerBack: self._on_peer_back,
            m.Epoch: self._on_epoch,
            m.Tune: self._on_tune,
            m.AddStream: self._on_add_stream,
            m.RemoveStream: self._on_remove_stream,
            m.Progress: lambda p: self._flow.done(p.node, p.stream_id, p.seq),
        }

    # ---- commands

    def _on_peers(self, message: m.Peers) -> None:
        lanes: list[NodeLane | SourceLane] = []
        failures: list[m.Failure] = []
        for name, parts in self._parts.items():
            try:
                self.devices.require(parts.node.device)
                lanes.extend(self._make_lanes(parts, message.endpoints))
            except (EngineError, ImportError, msgspec.ValidationError) as error:
                failures.append(failure(name, name, error, traceback.format_exc()))
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.opened.wait()
        if failures:
            self._send(m.OpenFailed(tuple(failures)))
            return
        gc.collect()
        gc.freeze()
        self._send(m.Ready())

    def _make_lanes(
        self, parts: NodeParts, endpoints: dict[str, str]
    ) -> list[NodeLane | SourceLane]:
        node = parts.node
        if parts.is_source:
            streams = node.streams
            if not streams and not self._spawn.keep_open:
                streams = {node.name: node.config}
            return list(parts.make_source_lanes(streams))
        inboxes: dict[str, Inbox] = {}
        for edge in self._plan.inputs_of(node.name):
            producer = self._plan.nodes[edge.producer].worker
            inbox = open_inbox(self, edge, self._hub, endpoints.get(producer))
            inboxes[edge.consumer_port] = inbox
            if edge.link != "inproc":
                self._remote.setdefault(producer, []).append(inbox)
        return [parts.make_node_lane(inboxes)]

    def _on_stop(self, message: m.Stop) -> None:
        self._stopping = True
        if not message.drain:
            self._abort.set()
            for parts in self._parts.values():
                for outbox in parts.outboxes.values():
                    outbox.wake()
        self._go.set()
        for parts in self._parts.values():
            for lane in parts.lanes:
                if isinstance(lane, SourceLane):
                    lane.stop()
                    continue
                if not message.drain:
                    lane.ctx.stop.set()
                lane.bell.set()

    def _on_peer_gone(self, message: m.PeerGone) -> None:
        if not message.final:
            return  # see `_on_control`
        self._free_what_it_held(message.worker)
        for edge in self._plan.edges:
            parts = self._parts.get(edge.producer)
            if parts is not None and self._plan.nodes[edge.consumer].worker == message.worker:
                parts.outboxes[edge.id].abandon()
        for inbox in self._remote.get(message.worker, ()):
            inbox.close()

    def _on_peer_back(self, message: m.PeerBack) -> None:
        for inbox in self._remote.get(message.worker, ()):
            inbox.reconnect(message.endpoint)

    def _on_epoch(self, message: m.Epoch) -> None:
        self.epochs.raise_to(message.stream_id, message.epoch)
        for parts in self._parts.values():
            for outbox in parts.outboxes.values():
                outbox.flush_epoch(message.stream_id, message.epoch)

    def _on_tune(self, message: m.Tune) -> None:
        parts = self._parts.get(message.node)
        if parts is None:
            return
        try:
            config = msgspec.convert(parts.node.config, parts.kind.config_type)
            value = tuned_value(config, message.name, msgspec.msgpack.decode(message.value))
        except (EngineError, msgspec.ValidationError) as error:
            self.report("BAD_TUNE", message.node, "", f"{message.name}: {error}")
            return
        for lane in parts.lanes:
            lane.tune(message.name, value, message.from_seq)

    def _on_add_stream(self, message: m.AddStream) -> None:
        parts = self._parts.get(message.node)
        if parts is None or not parts.is_source or self._stopping:
            return
        if message.stream_id in parts.stream_ids:
            self.report("BAD_STREAM", message.node, message.stream_id, "there is one of that name")
            return
        config = parts.node.config | msgspec.msgpack.decode(message.config)
        try:
            lanes = parts.make_source_lanes({message.stream_id: config})
        except msgspec.ValidationError as error:
            self.report("BAD_STREAM", message.node, message.stream_id, str(error))
            return
        for lane in lanes:
            lane.start()

    def _on_remove_stream(self, message: m.RemoveStream) -> None:
        parts = self._parts.get(message.node)
        for lane in parts.lanes if parts else ():
            if isinstance(lane, SourceLane):
                lane.stop(message.stream_id)

    # ---- the rest

    def _retire_ended(self) -> None:
        if not self._go.is_set():
            return
        while not self._ended.empty():
            lane = self._ended.get()
            lane.join()
            self._parts[lane.node.name].retire(lane)
        for parts in self._parts.values():
            over = not parts.lanes and (self._stopping or not self._spawn.keep_open)
            if over and parts.is_source:
                close_outboxes(parts)
        ended = not any(parts.lanes for parts in self._parts.values())
        if ended and (self._stopping or not self._spawn.keep_open):
            self._running = not self._drained()

    def _tell_trouble(self) -> None:
        if self._malformed.risen_to(self._hub.malformed):
            told = f"worker '{self._name}' got {self._hub.malformed} messages that are for no edge"
            self.report("MALFORMED", "", "", told)
        if self._refused.risen_to(self._hub.refused):
            told = f"worker '{self._name}' refused {self._hub.refused} connections: unknown keys"
            self.report("REFUSED", "", "", told)
        for parts in self._parts.values():
            for outbox in parts.outboxes.values():
                if outbox.slab_error is not None:
                    self.report("SHM_FULL", parts.node.name, "", outbox.slab_error)
                    outbox.slab_error = None

    def _drained(self) -> bool:
        """Whether everything sent to other workers has arrived there, the ends too."""
        return self.aborted or all(
            outbox.stats().in_flight == 0 and self._hub.over(edge_id)
            for parts in self._parts.values()
            for edge_id, outbox in parts.outboxes.items()
        )

    def _heartbeat(self, *, final: bool) -> m.Heartbeat:
        now_ns = self.clock.now_ns()
        nodes = {name: parts.stats() for name, parts in self._parts.items()}
        edges = {k: v for parts in self._parts.values() for k, v in parts.edges().items()}
        stuck = {
            lane.node.name: (now_ns - since) / 1e6
            for parts in self._parts.values()
            for lane in parts.lanes
            if (since := lane.busy_since_ns) is not None
        }
        stats = worker_stats(self._name, self.incarnation)
        stats.malformed, stats.refused = self._hub.malformed, self._hub.refused
        return m.Heartbeat(stats, nodes, edges, stuck, final)

    def _on_control(self, parts: list[bytes]) -> None:
        payload = bytes(parts[-1])
        with suppress(msgspec.DecodeError):  # the main thread will say so
            message = m.decode_to_worker(payload)
            if isinstance(message, m.PeerGone) and not message.final:
                self._free_what_it_held(message.worker)
        self._commands.put(payload)

    def _free_what_it_held(self, worker: str) -> None:
        """At once, in the I/O thread: later its next life might have said hello already."""
        for edge in self._plan.edges:
            if self._plan.nodes[edge.consumer].worker == worker and edge.producer in self._parts:
                self._hub.peer_gone(edge.id)

    def _send(self, message: m.Message) -> None:
        self._hub.send_control([self._identity, m.encode(message)])

    def _end(self) -> None:
        self._abort.set()
        self._go.set()
        for parts in self._parts.values():
            for outbox in parts.outboxes.values():
                outbox.wake()
            for lane in parts.lanes:
                if isinstance(lane, NodeLane):
                    lane.bell.set()
        self._send(self._heartbeat(final=True))
        self._send(m.Done())
        self._hub.stop()


def failure(node: str, stream_id: str, error: BaseException, detail: str) -> m.Failure:
    """An exception as it is told to the supervisor; known causes need no traceback."""
    if isinstance(error, OperatorError):
        return m.Failure(node, stream_id, error.code, error.message)
    if isinstance(error, EngineError):
        return m.Failure(node, stream_id, type(error).__name__, str(error))
    return m.Failure(node, stream_id, type(error).__name__, str(error), detail)


def worker_stats(worker: str, incarnation: int) -> WorkerStats:
    """What this process uses."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return WorkerStats(
        worker=worker,
        pid=os.getpid(),
        restarts=incarnation,
        rss_bytes=pages * resource.getpagesize(),
        cpu_seconds=time.process_time(),
        threads=threading.active_count(),
        state="running",
    )


def run_worker(request: dict[str, Any]) -> int:
    """Entry point in a freshly forked process, which ignores SIGINT, SIGTERM and SIGHUP."""
    return Worker(msgspec.convert(request, m.Spawn)).run()
