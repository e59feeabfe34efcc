"""What has been changed since the graph was written: told to every worker that opens its nodes."""

from __future__ import annotations

from collections.abc import Iterator

from engine.plan import Plan
from engine.runtime import messages as m

Change = m.Epoch | m.Tune | m.AddStream | m.RemoveStream


class Changes:
    """The last word on each epoch, tunable and stream; a worker that starts again has none."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._kept: dict[tuple[str, str], Change] = {}

    def remember(self, message: m.Message, *, going: bool) -> None:
        """Keep what matters to a worker that opens its nodes later."""
        if isinstance(message, m.Epoch):
            self._kept["", message.stream_id] = message
        elif isinstance(message, m.Tune):
            from_seq = 0 if going else message.from_seq  # a source that starts again counts anew
            kept = m.Tune(message.node, message.name, message.value, from_seq)
            self._kept[message.node, message.name] = kept
        elif isinstance(message, m.AddStream):
            self._kept[message.node, message.stream_id] = message
        elif isinstance(message, m.RemoveStream):
            key = message.node, message.stream_id
            if message.stream_id in (self._plan.nodes[message.node].streams or {message.node}):
                self._kept[key] = message
            else:  # one that was added: it is as if it had never been
                self._kept.pop(key, None)

    def for_worker(self, worker: str) -> Iterator[Change]:
        """What a worker has to be told."""
        for change in self._kept.values():
            if isinstance(change, m.Epoch) or self._plan.nodes[change.node].worker == worker:
                yield change
