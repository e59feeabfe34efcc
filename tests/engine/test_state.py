"""State per stream is made once, and made anew after it was forgotten."""

from __future__ import annotations

from engine.state import StreamStates


def test_state_is_made_once_per_stream_and_forgotten() -> None:
    made: list[str] = []

    def make(stream_id: str) -> list[int]:
        made.append(stream_id)
        return []

    states = StreamStates(make)
    states["a"].append(1)
    assert states["a"] == [1]
    assert states["b"] == []
    assert made == ["a", "b"]
    assert ("a" in states, "c" in states, len(states)) == (True, False, 2)
    states.forget("a")
    states.forget("never seen")
    assert "a" not in states
    assert states["a"] == []
    assert made == ["a", "b", "a"]
