"""The epochs that a worker knows, and waiting for one."""

from __future__ import annotations

import threading

import pytest

from engine.transport.epochs import EpochTable
from tests.runtime.fakes import frame


def test_epochs_only_rise_and_make_what_is_older_stale() -> None:
    epochs = EpochTable()
    assert epochs.current("cam") == 0
    epochs.raise_to("cam", 2)
    epochs.raise_to("cam", 1)
    assert epochs.current("cam") == 2
    stale = [epochs.is_stale(frame(0, epoch=epoch).stamp) for epoch in (1, 2, 3)]
    assert stale == [True, False, False]
    assert not epochs.is_stale(frame(0, "yard").stamp)


def test_who_waits_goes_on_as_soon_as_the_epoch_is_raised() -> None:
    epochs = EpochTable()
    found: list[bool] = []
    waiting = threading.Thread(
        target=lambda: found.append(epochs.wait_beyond("cam", 0, 30.0, lambda: False)), daemon=True
    )
    waiting.start()
    epochs.raise_to("yard", 1)
    epochs.raise_to("cam", 1)
    waiting.join(5)
    assert found == [True]
    assert epochs.wait_beyond("cam", 0, 0.0, lambda: True), "it is so already"


@pytest.mark.parametrize(("timeout_s", "cancelled"), [(0.0, False), (30.0, True)])
def test_nobody_waits_for_ever(timeout_s: float, cancelled: bool) -> None:
    assert not EpochTable().wait_beyond("cam", 0, timeout_s, lambda: cancelled)
