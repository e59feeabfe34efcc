"""Graph files: round trips, and every problem of form told with its place and the nearest key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import loader
from engine.errors import GraphError
from engine.loader import apply_overrides, dump_graph, load_graph, parse_graph
from engine.spec import BatchSpec, EdgeSpec, GraphSpec, JoinSpec, NodeSpec, WorkerSpec

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12) | st.sampled_from(
    ["on", "no", "null", "~", "1e-3", "12:30", "2026-01-01", "007", "0x1f", ".5", "<<", "=", "true"]
)
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
CONFIGS = st.dictionaries(TEXT, VALUES, max_size=3)
EDGES = st.builds(
    EdgeSpec,
    from_=NAMES,
    queue=st.none() | st.integers(1, 1024),
    full=st.none() | st.sampled_from(["block", "drop_oldest", "latest"]),
    window=st.integers(1, 16),
    max_age_ms=st.none() | st.integers(1, 10_000),
    back_edge=st.booleans(),
    allow=st.lists(TEXT, max_size=2).map(tuple),
)
NODES = st.builds(
    NodeSpec,
    op=TEXT,
    config=CONFIGS,
    inputs=st.dictionaries(NAMES, EDGES, max_size=2),
    streams=st.dictionaries(TEXT, CONFIGS, max_size=2),
    worker=NAMES,
    device=st.sampled_from(["cpu", "cuda:0"]),
    batch=st.none() | st.builds(BatchSpec, max_size=st.integers(1, 256)),
    join=st.none() | st.builds(JoinSpec, tolerance_ms=st.floats(0, 1e6)),
)
GRAPHS = st.builds(
    GraphSpec,
    graph=st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True),
    about=TEXT,
    mode=st.sampled_from(["file", "live"]),
    latency_budget_ms=st.none() | st.integers(1, 10_000),
    max_in_flight=st.none() | st.integers(1, 100),
    workers=st.dictionaries(
        NAMES, st.builds(WorkerSpec, host=st.none() | TEXT, nice=st.integers(0, 19)), max_size=2
    ),
    nodes=st.dictionaries(NAMES, NODES, max_size=3),
)


@given(GRAPHS)
def test_every_spec_survives_its_yaml(spec: GraphSpec) -> None:
    assert parse_graph(dump_graph(spec)) == spec


SMALL = """
graph: small
nodes:
  cam: {op: "a:Cam", config: {uri: x}, streams: {door: {uri: y}}}
  blur: {op: "a:Blur", inputs: {frames: {from: cam, queue: 2, full: block}}}
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(GraphError) as caught:
        parse_graph(text)
    return [_line(problem) for problem in caught.value.problems]


def _line(problem: Any) -> str:
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"{problem.node}|{problem.field}: {problem.message}{hint}"


def test_what_is_shared_is_written_out_each_time() -> None:
    shared = {"radius": [1, 2]}
    nodes = {name: NodeSpec(op="a:B", config=shared) for name in ("a", "b")}
    text = dump_graph(GraphSpec(graph="g", nodes=nodes))
    assert text.count("radius: [1, 2]") == 2
    assert "&" not in text


def test_yaml_is_read_by_the_1_2_core_schema() -> None:
    config = "{a: on, b: 12:30, c: 2026-01-01, d: 1e-3, e: 007, f: yes, g: true, h: ~, i: 0x10}"
    spec = parse_graph(f"graph: g\nnodes: {{n: {{op: 'a:B', config: {config}}}}}")
    assert spec.nodes["n"].config == {
        **{"a": "on", "b": "12:30", "c": "2026-01-01", "d": 0.001, "e": "007"},
        **{"f": "yes", "g": True, "h": None, "i": 16},
    }


