"""State per stream: made when first asked for, forgotten when the stream ends or breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")


class StreamStates(Generic[S]):
    """A mapping from stream id to whatever `make` makes for it."""

    def __init__(self, make: Callable[[str], S]) -> None:
        self._make = make
        self._states: dict[str, S] = {}

    def __getitem__(self, stream_id: str) -> S:
        if stream_id not in self._states:
            self._states[stream_id] = self._make(stream_id)
        return self._states[stream_id]

    def __contains__(self, stream_id: object) -> bool:
        return stream_id in self._states

    def __len__(self) -> int:
        return len(self._states)

    def forget(self, stream_id: str) -> None:
        self._states.pop(stream_id, None)
