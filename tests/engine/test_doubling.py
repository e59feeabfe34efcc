"""Counts that rise are told ever more rarely."""

from __future__ import annotations

from engine.telemetry.doubling import Doubling


def test_the_first_and_every_doubling_is_told() -> None:
    news = Doubling()
    assert [count for count in range(20) if news.risen_to(count)] == [1, 2, 4, 8, 16]
    assert not news.risen_to(16)
    assert news.risen_to(100)