def test_every_problem_of_form_is_told_at_once_with_the_nearest_key() -> None:
    found = problems_of("""
graph: Small
mod: file
mode: fil
nodes:
  blur:
    op: a:Blur
    confg: {}
    inputs: {frames: {from: cam, queu: 2, full: blok, window: 99, max_age_ms: soon}}
    batch: {max_size: 0}
    streams: {door: 3}
  show: {inputs: {frames: {queue: 1}}}
  wrong: 7
workers: {gpu: {nice: 30}}
""")
    assert found == [
        "|mod: there is no such key (did you mean 'mode'?)",
        "|graph: expected `str` matching regex '^[a-z][a-z0-9-]*$', got 'Small'",
        "|mode: invalid enum value 'fil' (did you mean 'file'?)",
        "|workers.gpu.nice: expected `int` <= 19, got 30",
        "blur|confg: there is no such key (did you mean 'config'?)",
        "blur|inputs.frames.queu: there is no such key (did you mean 'queue'?)",
        "blur|inputs.frames.full: invalid enum value 'blok' (did you mean 'block'?)",
        "blur|inputs.frames.window: expected `int` <= 16, got 99",
        "blur|inputs.frames.max_age_ms: expected `int | null`, got 'soon'",
        "blur|streams.door: expected `object`, got 3",
        "blur|batch.max_size: expected `int` >= 1, got 0",
        "show|op: is required (module:Class)",
        "show|inputs.frames.from: is required (producer: node or node.port)",
        "wrong|: 7 where key: value pairs are expected",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "|: nothing where a graph is expected (graph: name)"),
        ("- a", "|: ['a'] where a graph is expected (graph: name)"),
        ("nodes: {}", "|graph: is required (name)"),
        ("graph: g\nnodes: [a]", "|nodes: ['a'] where name: {op: ...} is expected"),
        ("graph: g\nnodes: {3: {op: a}}", "|nodes: the name 3 is not text"),
        ("graph: g\n3: x", "|: the key 3 is not text (put it in quotes: '3')"),
        (
            "graph: g\nnodes: {a: {op: x, inputs: {1: {from: b}}}}",
            "a|inputs: the name 1 is not text (put it in quotes: '1')",
        ),
        (
            "graph: a\nmode: file\ngraph: b",
            "|line 3: the key 'graph' is on line 1 already (keep one of them)",
        ),
        (
            "graph: g\nnodes:\n  a: {op: x}\n  b: {op: y}\n  a: {op: z}",
            "|line 5: the key 'a' is on line 3 already (keep one of them)",
        ),
        ("graph: &a [*a]", "|line 1: an anchor that contains itself"),
    ],
)
def test_what_is_no_graph_is_told_where(text: str, problem: str) -> None:
    assert problem in problems_of(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("graph: [", "line 1"),
        ("graph: g\nnodes:\n\tcam: 1", "line 3"),
        ("a: 1\n---\nb: 2", "line 2"),
        ("graph: g\nx: !!python/object:os.system {}", "line 2"),
        ("graph: g\nx: *nobody", "line 2"),
        ("? [a]\n: b", "line 1"),
    ],
)
def test_broken_yaml_is_told_with_its_line(text: str, line: str) -> None:
    (problem,) = problems_of(text)
    assert line in problem
    assert "not YAML" in problem


