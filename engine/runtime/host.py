"""What a lane needs of the worker it lives in."""

from __future__ import annotations

from typing import Any, Protocol

from engine.runtime.context import Host


class LaneHost(Host, Protocol):
    """The worker, as lanes see it. All methods may be called from any lane's thread."""

    threads: int  # how many threads a library may use for one node

    @property
    def aborted(self) -> bool:
        """True once the run is to end without draining."""

    @property
    def going(self) -> bool:
        """True once every node of every worker is open."""

    def wait_go(self) -> bool:
        """Wait until every node of every worker is open; False when that will not be."""

    def progress(self, node: str, stream_id: str, seq: int) -> None:
        """A node is done with everything of a stream up to `seq`."""

    def admit(self, node: str, stream_id: str, seq: int) -> bool:
        """Whether the flow limit lets a frame in."""

    def stream_ended(self, stream_id: str) -> None:
        """A source produces nothing more of this stream."""

    def node_failed(self, node: str, stream_id: str, error: BaseException, detail: str) -> None:
        """A node, or one stream of a source, gave up."""

    def device_lost(self, node: str, stream_id: str, error: BaseException) -> None:
        """This process can use its GPU no more: it ends, the supervisor starts another."""

    def lane_ended(self, lane: Any) -> None:
        """Called by a lane as the last thing it does."""
