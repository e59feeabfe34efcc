"""The thread that runs a node: take, process, send. One bad frame stops nothing else."""

from __future__ import annotations

import threading
import traceback
from functools import partial
from typing import Any, TypeGuard

from engine.contract import Operator
from engine.errors import DeviceError, DeviceLostError, OperatorError
from engine.frame import Frame, Signal, StreamEnd, Watermark
from engine.plan import PlannedNode
from engine.runtime.calls import Call, Calls
from engine.runtime.circuit import Circuit
from engine.runtime.context import LaneContext
from engine.runtime.host import LaneHost
from engine.runtime.outlets import Outlets, Taint
from engine.runtime.provenance import Provenance
from engine.runtime.quarantine import Quarantine
from engine.runtime.tunes import Tunes
from engine.runtime.work import Inputs, Work
from engine.telemetry.stats import NodeStats

FIRST_RETRY_NS = 500_000_000
LONGEST_RETRY_NS = 10_000_000_000


def may_open_later(error: BaseException, host: LaneHost) -> TypeGuard[OperatorError]:
    """Whether a node that could not open is tried again: live, and not before the first start."""
    again = host.mode == "live" and (host.incarnation > 0 or host.going)
    return again and isinstance(error, OperatorError) and not error.permanent


class NodeLane(threading.Thread):
    """Runs a node that has inputs, from `open` to `close`, all in this thread."""

    def __init__(
        self,
        host: LaneHost,
        node: PlannedNode,
        operator: Operator[Any],
        inputs: Inputs,
        outlets: Outlets,
        stats: NodeStats,
    ) -> None:
        super().__init__(name=f"frameloom-{node.name}", daemon=True)
        self.node = node
        self.stats = stats
        self.bell = threading.Event()
        self.busy_since_ns: int | None = None
        self.opened = threading.Event()
        self._host = host
        self._operator = operator
        self._inputs = inputs
        self._outlets = outlets
        self.ctx = LaneContext(host, node.name, node.name, node.device, host.threads)
        self._calls = Calls()
        if host.mode == "live":
            self.ctx.calls = self._calls
        self._circuit = Circuit()
        self._quarantine = Quarantine(host.out_dir, node.name)
        self._epochs: dict[str, int] = {}
        self._over: set[str] = set()  # streams whose end has been told before it came
        self._tunes = Tunes()
        self._provenance = Provenance(operator, outlets.lead_nowhere)
        self._told_unmarked: set[str] = set()  # streams
        self._is_open = False
        self._failed = False
        self._retry_ns = FIRST_RETRY_NS
        self._retry_at_ns: int | None = None

    def tune(self, name: str, value: Any, from_seq: int) -> None:
        """Have a tunable changed before the first frame with `seq >= from_seq`."""
        self._tunes.add(name, value, from_seq)
        self.bell.set()

    def run(self) -> None:
        try:
            self._open()
            self.opened.set()
            if self._host.wait_go() and not self._failed:
                if self._is_open:
                    self.stats.state = "running"
                self._loop()
        except BaseException as error:  # noqa: BLE001  a lane must never die without saying so
            self._fail(error)
        finally:
            self.opened.set()
            self._finish()

    def _open(self) -> None:
        try:
            self.ctx.open(self._operator)
            self._is_open = True
        except BaseException as error:  # noqa: BLE001  whatever stops a node is reported
            self.ctx.release()
            if may_open_later(error, self._host):
                self._try_later(error, self.node.name, self._host.clock.now_ns())
            else:
                self._fail(error)

    def _loop(self) -> None:
        host = self._host
        while not host.aborted:
            self.bell.clear()
            now_ns = host.clock.now_ns()
            step = self._inputs.next(now_ns)
            if isinstance(step, Work):
                self._work(step)
            elif step is not None:
                self._signal(step)
            call = self._calls.take(host.clock.now_ns(), busy=step is not None)
            if call is not None:
                self._call(call)
            elif step is None:
                if self._inputs.finished:
                    return
                self._rest(now_ns)

    def _rest(self, now_ns: int) -> None:
        """Until the bell rings, or a batch or a call is due."""
        waits = [self._inputs.wait_ns(now_ns), self._calls.wait_ns(now_ns)]
        wait_ns = min((wait for wait in waits if wait is not None), default=None)
        if wait_ns is None:
            self.bell.wait()
        else:
            self._host.clock.wait(self.bell, wait_ns)

    # ---- frames

    def _work(self, work: Work) -> None:
        now_ns = self._host.clock.now_ns()
        newest = work.newest
        axis_ns = newest.stamp.pts_ns if self.ctx.mode == "file" else now_ns
        if not self._is_open:
            self._retry(now_ns)
        if self._is_open:
            self._follow_epochs(work)
        if not self._is_open or self._circuit.is_open(axis_ns):
            self._pass_by(work)
            return
        if (unmarked := self._provenance.refused(work)) is not None:
            self._refuse_unmarked(unmarked, work)
            return
        if self.stats.state == "open_circuit":
            self.stats.state = "running"
        self._tunes.apply(self._operator, newest.stamp.seq)
        self._process(work, now_ns, axis_ns)

    def _process(self, work: Work, now_ns: int, axis_ns: int) -> None:
        self.busy_since_ns = now_ns
        self._provenance.note(work)
        try:
            process = partial(self._operator.process, **work.arguments)
            result = self.ctx.run(process, work.all_frames())
            self._outlets_of(work, result)
            self._retry_ns = FIRST_RETRY_NS
        except DeviceLostError as error:
            self._host.device_lost(self.node.name, work.newest.stamp.stream_id, error)
        except (OperatorError, DeviceError) as error:
            for inbox, frame in work.frames:
                inbox.dropped("quarantined")
                self._outlets.skip(frame)
            self._give_up(error, work.newest.stamp.stream_id, now_ns)
        except BaseException as error:  # noqa: BLE001  also SystemExit: the stream goes on
            self._bad_frame(error, work, axis_ns)
        finally:
            self.busy_since_ns = None
        self._book(work, now_ns)

    def _outlets_of(self, work: Work, result: Any) -> None:
        process_end_ns = self._host.clock.now_ns()
        self.stats.busy.add(process_end_ns - (self.busy_since_ns or process_end_ns))
        self.busy_since_ns = None  # waiting for room downstream is not being stuck
        if result is not None:
            trusted = self._provenance.trusted
            self._outlets.send_result(result, work.newest, work.taint, work.all_frames(), trusted)
            return
        for _, frame in work.frames:  # in order: of a stream's marks the last one counts
            self._outlets.skip(frame)

    def _call(self, call: Call) -> None:
        """What `_process` does, without a frame that could be kept or dropped."""
        now_ns = self._host.clock.now_ns()
        if not self._is_open or self._circuit.is_open(now_ns):
            return
        self.busy_since_ns = now_ns
        try:
            result = self.ctx.run(call.make)
            self.stats.busy.add(self._host.clock.now_ns() - now_ns)
            self.busy_since_ns = None  # waiting for room downstream is not being stuck
            if result is not None:
                taint = self._provenance.of_call(call.stream_id)
                self._outlets.send_result(result, None, taint, (), self._provenance.trusted)
        except DeviceLostError as error:
            self._host.device_lost(self.node.name, call.stream_id, error)
        except (OperatorError, DeviceError) as error:
            self._give_up(error, call.stream_id, now_ns)
        except BaseException as error:  # noqa: BLE001  as in `_process`: the stream goes on
            self.stats.error = f"{type(error).__name__}: {error}"
            told = f"called without a frame: {self.stats.error}"
            self._host.report("CALL_FAILED", self.node.name, call.stream_id, told)
            self._count_failure(error, call.stream_id, now_ns)
        finally:
            self.busy_since_ns = None

    def _book(self, work: Work, start_ns: int) -> None:
        now_ns = self._host.clock.now_ns()
        self.stats.frames += len(work.frames)
        for _, frame in work.frames:
            self.stats.age.add(now_ns - frame.stamp.capture_ns)
            self._host.progress(self.node.name, frame.stamp.stream_id, frame.stamp.seq)

    def _pass_by(self, work: Work) -> None:
        self._refuse(work)
        for _, frame in work.frames:
            if frame.stamp.stream_id not in self._over:
                self._outlets.skip(frame)

    def _refuse(self, work: Work) -> None:
        for inbox, frame in work.frames:
            inbox.dropped("quarantined")
            self._host.progress(self.node.name, frame.stamp.stream_id, frame.stamp.seq)

    def _refuse_unmarked(self, frame: Frame, work: Work) -> None:
        """Not kept in the quarantine either: that would be one way more out of the graph."""
        self._pass_by(work)
        self.stats.quarantined += len(work.frames)
        stamp = frame.stamp
        self.stats.error = (
            f"frame seq {stamp.seq} of '{stamp.stream_id}' is synthetic and nothing on it says so: "
            "it is not shown. Put operators.video.mark:Mark between, behind all that changes pixels"
        )
        if stamp.stream_id not in self._told_unmarked:
            self._told_unmarked.add(stamp.stream_id)
            told = f"{self.stats.error}. Later ones are counted, not told"
            self._host.report("UNMARKED", self.node.name, stamp.stream_id, told)

    def _bad_frame(self, error: BaseException, work: Work, axis_ns: int) -> None:
        trace = traceback.format_exc()
        for inbox, frame in work.frames:
            inbox.dropped("quarantined")
            self._keep(frame, trace)
            self._outlets.skip(frame)
        self.stats.quarantined += len(work.frames)
        self.stats.error = f"{type(error).__name__}: {error}"
        stamp = work.newest.stamp
        self._host.report(
            "QUARANTINED",
            self.node.name,
            stamp.stream_id,
            f"frame seq {stamp.seq} pts {stamp.pts_seconds:.3f} s: {self.stats.error}",
        )
        self._count_failure(error, stamp.stream_id, axis_ns)

    def _count_failure(self, error: BaseException, stream_id: str, axis_ns: int) -> None:
        if self._circuit.failed(axis_ns):
            self.stats.state = "open_circuit"
            told = f"too many failures in a row; frames pass it by for a while. Last: {error}"
            self._host.report("CIRCUIT_OPEN", self.node.name, stream_id, told)

    def _keep(self, frame: Frame, trace: str) -> None:
        try:
            self._quarantine.keep(frame, trace)
        except OSError as error:  # a full disk must not stop what still works
            told = f"frame seq {frame.stamp.seq} could not be kept: {error}"
            self._host.report("QUARANTINE_FAILED", self.node.name, frame.stamp.stream_id, told)

    # ---- failing and coming back

    def _give_up(self, error: OperatorError | DeviceError, stream_id: str, now_ns: int) -> None:
        if self.ctx.mode == "file" or not isinstance(error, OperatorError) or error.permanent:
            self._close()
            self._fail(error)
            return
        self._close()
        self._try_later(error, stream_id, now_ns)

    def _try_later(self, error: OperatorError, stream_id: str, now_ns: int) -> None:
        self.stats.state = "retrying"
        self.stats.error = str(error)
        self._host.report(error.code, self.node.name, stream_id, error.message)
        self._retry_at_ns = now_ns + self._retry_ns
        self._retry_ns = min(self._retry_ns * 2, LONGEST_RETRY_NS)

    def _retry(self, now_ns: int) -> None:
        if self._failed or self._retry_at_ns is None or now_ns < self._retry_at_ns:
            return
        self._retry_at_ns = now_ns + self._retry_ns
        self._retry_ns = min(self._retry_ns * 2, LONGEST_RETRY_NS)
        try:
            self.ctx.open(self._operator)
        except Exception as error:  # noqa: BLE001  whatever stops a node from opening is reported
            self.ctx.release()
            self.stats.error = str(error)
            if not isinstance(error, OperatorError) or error.permanent:
                self._fail(error)
        else:
            self._is_open = True
            self._retry_at_ns = None
            self.stats.restarts += 1
            self.stats.state = "running"
            self.stats.error = None

    def _fail(self, error: BaseException) -> None:
        self._failed = True
        self.stats.state = "failed"
        self.stats.error = str(error)
        self._host.node_failed(self.node.name, self.node.name, error, traceback.format_exc())
        for stream_id in self._epochs:
            self._outlets.signal(StreamEnd(stream_id, str(error)))
        self._over.update(self._epochs)
        self._epochs.clear()

    # ---- signals, epochs

    def _signal(self, signal: Signal) -> None:
        stream_id = signal.stream_id
        if isinstance(signal, Watermark):
            self._host.progress(self.node.name, stream_id, signal.seq)
        else:
            self._reset(stream_id, send=True)
        if stream_id not in self._over:
            self._outlets.signal(signal)
        if isinstance(signal, StreamEnd):
            self._epochs.pop(stream_id, None)
            self._over.discard(stream_id)
            self._told_unmarked.discard(stream_id)

    def _follow_epochs(self, work: Work) -> None:
        for _, frame in work.frames:
            stamp = frame.stamp
            known = self._epochs.setdefault(stamp.stream_id, stamp.epoch)
            if stamp.epoch > known:
                self._epochs[stamp.stream_id] = stamp.epoch
                if not self.ctx.asked_for(stamp):
                    self._reset(stamp.stream_id, send=False)

    def _reset(self, stream_id: str, *, send: bool) -> None:
        if not self._is_open:
            return
        self.busy_since_ns = self._host.clock.now_ns()
        taint: Taint | None = None
        try:
            rest = self.ctx.run(partial(self._operator.reset, stream_id))
            taint = self._provenance.of_rest(stream_id)
        except OperatorError as error:
            rest = None
            self._close()
            self._fail(error)
        except Exception as error:  # noqa: BLE001  the stream is over or broken anyway: say it, go on
            rest = None
            self._host.report("RESET_FAILED", self.node.name, stream_id, str(error))
        finally:
            self.busy_since_ns = None
        self.ctx.forget(stream_id)
        if send and rest is not None:
            self._outlets.send_result(rest, None, taint, (), self._provenance.trusted)

    # ---- the end

    def _finish(self) -> None:
        for stream_id in list(self._epochs):  # streams whose end never came
            self._reset(stream_id, send=True)
            if stream_id not in self._over:
                self._outlets.signal(StreamEnd(stream_id, "ended without a StreamEnd"))
        self._close()
        self._outlets.close()
        if not self._failed:
            self.stats.state = "finished"
        self._drain_inputs()
        self._host.lane_ended(self)

    def _drain_inputs(self) -> None:
        """A node that is over keeps taking, so that nobody upstream waits for it."""
        while not self._host.aborted and self._host.going:
            self.bell.clear()
            step = self._inputs.next(self._host.clock.now_ns())
            if isinstance(step, Work):
                self._refuse(step)
            elif step is None:
                if self._inputs.closed:
                    return
                self.bell.wait()

    def _close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        try:
            self.ctx.run(self._operator.close)
        except Exception as error:  # noqa: BLE001  a failing close must not hide what came before
            self._host.node_failed(self.node.name, self.node.name, error, traceback.format_exc())
        finally:
            self.ctx.release()