def test_a_bomb_of_aliases_is_refused_at_once() -> None:
    lines = ["graph: g", "a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)]
    (problem,) = problems_of("\n".join(lines))
    assert "more than 100,000 values" in problem


def test_very_deep_nesting_is_no_crash() -> None:
    (problem,) = problems_of("graph: " + "[" * 20_000)
    assert "too deeply" in problem


def test_forbidden_characters_are_no_crash() -> None:
    (problem,) = problems_of("graph: \x00")
    assert "not YAML" in problem


def test_a_graph_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    assert load_graph(path) == load_graph(str(path)) == parse_graph(SMALL)


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "somegraphs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "small.yaml").write_text(SMALL)
    (package / "notes.txt").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(loader, "GRAPHS", "somegraphs")


@pytest.mark.usefixtures("packaged")
def test_a_bare_name_means_a_graph_that_comes_along() -> None:
    assert load_graph("small").graph == "small"
    with pytest.raises(GraphError, match=r"there is no graph 'smal' .did you mean 'small'"):
        load_graph("smal")
    with pytest.raises(GraphError, match=r"there is no graph 'x' .known: small\)"):
        load_graph("x")


def test_files_that_cannot_be_read_are_problems(tmp_path: Path) -> None:
    (tmp_path / "guard.yaml").write_bytes(b"\xff\xfe\x00")
    for path, message in [
        (tmp_path / "gard.yaml", "there is no such file .did you mean 'guard.yaml'"),
        (tmp_path / "none" / "g.yaml", "there is no such file"),
        (tmp_path / "guard.yaml", "not UTF-8"),
        (tmp_path, "directory"),
    ]:
        with pytest.raises(GraphError, match=message):
            load_graph(path)


@pytest.mark.parametrize(
    ("assignment", "want"),
    [
        ("mode=file", lambda spec: spec.mode == "file"),
        ("max_in_flight=3", lambda spec: spec.max_in_flight == 3),
        ("cam.uri=a=b", lambda spec: spec.nodes["cam"].config["uri"] == "a=b"),
        ("cam.config.uri=on", lambda spec: spec.nodes["cam"].config["uri"] == "on"),
        ("cam.score=1e-1", lambda spec: spec.nodes["cam"].config["score"] == 0.1),
        ("cam.size=[1, 2]", lambda spec: spec.nodes["cam"].config["size"] == [1, 2]),
        ("cam.a.b=~", lambda spec: spec.nodes["cam"].config["a"] == {"b": None}),
        ("cam.streams.door.uri=z", lambda spec: spec.nodes["cam"].streams["door"]["uri"] == "z"),
        ("cam.streams.new={uri: z}", lambda spec: spec.nodes["cam"].streams["new"]["uri"] == "z"),
        ("blur.worker=gpu", lambda spec: spec.nodes["blur"].worker == "gpu"),
        ("blur.batch.max_size=8", lambda spec: spec.nodes["blur"].batch.max_size == 8),
        ("blur.inputs.frames.queue=9", lambda spec: spec.nodes["blur"].inputs["frames"].queue == 9),
        ("workers.gpu.host=h", lambda spec: spec.workers["gpu"].host == "h"),
    ],
)
def test_overrides(assignment: str, want: Any) -> None:
    before = parse_graph(SMALL)
    assert want(apply_overrides(before, [assignment]))
    assert before == parse_graph(SMALL)


def test_overrides_that_make_no_sense_are_told_together() -> None:
    with pytest.raises(GraphError) as caught:
        apply_overrides(
            parse_graph(SMALL),
            [
                *["mod=file", "blurr.radius=3", "blur", "blur.inputs.frame.queue=1"],
                *["blur.inputs.frames.queu=1", "blur.inputs.frames.window=0", "cam.uri.x=1"],
                *["cam.device=[", "mode.x=1", "cam.streams.dor.uri=x"],
            ],
        )
    assert [_line(problem) for problem in caught.value.problems] == [
        "|--set mod: there is no key of the graph 'mod' (did you mean 'mode'?)",
        "|--set blurr.radius: there is no node 'blurr' (did you mean 'blur'?)",
        "|--set: 'blur' is not path=value",
        "blur|inputs.frame.queue: there is no 'frame' (did you mean 'frames'?)",
        "cam|config.uri: has the value 'x', so nothing can be set inside it",
        "|--set cam.device: '[' is no YAML value",
        "|--set mode.x: there is no node 'mode' (known: cam, blur)",
        "cam|streams.dor.uri: there is no 'dor' (did you mean 'door'?)",
        "blur|inputs.frames.queu: there is no such key (did you mean 'queue'?)",
        "blur|inputs.frames.window: expected `int` >= 1, got 0",
    ]
