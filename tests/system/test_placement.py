"""The same graph gives the same bytes wherever its nodes are placed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.plan import Plan
from engine.runtime.supervisor import Run
from tests.engine.graphs import plan_of
from tests.system.faults import assert_settled, op, records

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_tempdir")]
FRAMES = 70
STREAMS = ("a", "b")

PLACEMENTS: dict[str, tuple[list[str], dict[str, Any], set[str]]] = {
    "one worker": (["main"], {}, {"inproc"}),
    "two workers": (["first", "second"], {}, {"inproc", "ipc"}),
    "three workers": (["first", "second", "third"], {}, {"inproc", "ipc"}),
    "two workers over tcp": (
        ["first", "second"],
        {"first": {"host": "127.0.0.1"}, "second": {"host": "localhost"}},
        {"inproc", "tcp"},
    ),
}


def diamond(workers: list[str], specs: dict[str, Any]) -> Plan:
    """Two streams; even and odd frames go different ways, meet again, and meet themselves."""
    first, last = workers[0], workers[-1]
    middle = workers[len(workers) // 2]
    recorded = {"path": "merged.txt"}
    nodes = {
        "cam": op(
            "Count",
            config={"frames": FRAMES},
            streams={stream: {} for stream in STREAMS},
            worker=first,
        ),
        "split": op("Split", {"frames": "cam"}, worker=first),
        "gain": op("Gain", {"frames": "split.right"}, config={"gain": 3}, worker=middle),
        "batched": op("Batched", {"frames": "split.left"}, batch={"max_size": 4}, worker=last),
        "merged": op("Merge", {"left": "batched", "right": "gain"}, worker=middle),
        "joined": op("Join", {"left": "cam", "right": "merged"}, worker=last),
        "seen": op("Recorder", {"frames": "joined"}, worker=last),
        "also": op("Recorder", {"frames": "merged"}, config=recorded, worker=first),
    }
    return plan_of(nodes, mode="file", workers=specs)


def outputs(out: Path) -> tuple[list[Any], list[Any]]:
    """What each stream looked like at both ends; streams do not wait for each other."""
    return sorted(records(out / "seen.txt")), sorted(records(out / "merged.txt"))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_frame_comes_out_and_is_the_same_everywhere(placement: str, tmp_path: Path) -> None:
    workers, specs, links = PLACEMENTS[placement]
    with Run(diamond(workers, specs), tmp_path) as run:
        assert run.wait(15), run.snapshot()
    result = run.close()
    assert result.exit_code == 0, result.failures
    assert_settled(result)
    assert {edge.link for edge in result.snapshot.edges.values()} == links
    assert all(edge.sent == edge.consumed for edge in result.snapshot.edges.values())
    seen, merged = outputs(tmp_path)
    assert merged == expected(lambda seq, byte: byte)
    assert seen == expected(lambda seq, byte: seq + byte)
    for name in ("seen.txt", "merged.txt"):
        lines = (tmp_path / name).read_text().splitlines()
        for stream in STREAMS:
            mine = [line for line in lines if f"{stream} " in f"{line} "]
            assert mine[-1] == f"reset {stream}"
            seqs = [int(line.split()[1]) for line in mine[:-1]]
            assert seqs == list(range(FRAMES))
        assert lines[-1] == "closed"


def test_a_large_batch_beside_a_join_does_not_stop_the_source(tmp_path: Path) -> None:
    nodes = {
        "cam": op("Count", config={"frames": 150}),
        "batched": op("Batched", {"frames": "cam"}, batch={"max_size": 100}),
        "joined": op("Join", {"left": "cam", "right": "batched"}, worker="other"),
        "seen": op("Recorder", {"frames": "joined"}, worker="other"),
    }
    with Run(plan_of(nodes, mode="file"), tmp_path) as run:
        assert run.wait(8), run.snapshot()
        assert run.close().exit_code == 0
    sizes = [100] * 100 + [50] * 50
    assert records(tmp_path / "seen.txt") == [
        ("cam", seq, 0, (seq + size) % 256) for seq, size in enumerate(sizes)
    ]


def test_streams_of_two_sources_that_never_meet_stop_nobody(tmp_path: Path) -> None:
    nodes = {
        "a": op("Count", config={"frames": 100}),
        "b": op("Count", config={"frames": 70}, worker="other"),
        "met": op("Merge", {"left": "a", "right": "b"}),
        "seen": op("Recorder", {"frames": "met"}),
    }
    with Run(plan_of(nodes, mode="file"), tmp_path) as run:
        assert run.wait(8), run.snapshot()
        assert run.close().exit_code == 0
    rows = [("a", seq, 0, seq) for seq in range(100)] + [("b", seq, 0, seq) for seq in range(70)]
    assert sorted(records(tmp_path / "seen.txt")) == rows
    text = (tmp_path / "seen.txt").read_text()
    assert [text.count(f"reset {stream}") for stream in "ab"] == [1, 1]


def expected(byte_of: Any) -> list[tuple[str, int, int, int]]:
    """Even frames carry the size of their batch, odd ones three times their seq."""
    rows = []
    even = [(stream, seq) for seq in range(0, FRAMES, 2) for stream in STREAMS]
    for number, (stream, seq) in enumerate(even):
        size = min(4, len(even) - number // 4 * 4)
        rows.append((stream, seq, 0, byte_of(seq, size)))
    rows += [
        (stream, seq, 0, byte_of(seq, 3 * seq % 256))
        for stream in STREAMS
        for seq in range(1, FRAMES, 2)
    ]
    return sorted((stream, seq, epoch, byte % 256) for stream, seq, epoch, byte in rows)
