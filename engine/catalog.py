"""Finding operators: by their `module:Class` name, and all that are installed."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.contract import Operator
from engine.convert import nearest
from engine.errors import OperatorError

PACKAGE = "operators"  # where the installed operators are


def load_operator(op: str) -> type[Operator[Any]]:
    """The class behind `module:Class`; OperatorError `NOT_FOUND` or `IMPORT_FAILED` if not."""
    module_name, colon, class_name = op.partition(":")
    is_path = all(part.isidentifier() for part in module_name.split("."))
    if not (is_path and colon and class_name):
        raise OperatorError("NOT_FOUND", f"'{op}' is not module:Class; {_nearest_operator(op)}")
    module = _import(module_name, op)
    found = getattr(module, class_name, None)
    if found is None:
        hint = nearest(class_name, operators_in(module))
        raise OperatorError("NOT_FOUND", f"{module_name} has no operator '{class_name}'; {hint}")
    if not (isinstance(found, type) and issubclass(found, Operator)):
        raise OperatorError("NOT_FOUND", f"{op} is not an Operator")
    return found


def known_operators(package: str = PACKAGE) -> dict[str, type[Operator[Any]]]:
    """Every operator below `package` by its `module:Class`, sorted; modules are imported."""
    return {
        f"{name}:{class_name}": operator
        for name in sorted(module_names(package))
        for class_name, operator in sorted(operators_in(importlib.import_module(name)).items())
    }


def operators_in(module: ModuleType) -> dict[str, type[Operator[Any]]]:
    """The operators that a module defines itself."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Operator)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
        and value.process is not Operator.process
        and not name.startswith("_")
    }


def module_names(package: str = PACKAGE) -> list[str]:
    """The modules below a package, read from the disk; only the package itself is imported."""
    return _walk(importlib.import_module(package).__path__, package)


def _walk(folders: Iterable[str], package: str) -> list[str]:
    names: list[str] = []
    for info in pkgutil.iter_modules(folders):
        name = f"{package}.{info.name}"
        if not info.ispkg:
            names.append(name)
        elif info.name not in ("nn", "recipes"):  # networks and training are no operators
            names += _walk([str(Path(folder) / info.name) for folder in folders], name)
    return names


def _import(name: str, op: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _import_failed(name, error) from error
        message = f"there is no module '{name}'; {_nearest_operator(op)}"
        raise OperatorError("NOT_FOUND", message) from error
    except Exception as error:  # whatever a module does while it is imported
        raise _import_failed(name, error) from error


def _import_failed(name: str, error: Exception) -> OperatorError:
    cause = f"{type(error).__name__}: {error}"
    return OperatorError("IMPORT_FAILED", f"importing {name} failed: {cause}")


def _nearest_operator(op: str) -> str:
    module_name, _, class_name = op.partition(":")
    root = module_name.partition(".")[0] or PACKAGE
    if importlib.util.find_spec(root) is None:
        root = PACKAGE
    if importlib.util.find_spec(root) is None:
        return "no operators are installed"
    names = module_names(root) if hasattr(importlib.import_module(root), "__path__") else [root]
    hint = nearest(module_name, names)
    return hint.replace("'?", f":{class_name}'?") if class_name else hint
