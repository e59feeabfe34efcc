"""Plain data becomes structs, nested ones too; what is wrong is told with its path."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct, field

from engine.contract import Config
from engine.convert import MANY, Place, convert_struct, nearest
from engine.errors import Problem


class Point(Struct, frozen=True, forbid_unknown_fields=True):
    x: int
    y: Annotated[int, Meta(ge=0)] = 0


class Shape(Config, frozen=True):
    """Every way in which a struct can be inside another."""

    origin: Point
    corner: Point | None = None
    points: dict[str, Point] = field(default_factory=dict)
    weights: dict[str, Annotated[float, Meta(le=1)]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    by_index: dict[int, str] = field(default_factory=dict)
    kind: Literal["box", "ball"] | None = "box"

    def __post_init__(self) -> None:
        if self.kind == "ball" and self.corner is not None:
            message = "a ball has no corner"
            raise ValueError(message)


def convert(data: object) -> tuple[Shape | None, list[str]]:
    problems: list[Problem] = []
    made = convert_struct(Shape, data, Place(problems, "n", "config"))
    return made, [f"{p.field}: {p.message}" for p in problems]


def test_everything_that_is_right_arrives() -> None:
    made, problems = convert(
        {
            "origin": {"x": 1},
            "corner": {"x": 2, "y": 3},
            "points": {"a": {"x": 4}},
            "weights": {"w": 0.5},
            "sizes": [1, 2],
            "by_index": {3: "three"},
            "kind": None,
        }
    )
    assert problems == []
    assert made == Shape(
        origin=Point(1),
        corner=Point(2, 3),
        points={"a": Point(4)},
        weights={"w": 0.5},
        sizes=[1, 2],
        by_index={3: "three"},
        kind=None,
    )
    assert convert({"origin": {"x": 1}, "corner": None})[0] == Shape(origin=Point(1))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"origin": {"x": "a"}}, "config.origin.x: expected `int`, got 'a'"),
        ({"origin": {}}, "config.origin.x: is required"),
        ({"origin": 3}, "config.origin: 3 where key: value pairs are expected"),
        ({"corner": {"x": 1, "y": -1}}, "config.corner.y: expected `int` >= 0, got -1"),
        ({"corner": {"x": 1, "z": 1}}, "config.corner.z: there is no such key"),
        ({"points": {"a": {"x": None}}}, "config.points.a.x: expected `int`, got nothing"),
        ({"points": [1]}, "config.points: [1] where name: {...} pairs are expected"),
        ({"weights": {"w": 2}}, "config.weights.w: expected `float` <= 1.0, got 2"),
        ({"sizes": [1, "b"]}, "config.sizes.[1]: expected `int`, got `str`"),
        ({"by_index": {"a": "b"}}, "config.by_index"),
        ({"kind": "bx"}, "config.kind: invalid enum value 'bx'"),
        ({"kind": "ball", "corner": {"x": 1}}, "config: a ball has no corner"),
    ],
)
def test_what_is_wrong_is_told_with_its_path(data: dict[str, Any], problem: str) -> None:
    _, problems = convert({"origin": {"x": 1}, **data})
    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_a_wrong_field_hides_no_other_and_leaves_its_default() -> None:
    made, problems = convert({"origin": {"x": 1}, "kind": 3, "sizes": 4, "corner": 5})
    assert [problem.partition(":")[0] for problem in problems] == [
        "config.corner",
        "config.sizes",
        "config.kind",
    ]
    assert made == Shape(origin=Point(1))


def test_hints_name_the_nearest_word_or_the_known_ones() -> None:
    assert nearest("queu", ["full", "queue"]) == "did you mean 'queue'?"
    assert nearest("zzz", ["full", "queue"]) == "known: full, queue"
    assert nearest("zzz", []) == "there are none"
    many = [f"name{n}" for n in range(MANY + 3)]
    assert nearest("zzz", many).endswith(f"name{MANY - 1} and 3 more")
