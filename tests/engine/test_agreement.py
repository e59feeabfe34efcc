"""What travels: caps along `like`, devices, labels, and events that must not be lost."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.graphs import CAM, FACES, node, plan_of, problems_of


def test_caps_are_followed_along_like() -> None:
    nodes = {
        "cam": node("Camera", config={"uri": "x", "pix_fmt": "yuv420p"}),
        "blur": node("Blur", {"frames": "cam"}),
        "rgb": node("ToRgb", {"frames": "blur"}),
        "again": node("Blur", {"frames": "rgb"}),
        "good": node("RgbScreen", {"frames": "again"}),
        "bad": node("RgbScreen", {"frames": "blur"}),
    }
    assert problems_of(nodes) == [
        "bad|inputs.frames: pix_fmt: yuv420p where rgb24|bgr24 is accepted, from 'blur.out' "
        "(convert between)"
    ]
    del nodes["bad"]
    assert "good" in plan_of(nodes).nodes


def test_streams_that_differ_leave_the_caps_open() -> None:
    streams = {"a": {"pix_fmt": "yuv420p"}, "b": {"pix_fmt": "rgb24"}}
    nodes = {
        "cam": node("Camera", config={"uri": "x"}, streams=streams),
        "show": node("RgbScreen", {"frames": "cam"}),
    }
    assert "show" in plan_of(nodes).nodes


@pytest.mark.parametrize(
    ("source", "arrives"),
    [
        (node("EitherCamera"), "rgb24"),
        (node("PixelCamera"), None),
        (
            node("Camera", config={"uri": "x"}, streams={"a": {}, "b": {"pix_fmt": "rgb24"}}),
            "rgb24|bgr24",
        ),
    ],
    ids=["one of two", "neither", "not known"],
)
def test_what_passed_a_port_is_what_the_port_accepted(
    source: dict[str, Any], arrives: str | None
) -> None:
    nodes = {
        "cam": source,
        "blur": node("RgbBlur", {"frames": "cam"}),
        "yuv": node("ToRgb", {"frames": "blur"}),
    }
    (problem,) = problems_of(nodes)
    if arrives is None:
        assert problem.startswith("blur|inputs.frames: pix_fmt: yuv420p where rgb24|bgr24")
    else:
        assert problem.startswith(f"yuv|inputs.frames: pix_fmt: {arrives} where yuv420p")


def test_a_wrong_config_is_one_problem_and_says_nothing_about_caps() -> None:
    nodes = {
        "cam": node("Camera", config={"uri": "x", "pix_fmt": "rbg24"}),
        "show": node("RgbScreen", {"frames": "cam"}),
    }
    assert problems_of(nodes) == [
        "cam|config.pix_fmt: invalid enum value 'rbg24' (did you mean 'rgb24'?)"
    ]


def test_devices_must_agree() -> None:
    nodes = {
        "cam": CAM,
        "up": node("Upload", {"frames": "cam"}, device="cuda:1"),
        "good": node("OnGpu", {"frames": "up"}, device="cuda:1"),
        "other": node("OnGpu", {"frames": "up"}, device="cuda:0"),
        "cpu": node("OnGpu", {"frames": "up"}),
        "host": node("OnGpu", {"frames": "cam"}, device="cuda:1"),
    }
    remedy = "(put ToDevice or ToHost between)"
    assert problems_of(nodes) == [
        "cpu|device: OnGpu runs on cuda only, not on cpu (cuda:0)",
        f"other|inputs.frames: device: cuda:1 where cuda:0 is accepted, from 'up.out' {remedy}",
        f"host|inputs.frames: device: cpu where cuda:1 is accepted, from 'cam.out' {remedy}",
    ]


def test_an_operator_for_the_processor_says_so_instead_of_running_there() -> None:
    nodes = {"cam": CAM, "blur": node("Blur", {"frames": "cam"}, device="cuda:0")}
    assert problems_of(nodes) == ["blur|device: Blur runs on cpu only, not on cuda:0 (device: cpu)"]


def test_a_node_on_the_processor_is_given_no_gpu_memory_unless_it_says_any() -> None:
    nodes = {
        "cam": CAM,
        "up": node("Upload", {"frames": "cam"}, device="cuda:0"),
        "blur": node("Blur", {"frames": "up"}),
        "count": node("Count", {"frames": "up"}),
        "gpu": node("OnGpu", {"frames": "count"}, device="cuda:0"),
    }
    assert problems_of(nodes) == [
        "blur|inputs.frames: device: cuda:0 where cpu is accepted, from 'up.out'"
        " (put ToDevice or ToHost between)"
    ]


def test_pixels_on_a_gpu_do_not_cross_to_another_host() -> None:
    nodes = {
        "cam": CAM,
        "up": node("Upload", {"frames": "cam"}, device="cuda:0"),
        "far": node("OnGpu", {"frames": "up"}, device="cuda:0", worker="there"),
    }
    workers = {"there": {"host": "10.0.0.2"}}
    assert problems_of(nodes, workers=workers) == [
        "far|inputs.frames: pixels on a GPU cannot cross to another host (put ToHost before)"
    ]


def test_an_operator_that_cannot_describe_its_outputs_hides_no_other_problem() -> None:
    nodes = {
        "cam": CAM,
        "broken": node("Broken", {"frames": "cam"}),
        "unlike": node("Unlike", {"frames": "cam"}),
        "show": node("RgbScreen", {"frames": "cam"}),
    }
    assert problems_of(nodes) == [
        "broken|op: output_caps for 'out' raised RuntimeError: no idea",
        "unlike|op: output 'out' is like 'frame', which is no input (did you mean 'frames'?)",
        "show|inputs.frames: pix_fmt: yuv420p where rgb24|bgr24 is accepted, from 'cam.out' "
        "(convert between)",
    ]


def test_raw_faces_do_not_leave_the_host() -> None:
    nodes = {
        "cam": FACES,
        "blur": node("Blur", {"frames": "cam"}),
        "out": node("Publish", {"frames": "blur"}),
    }
    assert problems_of(nodes) == [
        "out|inputs.frames: content labelled raw-face from 'blur' would leave this host "
        "(put an operator before it that cleans it, or say allow: [raw-face])"
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"blur": node("Redact", {"frames": "cam"})},
        {"out": node("Publish", {"frames": "blur"}, config={"host": "127.0.0.1"})},
        {"out": node("Screen", {"frames": "blur"})},
        {
            "out": node(
                "Publish",
                {"frames": {"from": "blur", "queue": 1, "full": "block", "allow": ["raw-face"]}},
            )
        },
    ],
    ids=["redacted", "loopback", "local sink", "allowed"],
)
def test_raw_faces_may_go_where_it_is_safe_or_said(change: dict[str, Any]) -> None:
    nodes = {
        "cam": FACES,
        "blur": node("Blur", {"frames": "cam"}),
        "out": node("Publish", {"frames": "blur"}),
    }
    assert "out" in plan_of({**nodes, **change}).nodes


TOLD = (
    "{}|inputs.frames: pictures from '{}' are synthetic and would go out unmarked "
    "(put operators.video.mark:Mark between, behind all that changes pixels; "
    "`allow` does not help here)"
)


def test_synthetic_pictures_reach_no_sink_unmarked() -> None:
    nodes = {
        "dream": node("Dream"),
        "blur": node("Blur", {"frames": "dream"}),
        "show": node("Screen", {"frames": "blur"}),
        "send": node(
            "Publish",
            {"frames": {"from": "dream", "queue": 1, "full": "block", "allow": ["unmarked"]}},
        ),
        "count": node("Tally", {"frames": "dream"}),
    }
    assert problems_of(nodes) == [TOLD.format("show", "blur"), TOLD.format("send", "dream")]


def test_what_is_made_of_camera_pictures_is_synthetic_too() -> None:
    nodes = {
        "cam": CAM,
        "paint": node("Repaint", {"frames": "cam"}),
        "show": node("Screen", {"frames": "paint"}),
        "plain": node("Screen", {"frames": "cam"}),
    }
    assert problems_of(nodes) == [TOLD.format("show", "paint")]


def test_a_badge_behind_the_last_model_is_enough_and_one_before_it_is_not() -> None:
    nodes = {
        "dream": node("Dream"),
        "badge": node("Badge", {"frames": "dream"}),
        "show": node("Screen", {"frames": "badge"}),
    }
    assert "show" in plan_of(nodes).nodes
    again = {"paint": node("Repaint", {"frames": "badge"})}
    shown = {"show": node("Screen", {"frames": "paint"})}
    assert problems_of({**nodes, **again, **shown}) == [TOLD.format("show", "paint")]


@pytest.mark.parametrize(
    ("between", "sees_it"), [("Blur", False), ("Carry", True), ("Count", True)]
)
def test_a_badge_holds_until_pixels_change(between: str, sees_it: bool) -> None:
    nodes = {
        "dream": node("Dream"),
        "badge": node("Badge", {"frames": "dream"}),
        "between": node(between, {"frames": "badge"}),
        "show": node("Screen", {"frames": "between"}),
    }
    if sees_it:
        assert "show" in plan_of(nodes).nodes
    else:
        assert problems_of(nodes) == [TOLD.format("show", "between")]
    del nodes["badge"]
    nodes["between"] = node(between, {"frames": "dream"})
    assert problems_of(nodes) == [TOLD.format("show", "between")]


def test_what_comes_over_a_back_edge_is_synthetic_too() -> None:
    back = {"from": "paint", "queue": 1, "full": "latest", "back_edge": True}
    nodes = {
        "cam": CAM,
        "mix": node("Steer", {"frames": "cam", "previous": back}),
        "on": node("Blur", {"frames": "mix"}),
        "paint": node("Repaint", {"frames": "on"}),
        "show": node("Screen", {"frames": "mix"}),
        "later": node("Screen", {"frames": "on"}),
        "plain": node("Screen", {"frames": "cam"}),
    }
    assert problems_of(nodes) == [TOLD.format("show", "mix"), TOLD.format("later", "on")]
    nodes["paint"] = node("Blur", {"frames": "on"})
    assert "show" in plan_of(nodes).nodes


@pytest.mark.parametrize("sink", ["Peek", "Blur", "Carry", "Relay"])
def test_who_does_not_say_that_it_looks_at_no_pixels_shows_them(sink: str) -> None:
    """Also with an output that nobody takes, or with device: any."""
    nodes = {"dream": node("Dream"), "last": node(sink, {"frames": "dream"})}
    assert problems_of(nodes) == [TOLD.format("last", "dream")]


def test_who_sends_frames_away_shows_them_even_if_it_gives_them_on() -> None:
    nodes = {
        "dream": node("Dream"),
        "relay": node("Relay", {"frames": "dream"}),
        "count": node("Tally", {"frames": "relay"}),
    }
    (problem,) = problems_of(nodes)
    assert problem == TOLD.format("relay", "dream")


def test_who_ignores_pixels_may_end_a_graph_of_synthetic_ones() -> None:
    nodes = {
        "dream": node("Dream"),
        "count": node("Count", {"frames": "dream"}),
        "say": node("Notify", {"frames": "dream"}),
        "journal": node("Journal", {"frames": "say"}),
    }
    assert set(plan_of(nodes).nodes) == set(nodes)


def test_an_input_may_take_less_on_a_gpu() -> None:
    nodes = {
        "cam": node("Camera", config={"uri": "x", "pix_fmt": "rgb24"}),
        "here": node("Painter", {"frames": "cam"}),
        "up": node("Upload", {"frames": "cam"}, device="cuda:0"),
        "there": node("Painter", {"frames": "up"}, device="cuda:0"),
    }
    assert problems_of(nodes) == [
        "there|inputs.frames: pix_fmt: rgb24 where yuv420p is accepted, from 'up.out' "
        "(convert between)"
    ]


@pytest.mark.parametrize(
    ("policy", "field"),
    [
        ({"full": "drop_oldest"}, "full"),
        ({"full": "latest"}, "full"),
        ({"full": "block", "max_age_ms": 5}, "max_age_ms"),
    ],
)
def test_a_live_graph_loses_no_events(policy: dict[str, Any], field: str) -> None:
    nodes = {
        "cam": CAM,
        "journal": node("Journal", {"frames": {"from": "cam", "queue": 2, **policy}}),
    }
    (problem,) = problems_of(nodes, mode="live")
    assert problem.startswith(f"journal|inputs.frames.{field}: ")
    assert "would lose events" in problem
    assert plan_of(nodes, mode="file").edges[0].policy == "block"


def test_the_latest_will_not_do_for_events() -> None:
    nodes = {"cam": CAM, "journal": node("LatestJournal", {"frames": {"from": "cam"}})}
    assert problems_of(nodes, mode="live") == [
        "journal|inputs.frames.full: full: latest would lose events "
        "(say full: block; events are evidence)"
    ]


def test_a_journal_may_block() -> None:
    plan = plan_of({"cam": CAM, "journal": node("Journal", {"frames": "cam"})}, mode="live")
    assert plan.edges[0].policy == "block"
