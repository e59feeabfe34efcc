"""`dream` and `dream-on` as they come, in real processes, on a checkpoint with random weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from engine import TUNABLE, Config, Operator
from engine.check import check
from engine.contract import Marked
from engine.errors import GraphError
from engine.loader import load_graph
from engine.runtime.supervisor import Run
from engine.spec import EdgeSpec, GraphSpec, NodeSpec, WorkerSpec
from operators.generate.records import Dreamed
from operators.ports import Video
from tests.operators.media import write_clip
from tests.operators.models import AR_SIZE_PX, random_ar_diffusion
from tests.system.cli import ROOT, Done, environment, frameloom
from tests.system.faults import (
    assert_settled,
    finish,
    kill_worker,
    wait_for,
    wait_for_frames,
)
from tests.system.test_cli_graphs import streams_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("short_tempdir")]


@pytest.fixture(scope="module", autouse=True)
def checkpoint() -> Path:
    """Made before any test has a temporary folder of its own: it lasts longer than these."""
    return random_ar_diffusion()


class NotesConfig(Config, frozen=True):
    path: str = "notes.txt"
    unused: Annotated[int, TUNABLE] = 0


class Notes(Operator[NotesConfig]):
    """Writes what each frame says of itself: its epoch, the number and prompt of a dream, whether
    it is synthetic and marked.
    """

    def open(self, ctx: Any) -> None:
        self._file = ctx.enter(ctx.output_path(self.config.path).open("w", buffering=1))

    def process(self, frames: Video) -> None:
        stamp, marked = frames.stamp, bool(frames.of(Marked))
        number, prompt = -1, "-"
        for record in frames.of(Dreamed):
            number, prompt = record.number, record.prompt or "-"
        self._file.write(f"{stamp.epoch} {number} {prompt} {stamp.synthetic:d} {marked:d}\n")


def noted(out: Path) -> list[tuple[int, int, str, bool, bool]]:
    rows = [line.split() for line in (out / "notes.txt").read_text().splitlines()]
    return [
        (int(epoch), int(number), prompt, made == "1", marked == "1")
        for epoch, number, prompt, made, marked in rows
    ]


def graph(name: str, node: str, config: dict[str, Any]) -> GraphSpec:
    """A shipped graph on the random checkpoint, with one sink more behind `mark`.

    Its worker does not give way: these tests may run on a busy machine.
    """
    spec = load_graph(name)
    given = {"checkpoint": str(random_ar_diffusion()), **config}
    changed = msgspec.structs.replace(spec.nodes[node], config=spec.nodes[node].config | given)
    notes = NodeSpec(
        op=f"{Notes.__module__}:{Notes.__qualname__}",
        inputs={"frames": EdgeSpec(from_="mark.out", queue=8, full="block")},
    )
    nodes = {**spec.nodes, node: changed, "notes": notes}
    return msgspec.structs.replace(spec, nodes=nodes, workers={"dreamer": WorkerSpec()})


def dream(folder: Path, *settings: str, more: tuple[str, ...] = ()) -> Done:
    """`frameloom run` of the graph as it is, but that its worker does not give way."""
    graph = folder / "dream.yaml"
    graph.write_text((ROOT / "graphs" / "dream.yaml").read_text().replace("nice: 19", "nice: 0"))
    given = (f"checkpoint={random_ar_diffusion()}", *settings)
    pairs = [text for value in given for text in ("--set", f"dream.{value}")]
    options = ("--no-page", "--json", "--out", "o", *more)
    return frameloom("run", graph, *pairs, *options, folder=folder)


def test_dream_runs_by_itself_and_marks_every_frame(tmp_path: Path) -> None:
    done = dream(tmp_path, "frames=20", "fps=25", more=("--mode", "file"))
    assert done.code == 0, done.err
    assert streams_of(tmp_path / "o" / "dream.mp4") == {"video": 20}
    assert done.data["records"] == {"Dreamed": 20, "Marked": 20}
    assert all(edge["in_flight"] == 0 for edge in done.data["edges"].values())
    assert done.data["drops"] == {}
    (engine,) = [event for event in done.data["events"] if event["code"] == "ENGINE"]
    assert engine["message"].startswith("decoder by torch eager in fp32")


def test_dream_has_no_end_of_its_own(tmp_path: Path) -> None:
    done = dream(tmp_path, more=("--for", "1"))
    assert done.code == 0, done.err
    assert 1 <= streams_of(tmp_path / "o" / "dream.mp4")["video"] <= 30, "15 a second at most"


def test_a_new_prompt_is_seen_in_the_very_next_frame(tmp_path: Path) -> None:
    spec = graph("dream", "dream", {"prompt": "bounce", "fps": 60})
    with Run(check(spec), tmp_path) as run:
        wait_for_frames(run, 20, notes=20)
        run.tune("dream", "prompt", "pan")
        wait_for(lambda: noted(tmp_path)[-1][2] == "pan", 20, "the new prompt")
        wait_for_frames(run, 20, notes=10)
        run.tune("dream", "prompt", "dance")
        wait_for(lambda: "REFUSED" in [e.code for e in run.snapshot().events], 20, "a refusal")
        wait_for_frames(run, 20, notes=5)
        result = finish(run)
    assert result.exit_code == 0, result.failures
    assert_settled(result)
    rows = noted(tmp_path)
    assert {(epoch, prompt) for epoch, _, prompt, _, _ in rows} == {(0, "bounce"), (1, "pan")}
    first = next(index for index, row in enumerate(rows) if row[0] == 1)
    assert all(row[0] == 1 for row in rows[first:])
    assert rows[first][1] == 0, "of the new dream the first frame, none before it is missing"
    assert all(made and marked for _, _, _, made, marked in rows)
    assert len(list(tmp_path.glob("dream*.mp4"))) == 2, "a new epoch is a film of its own"


def test_a_dreamer_that_is_killed_dreams_on_with_its_last_wish(tmp_path: Path) -> None:
    spec = graph("dream", "dream", {"fps": 60})
    with Run(check(spec), tmp_path) as run:
        wait_for_frames(run, 20, notes=5)
        run.tune("dream", "prompt", "surveillance")
        wait_for(lambda: noted(tmp_path)[-1][2] == "surveillance", 20, "the new prompt")
        kill_worker(run, "dreamer")
        wait_for(lambda: run.snapshot().workers["dreamer"].restarts == 1, 10, "a second life")
        wait_for_frames(run, 20, notes=10)
        result = finish(run)
    assert noted(tmp_path)[-1][2] == "surveillance"
    assert all(edge.balanced for edge in result.snapshot.edges.values())
    assert [e.message for e in result.snapshot.events if e.code == "EPOCH"] == [
        "epoch 1: prompt 'surveillance'"
    ]


def test_a_feed_is_real_then_made_then_real_again(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=200, size=(96, 64), sound=True)
    spec = graph("dream-on", "carry", {"history": 4})
    camera = {"uri": str(clip), "loop": True, "realtime": True}
    nodes = {**spec.nodes, "camera": msgspec.structs.replace(spec.nodes["camera"], config=camera)}
    spec = msgspec.structs.replace(spec, mode="live", nodes=nodes)

    def is_made() -> bool:
        return noted(tmp_path / "o")[-1][3]

    with Run(check(spec), tmp_path / "o") as run:
        wait_for_frames(run, 20, notes=8)
        assert not is_made()
        run.tune("carry", "dreaming", True)
        wait_for(is_made, 20, "a made picture")
        wait_for_frames(run, 20, notes=10)
        run.tune("carry", "seed", 5)
        wait_for(lambda: noted(tmp_path / "o")[-1][0] == 1, 20, "a new epoch")
        wait_for_frames(run, 20, notes=5)
        run.tune("carry", "dreaming", False)
        wait_for(lambda: not is_made(), 20, "the feed")
        wait_for_frames(run, 20, notes=5)
        result = finish(run)
    assert result.exit_code == 0, result.failures
    assert_settled(result)
    rows = noted(tmp_path / "o")
    for _, number, _, made, marked in rows:
        assert made == marked == (number >= 0), "what is made is marked, and nothing else"
    firsts = [number for epoch, number, *_ in rows if epoch == 1 and number >= 0]
    assert firsts[:3] == [4, 5, 6], "anew from the same past, none of the old dream in between"


@pytest.mark.parametrize(
    ("name", "node", "source"), [("dream", "dream", "enlarge"), ("dream-on", "carry", "carry")]
)
def test_without_a_mark_nothing_starts(name: str, node: str, source: str) -> None:
    spec = graph(name, node, {})
    nodes = {key: value for key, value in spec.nodes.items() if key != "mark"}
    for key, value in nodes.items():
        inputs = {
            port: msgspec.structs.replace(edge, from_=f"{source}.out")
            if edge.from_ == "mark.out"
            else edge
            for port, edge in value.inputs.items()
        }
        nodes[key] = msgspec.structs.replace(value, inputs=inputs)
    with pytest.raises(GraphError) as caught:
        check(msgspec.structs.replace(spec, nodes=nodes))
    told = [problem.message for problem in caught.value.problems]
    assert f"pictures from '{source}' are synthetic and would go out unmarked" in told


@pytest.mark.parametrize(("name", "node"), [("dream", "dream"), ("dream-on", "carry")])
def test_a_missing_checkpoint_is_found_before_anything_starts(name: str, node: str) -> None:
    with pytest.raises(GraphError) as caught:
        check(graph(name, node, {"checkpoint": "nowhere.safetensors"}))
    (problem,) = caught.value.problems
    assert (problem.node, problem.field) == (node, "config.checkpoint")
    assert "nowhere.safetensors" in problem.message


def test_checking_needs_no_torch_and_no_sockets() -> None:
    code = (
        "import sys; from engine.commands.check import check_command;"
        f"check_command('dream', [], ['dream.checkpoint={random_ar_diffusion()}'], None,"
        " as_json=True);"
        "print(sorted({'torch', 'safetensors', 'zmq', 'av', 'onnxruntime'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert f'"width": {AR_SIZE_PX}' in done.stdout or f"{AR_SIZE_PX}x{AR_SIZE_PX}" in done.stdout


@pytest.mark.parametrize(("name", "node"), [("dream", "dream"), ("dream-on", "carry")])
def test_generation_gives_way_to_everything_else(name: str, node: str) -> None:
    spec = load_graph(name)
    assert spec.workers[spec.nodes[node].worker or ""].nice == 19
    assert [key for key, one in spec.nodes.items() if one.worker == spec.nodes[node].worker] == [
        node
    ]
