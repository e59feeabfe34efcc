"""The supervisor: starts workers, watches them, restarts what dies, says how it stands."""

from __future__ import annotations

import shutil
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import zmq

from engine.clock import MonotonicClock, wall_clock_iso
from engine.errors import EngineError, TransportError
from engine.plan import Plan
from engine.runtime import messages as m
from engine.runtime.build import operator_class
from engine.runtime.changes import Changes
from engine.runtime.control import ControlSocket
from engine.runtime.freshness import Freshness
from engine.runtime.ledger import Ledger
from engine.runtime.processes import Forkserver, WorkerState, kill
from engine.runtime.recovery import Recovery, how_it_ended
from engine.runtime.rundir import make_run_dir
from engine.telemetry.stats import RunEvent, RunSnapshot
from engine.transport.slab import sweep_stale_slabs

POLL_MS = 100
START_TIMEOUT_NS = 60_000_000_000
DRAIN_TIMEOUT_NS = 10_000_000_000
LAST_CHANCE_NS = 4_000_000_000
HEARTBEAT_TIMEOUT_NS = 10_000_000_000
STUCK_MS = 30_000.0
EVENTS_KEPT = 200
LAST_WORDS_NS = 1_000_000_000

EXIT_OK = 0
EXIT_FAILED = 1  # a node, a stream or a worker failed for good
EXIT_DEGRADED = 3  # came to its end, but frames were quarantined or lost with a worker


@dataclass
class RunResult:
    """How a run ended."""

    exit_code: int
    snapshot: RunSnapshot
    failures: list[m.Failure] = field(default_factory=list)


