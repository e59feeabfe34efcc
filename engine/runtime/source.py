"""The thread that runs a source: one stream when live, all of a node's in turn for files."""

from __future__ import annotations

import threading
import traceback
from typing import Any

from engine.contract import Operator
from engine.errors import DeviceLostError, EndOfStream, OperatorError
from engine.frame import Discontinuity, Frame, StreamEnd
from engine.plan import PlannedNode
from engine.runtime.context import LaneContext
from engine.runtime.host import LaneHost
from engine.runtime.lane import FIRST_RETRY_NS, LONGEST_RETRY_NS, may_open_later
from engine.runtime.outlets import Outlets, split_result
from engine.runtime.tunes import Tunes
from engine.telemetry.stats import NodeStats


class Stream:
    """One stream of a source: its operator, its context and where it stands."""

    def __init__(
        self, host: LaneHost, node: PlannedNode, stream_id: str, op: Operator[Any]
    ) -> None:
        self.stream_id = stream_id
        self.operator = op
        self.ctx = LaneContext(host, node.name, stream_id, node.device, host.threads)
        self.tunes = Tunes()
        self.last_pts_ns = -1
        self.is_open = False
        self.retry_ns = FIRST_RETRY_NS
        self.trouble: OperatorError | None = None  # why it is not open yet


class SourceLane(threading.Thread):
    """Calls `process` of its streams until each raises EndOfStream, fails or is removed.

    In a file graph one lane serves all streams of a node, always the one that is least far on in
    pts, so that what goes downstream is the same every time. Live, each stream has its own lane.
    """

    def __init__(
        self,
        host: LaneHost,
        node: PlannedNode,
        streams: list[Stream],
        outlets: Outlets,
        stats: NodeStats,
    ) -> None:
        names = "+".join(stream.stream_id for stream in streams)
        super().__init__(name=f"frameloom-{node.name}-{names}"[:60], daemon=True)
        self.node = node
        self.streams = streams
        self.stats = stats
        self.opened = threading.Event()
        self.busy_since_ns: int | None = None  # a source may wait for its camera: never stuck
        self._host = host
        self._outlets = outlets
        self._failed = False

    def stop(self, stream_id: str | None = None) -> None:
        """Have one stream, or all, end at the next chance."""
        for stream in self.streams:
            if stream_id in (None, stream.stream_id):
                stream.ctx.stop.set()

    def tune(self, name: str, value: Any, from_seq: int) -> None:
        """Have a tunable of every stream changed before its first frame with `seq >= from_seq`."""
        for stream in list(self.streams):
            stream.tunes.add(name, value, from_seq)

    def run(self) -> None:
        try:
            for stream in list(self.streams):
                self._open(stream)
            self.opened.set()
            if self._host.wait_go():
                self.stats.state = "running" if self.streams else self.stats.state
                while self.streams and not self._host.aborted:
                    self._step(min(self.streams, key=lambda stream: stream.last_pts_ns))
        except BaseException as error:  # noqa: BLE001  a lane must never die without saying so
            self._failed = True
            self.stats.error = str(error)
            self._host.node_failed(self.node.name, "", error, traceback.format_exc())
        finally:
            self.opened.set()
            for stream in list(self.streams):
                self._end(stream, None)
            self.stats.state = "failed" if self._failed else "finished"
            self._host.lane_ended(self)

    def _open(self, stream: Stream) -> None:
        try:
            stream.ctx.open(stream.operator)
            stream.is_open = True
        except BaseException as error:  # noqa: BLE001  whatever stops a source is reported
            stream.ctx.release()
            if may_open_later(error, self._host):
                stream.trouble = error
            else:
                self._fail(stream, error)

    def _step(self, stream: Stream) -> None:
        try:
            if stream.ctx.stop.is_set():
                raise EndOfStream
            if stream.trouble is not None:
                error, stream.trouble = stream.trouble, None
                raise error
            stream.tunes.apply(stream.operator, stream.ctx.next_seq)
            start_ns = self._host.clock.now_ns()
            result = stream.ctx.run(stream.operator.process)
            if result is not None:
                self.stats.busy.add(self._host.clock.now_ns() - start_ns)
                self._send(stream, result)
                stream.retry_ns = FIRST_RETRY_NS
        except EndOfStream:
            self._end(stream, None)
        except DeviceLostError as error:
            self._host.device_lost(self.node.name, stream.stream_id, error)
        except OperatorError as error:
            self._recover(stream, error, permanent=error.permanent)
        except BaseException as error:  # noqa: BLE001  one camera must not take the others with it
            self._recover(stream, error, permanent=False)

    def _send(self, stream: Stream, result: Any) -> None:
        for cause in stream.ctx.breaks:
            self._outlets.signal(Discontinuity(stream.stream_id, cause))
        stream.ctx.breaks.clear()
        frames = [frame for made in split_result(result, ["out"]).values() for frame in made]
        for frame in frames:
            stream.last_pts_ns = max(stream.last_pts_ns, frame.stamp.pts_ns)
        self.stats.frames += sum(frame.caps.media == "video" for frame in frames)
        if self._admitted(stream, frames):
            self._outlets.send_result(result, frames[-1] if frames else None)
        else:
            self._outlets.refuse(result)

    def _admitted(self, stream: Stream, frames: list[Frame]) -> bool:
        video = [frame for frame in frames if frame.caps.media == "video"]
        return not video or self._host.admit(self.node.name, stream.stream_id, video[-1].stamp.seq)

    def _recover(self, stream: Stream, error: BaseException, *, permanent: bool) -> None:
        if stream.ctx.mode == "file" or permanent:
            self._fail(stream, error)
            return
        code = error.code if isinstance(error, OperatorError) else type(error).__name__
        self._host.report(code, self.node.name, stream.stream_id, f"{error}; trying again")
        self._close(stream)
        self.stats.restarts += 1
        self.stats.state = "retrying"
        while not stream.is_open and not self._host.aborted:
            if self._host.clock.wait(stream.ctx.stop, stream.retry_ns):
                return  # to open what is gone would hold up the end for as long as its time-out
            stream.retry_ns = min(stream.retry_ns * 2, LONGEST_RETRY_NS)
            try:
                stream.ctx.open(stream.operator)
                stream.is_open = True
            except Exception as again:  # noqa: BLE001  a library's error may pass, as in `process`
                stream.ctx.release()
                self.stats.error = str(again)
                if isinstance(again, OperatorError) and again.permanent:
                    self._fail(stream, again)
                    return
        if stream.is_open:
            self.stats.state = "running"
            self.stats.error = None
            stream.ctx.discontinuity(code)

    def _fail(self, stream: Stream, error: BaseException) -> None:
        self._failed = True
        self.stats.error = str(error)
        self._host.node_failed(self.node.name, stream.stream_id, error, traceback.format_exc())
        self._end(stream, str(error))

    def _end(self, stream: Stream, error: str | None) -> None:
        if stream not in self.streams:
            return
        self.streams.remove(stream)
        self._close(stream)
        self._outlets.signal(StreamEnd(stream.stream_id, error))
        self._host.stream_ended(stream.stream_id)

    def _close(self, stream: Stream) -> None:
        if not stream.is_open:
            return
        stream.is_open = False
        try:
            stream.ctx.run(stream.operator.close)
        except Exception as error:  # noqa: BLE001  a failing close must not hide what came before
            self._host.report("CLOSE_FAILED", self.node.name, stream.stream_id, str(error))
        finally:
            stream.ctx.release()
