"""Arguments of `gradmeter check`: `module:Class`, `path.py:Class`, or a file with all its classes."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from gradmeter.bench.problems import Problem
from gradmeter.estimators import Estimator, Family, Integrand, UsageError
from gradmeter.estimators.errors import contained, typed, unknown

KINDS = (Family, Problem, Integrand, Estimator)


def found(target: str) -> list[Any]:
    """Return the objects and classes that a target names.

    Raises
    ------
    UsageError
        There is no such module, file or name, or it contains nothing that can be checked.
    """
    source, colon, name = target.partition(":") if not target.endswith(".py") else (target, "", "")
    if not source or (colon and not name) or not (colon or source.endswith(".py")):
        raise UsageError(f"'{target}' is not of the form module:Class, path.py:Class or path.py")
    module = module_of(Path(source)) if source.endswith(".py") else _module(source)
    if not name:
        every = _own(module)
        if not every:
            raise UsageError(f"{source} defines no family, integrand, problem or estimator")
        return every
    thing: Any = module
    for part in name.split("."):
        if not hasattr(thing, part):
            raise unknown(f"name in {source}", part, [n for n in vars(thing) if not n.startswith("_")])
        thing = getattr(thing, part)
    return [thing]


def _own(module: ModuleType) -> list[Any]:
    """Return a module's concrete classes; without integrands if the module defines a problem, which may use them."""
    own = [
        value
        for value in vars(module).values()
        if inspect.isclass(value) and value.__module__ == module.__name__ and issubclass(value, KINDS)
    ]
    own = [cls for cls in own if not inspect.isabstract(cls)] or own
    if any(issubclass(cls, Problem) for cls in own):
        own = [cls for cls in own if not issubclass(cls, Integrand)]
    return own


def _module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with contained():
            return importlib.import_module(name)
    except Exception as error:  # any error that the module raises
        raise UsageError(f"module {name} cannot be imported: {typed(error)}") from error


def module_of(path: Path) -> ModuleType:
    """Import a file, whose name need not be one of a module.

    Raises
    ------
    UsageError
        There is no such file, or it cannot be imported.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give a file in it")
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    name = f"gradmeter_checked_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        with contained():
            spec.loader.exec_module(module)
    except Exception as error:  # any error that the file raises
        del sys.modules[name]
        raise UsageError(f"{path} cannot be imported: {typed(error)}") from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module