class Run:
    """A graph that runs. The thread that calls `start` must live until `close` (PDEATHSIG)."""

    def __init__(
        self,
        plan: Plan,
        out_dir: Path,
        *,
        keep_open: bool = False,
        keys_dir: Path | None = None,
        on_event: Callable[[RunEvent], None] | None = None,
        stuck_ms: float = STUCK_MS,
    ) -> None:
        self.plan = plan
        self.out_dir = out_dir
        self.failures: list[m.Failure] = []
        self.finished = threading.Event()
        self.started = threading.Event()
        self.previews: dict[str, bytes] = {}  # latest value of each topic
        self.preview_changed = threading.Condition()
        self._ledger = Ledger(plan)
        self._freshness = Freshness(plan, int(stuck_ms * 1e6))
        self._events: deque[RunEvent] = deque(maxlen=EVENTS_KEPT)
        self._on_event = on_event
        self._keep_open = keep_open
        self._keys_dir = keys_dir
        self._clock = MonotonicClock()
        self._began_ns = self._clock.now_ns()
        self._ended_ns: int | None = None
        self._epochs: dict[str, int] = {}
        self._changes = Changes(plan)
        self._recovery = Recovery(plan)
        names = dict.fromkeys(node.worker for node in plan.nodes.values())
        self._workers = {name: WorkerState(name) for name in names}
        self._outgoing: deque[tuple[str | None, m.Message]] = deque()
        self._gone = False
        self._going = False
        self._stop_at_ns: int | None = None
        self._draining = False
        self._run_dir: Path | None = None
        self._control = ControlSocket()
        self._endpoint = ""
        self._forkserver: Forkserver | None = None
        self._thread: threading.Thread | None = None

    # ---- what a caller does

    def start(self) -> None:
        """Start every worker and return; `started` is set when sources may produce."""
        sweep_stale_slabs()
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self._run_dir = make_run_dir()
        self._endpoint = self._control.open(self._run_dir)
        self._forkserver = Forkserver(self._modules())
        for state in self._workers.values():
            self._launch(state)
        self._thread = threading.Thread(
            target=self._watch, name="frameloom-supervisor", daemon=True
        )
        self._thread.start()

    def stop(self, *, drain: bool = True) -> None:
        """Ask the run to end. With `drain` what is inside still comes out; files are finished."""
        self._tell(None, m.Stop(drain))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for the end; True when it has come."""
        return self.finished.wait(timeout_s)

    def close(self) -> RunResult:
        """End at once whatever still runs and leave nothing behind, also when `start` failed."""
        if self._thread is not None:
            if not self.finished.is_set():
                self.stop(drain=False)
                self.finished.wait(DRAIN_TIMEOUT_NS / 1e9)
            self._gone = True
            self._thread.join()
        if self._forkserver is not None:
            self._forkserver.close()
        self._control.close()
        if self._run_dir is not None:
            shutil.rmtree(self._run_dir, ignore_errors=True)
            sweep_stale_slabs()
        self.finished.set()
        return RunResult(self.exit_code, self.snapshot(), list(self.failures))

    def __enter__(self) -> Run:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def exit_code(self) -> int:
        if self.failures:
            return EXIT_FAILED
        return EXIT_DEGRADED if self._ledger.degraded else EXIT_OK

    def snapshot(self) -> RunSnapshot:
        """How everything stands now."""
        end_ns = self._ended_ns or self._clock.now_ns()
        seconds = (end_ns - self._began_ns) / 1e9
        return self._ledger.snapshot(seconds, list(self._events))

    def tune(self, node: str, name: str, value: Any, from_seq: int = 0) -> None:
        """Change a tunable of a node, from the frame `from_seq` on. EngineError: no such node."""
        message = m.Tune(node, name, msgspec.msgpack.encode(value), from_seq)
        self._tell(self._worker_of(node), message)

    def raise_epoch(self, stream_id: str, reason: str) -> int:
        """Make every frame of the stream that is under way stale; the new epoch."""
        epoch = self._epochs[stream_id] = self._epochs.get(stream_id, 0) + 1
        self._note("EPOCH", "", stream_id, f"epoch {epoch}: {reason}")
        self._tell(None, m.Epoch(stream_id, epoch))
        return epoch

    def add_stream(self, node: str, stream_id: str, config: dict[str, Any]) -> None:
        """Have a source produce one more stream. EngineError: there is no such node."""
        message = m.AddStream(node, stream_id, msgspec.msgpack.encode(config))
        self._tell(self._worker_of(node), message)

    def remove_stream(self, node: str, stream_id: str) -> None:
        """End one stream of a source. EngineError: there is no such node."""
        self._tell(self._worker_of(node), m.RemoveStream(node, stream_id))

    def _worker_of(self, node: str) -> str:
        if node not in self.plan.nodes:
            raise EngineError(f"no node '{node}'; there are {', '.join(self.plan.nodes)}")
        return self.plan.nodes[node].worker

    # ---- the watching thread

    def _watch(self) -> None:
        try:
            self._serve()
        except EngineError as error:
            self._fail(m.Failure("", "", "SUPERVISOR", str(error)))
        except Exception as error:  # noqa: BLE001  a run must never end without saying so
            told = (
                f"{type(error).__name__}: {error}; the run ends (this is a bug, please report it)"
            )
            self._fail(m.Failure("", "", "SUPERVISOR", told, traceback.format_exc()))
        finally:
            self._ended_ns = self._ended_ns or self._clock.now_ns()
            self.started.set()
            self.finished.set()

    def _serve(self) -> None:
        assert self._forkserver is not None
        poller = zmq.Poller()
        poller.register(self._control.socket, zmq.POLLIN)
        poller.register(self._forkserver.fileno(), zmq.POLLIN)
        while not self._gone:
            poller.poll(POLL_MS)
            while self._control.waiting():
                self._hear()
            for pid, status in self._forkserver.exits():
                self._exited(pid, status)
            self._send_outgoing()
            self._look()

    def _hear(self) -> None:
        try:
            heard = self._control.hear()
        except TransportError as error:
            self._note("BAD_MESSAGE", "", "", str(error))
            return
        state = self._workers.get(heard.worker)
        if state is None or heard.incarnation != state.incarnation:
            return  # the last words of a process that has been replaced
        state.address = heard.address
        state.heard_ns = self._clock.now_ns()
        self._react(state, heard.message)

    def _react(self, state: WorkerState, message: m.ToSupervisor) -> None:
        if isinstance(message, m.Heartbeat):
            self._ledger.update(state.name, message, self._clock.now_ns())
            self._check_fresh(state, message)
        elif isinstance(message, m.Publish):
            with self.preview_changed:
                if message.payload:
                    self.previews[message.topic] = message.payload
                else:
                    self.previews.pop(message.topic, None)
                self.preview_changed.notify_all()
        elif isinstance(message, m.Progress):
            self._relay_progress(state, message)
        elif isinstance(message, m.Report):
            self._record(message.event)
        elif isinstance(message, m.NodeFailed):
            self._fail(message.failure)
        elif isinstance(message, m.RaiseEpoch):
            self.raise_epoch(message.stream_id, message.reason)
        else:
            self._advance(state, message)

    def _advance(self, state: WorkerState, message: m.ToSupervisor) -> None:
        if isinstance(message, m.Listening):
            state.endpoint = message.endpoint
            state.phase = "listening"
            if self._stop_at_ns is None:
                self._introduce(state)
            else:
                self._post(state, m.Stop(drain=False))
        elif isinstance(message, m.Ready):
            state.phase = "ready"
            if self._going:
                self._post(state, m.Go())
            elif all(other.phase == "ready" for other in self._workers.values()):
                self._begin()
        elif isinstance(message, m.OpenFailed):
            for failure in message.failures:
                self._fail(failure)
                self._ledger.could_not_open(failure.node)
            if self._going:  # its second life failed: the others go on without it
                state.phase = "failed"
                self._post(state, m.Stop(drain=False))
                self._broadcast_gone(state, final=True)
            else:
                self._tell(None, m.Stop(drain=False))
        elif isinstance(message, m.Done):
            state.phase = "done"

    def _begin(self) -> None:
        if self.failures:  # some node could not be opened: nothing starts
            self._tell(None, m.Stop(drain=False))
            return
        self._going = True
        self._began_ns = self._clock.now_ns()
        self._tell(None, m.Go())
        self.started.set()

    def _introduce(self, state: WorkerState) -> None:
        """Tell a worker, or at the start everybody, where the others listen."""
        workers = self._workers.values()
        endpoints = {w.name: w.endpoint for w in workers if w.endpoint}
        if state.incarnation == 0:
            if len(endpoints) == len(workers):
                for other in workers:
                    self._remind(other, m.Peers(endpoints))
            return
        for other in workers:
            if other is not state and other.phase in ("opening", "ready"):
                self._post(other, m.PeerBack(state.name, state.endpoint))
        for other in workers:  # one that began again at the same time may have waited for this one
            if other.phase == "listening" and self._producers(other) <= endpoints.keys():
                self._remind(other, m.Peers(endpoints))

    def _producers(self, state: WorkerState) -> set[str]:
        """The workers that this one gets frames from."""
        placed = {node.name: node.worker for node in self.plan.nodes.values()}
        return {placed[e.producer] for e in self.plan.edges if placed[e.consumer] == state.name}

    def _remind(self, state: WorkerState, peers: m.Peers) -> None:
        """Have a worker open its nodes, and tell it what has changed meanwhile."""
        state.phase = "opening"
        changes = list(self._changes.for_worker(state.name))
        for epoch in (change for change in changes if isinstance(change, m.Epoch)):
            self._post(state, epoch)
        self._post(state, peers)
        for other in self._workers.values():
            if other.phase in ("done", "failed"):
                self._post(state, m.PeerGone(other.name, final=True))
        for change in changes:
            self._post(state, change)

    def _relay_progress(self, state: WorkerState, message: m.Progress) -> None:
        for other in self._workers.values():
            if other is not state and other.address:
                self._post(other, message)

    # ---- trouble

    def _exited(self, pid: int, status: int) -> None:
        state = next((w for w in self._workers.values() if w.pid == pid), None)
        if state is None:
            return
        state.pid = 0
        patience_ns = self._clock.now_ns() + (LAST_WORDS_NS if status == 0 else 0)
        while state.phase not in ("done", "failed") and self._clock.now_ns() < patience_ns:
            if self._control.waiting(POLL_MS):  # it has said so, but pipes are faster than sockets
                self._hear()
        if state.phase in ("done", "failed"):
            self._ledger.left(state.name, "stopped" if state.phase == "done" else "failed")
            return
        self._ledger.died(state.name)
        self._freshness.forget(state.name)
        sweep_stale_slabs()
        reason = None
        if self._going and self._stop_at_ns is None:
            reason = self._recovery.plan_restart(state, self._clock.now_ns())
        told = f"worker '{state.name}' {how_it_ended(status)}"
        if state.start_at_ns is None:
            state.phase = "failed"
            self._ledger.left(state.name, "failed")
            told += f": {reason}" if reason else ""
            self._fail(m.Failure("", "", "WORKER_LOST", told))
            self._broadcast_gone(state, final=True)
            return
        told += "; starting it again. What it had taken and not finished is lost"
        self._note("WORKER_LOST", "", "", told)
        self._broadcast_gone(state, final=False)
        state.phase = "down"

    def _broadcast_gone(self, state: WorkerState, *, final: bool) -> None:
        for other in self._workers.values():
            if other is not state and other.address and other.phase not in ("done", "failed"):
                self._post(other, m.PeerGone(state.name, final))

    def _check_fresh(self, state: WorkerState, beat: m.Heartbeat) -> None:
        now_ns = self._clock.now_ns()
        for finding in self._freshness.look(beat, self._ledger.edges(), now_ns):
            self._note(finding.code, finding.node, "", finding.message)
            if finding.code == "STUCK" and state.pid:
                kill(state.pid)

    def _look(self) -> None:
        """What no message announces: time-outs, due restarts, the end."""
        now_ns = self._clock.now_ns()
        for state in self._workers.values():
            if state.start_at_ns is not None and now_ns >= state.start_at_ns:
                state.start_at_ns = None
                self._launch(state)
            silent_ns = now_ns - max(state.heard_ns, state.started_ns)
            loading = state.phase in ("starting", "listening", "opening")  # weights take their time
            limit_ns = START_TIMEOUT_NS if loading else HEARTBEAT_TIMEOUT_NS
            if state.pid and state.phase not in ("done", "failed") and silent_ns > limit_ns:
                self._note("SILENT", "", "", f"worker '{state.name}' gave no sign; it is killed")
                state.heard_ns = now_ns
                kill(state.pid)
        if self._stop_at_ns is not None and now_ns > self._stop_at_ns:
            self._end_by_force(now_ns)
        if all(w.phase in ("done", "failed") and not w.pid for w in self._workers.values()):
            self._gone = True

    def _end_by_force(self, now_ns: int) -> None:
        """Time for an orderly end is over: files are finished as they are, then it is killed."""
        left = [state for state in self._workers.values() if state.pid]
        self._stop_at_ns = now_ns + LAST_CHANCE_NS
        if self._draining:
            self._draining = False
            names = ", ".join(f"'{state.name}'" for state in left)
            held = sum(edge.in_flight for edge in self._ledger.edges().values())
            told = f"not at its end after {DRAIN_TIMEOUT_NS // 1_000_000_000} s: {names};"
            self._note("DRAIN_TIMEOUT", "", "", f"{told} {held} frames are left out")
            for state in left:
                self._post(state, m.Stop(drain=False))
            return
        for state in left:
            kill(state.pid)

    def _fail(self, failure: m.Failure) -> None:
        self.failures.append(failure)
        self._note(failure.code, failure.node, failure.stream_id, failure.message)

    # ---- small things

    def _launch(self, state: WorkerState) -> None:
        assert self._forkserver is not None
        state.incarnation += 1
        state.phase = "starting"
        state.endpoint = ""
        state.address = b""
        state.started_ns = state.heard_ns = self._clock.now_ns()
        request = m.Spawn(
            worker=state.name,
            number=list(self._workers).index(state.name),
            incarnation=state.incarnation,
            plan=self.plan,
            control=self._endpoint,
            run_dir=str(self._run_dir),
            out_dir=str(self.out_dir),
            keys_dir=str(self._keys_dir) if self._keys_dir else None,
            keep_open=self._keep_open,
        )
        state.pid = self._forkserver.spawn(request)
        self._ledger.started(state.name, state.pid, state.incarnation)

    def _modules(self) -> list[str]:
        """Modules to import before forking: the operators' and what these name as needed."""
        modules: dict[str, None] = {}
        for node in self.plan.nodes.values():
            modules[node.op.partition(":")[0]] = None
            modules.update(dict.fromkeys(operator_class(node.op).preload))
        return list(modules)

    def _tell(self, worker: str | None, message: m.Message) -> None:
        """From any thread: have the watching thread send this."""
        self._outgoing.append((worker, message))

    def _send_outgoing(self) -> None:
        while self._outgoing:
            worker, message = self._outgoing.popleft()
            if isinstance(message, m.Stop):
                self._stop(message)
                continue
            self._changes.remember(message, going=self._going)
            for state in self._workers.values():  # the others are told when they open their nodes
                if worker in (None, state.name) and state.phase in ("opening", "ready"):
                    self._post(state, message)

    def _stop(self, message: m.Stop) -> None:
        drain = message.drain and self._going  # before that nothing is inside
        due_ns = self._clock.now_ns() + (DRAIN_TIMEOUT_NS if drain else DRAIN_TIMEOUT_NS // 3)
        self._stop_at_ns = min(self._stop_at_ns or due_ns, due_ns)
        self._draining = drain
        for state in self._workers.values():
            if state.phase in ("opening", "ready"):
                self._post(state, m.Stop(drain))
            elif state.phase in ("down", "starting", "listening"):  # it is not worth waiting for
                if state.start_at_ns is not None:
                    state.start_at_ns = None
                    state.phase = "failed"
                elif state.phase == "listening":
                    self._post(state, m.Stop(drain=False))
                self._broadcast_gone(state, final=True)

    def _post(self, state: WorkerState, message: m.Message) -> None:
        if not self._control.post(state.address, message):
            told = f"worker '{state.name}' does not read its commands: one was lost"
            self._note("CONTROL_LOST", "", "", told)

    def _note(self, code: str, node: str, stream_id: str, message: str) -> None:
        self._record(
            RunEvent(
                code=code, node=node, stream_id=stream_id, message=message, time=wall_clock_iso()
            )
        )

    def _record(self, event: RunEvent) -> None:
        self._events.append(event)
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception as error:  # noqa: BLE001  the run goes on, whoever watches it
            self._on_event = None
            told = f"no further events are told there: {type(error).__name__}: {error}"
            self._note("OBSERVER_FAILED", "", "", told)
