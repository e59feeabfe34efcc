"""Settings of a recipe: a struct that the command line may change field by field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from engine.convert import Place, convert_struct
from engine.errors import Problem
from engine.recipe import RecipeError

S = TypeVar("S", bound=msgspec.Struct)


def changed(default: S, settings: Mapping[str, Any]) -> S:
    """`default` with some fields replaced; RecipeError names every wrong one."""
    problems: list[Problem] = []
    data = {**msgspec.to_builtins(default), **settings}
    made = convert_struct(type(default), data, Place(problems, ""))
    if problems or made is None:
        told = "; ".join(f"{p.field}: {p.message} {p.hint}".strip() for p in problems)
        raise RecipeError(f"--set: {told}")
    return made
