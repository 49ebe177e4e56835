"""Estimators, families and problems of a file, under their names: `--plugin FILE`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable
from contextlib import redirect_stdout
from pathlib import Path

from gradmeter.bench.checks.targets import module_of
from gradmeter.bench.problems import PROBLEMS
from gradmeter.estimators import ESTIMATORS, FAMILIES, UsageError

REGISTRIES = (ESTIMATORS, FAMILIES, PROBLEMS)


def add(files: Iterable[Path] | None) -> None:
    """Register every class that these files define, so that it can be named like those of gradmeter.

    Raises
    ------
    UsageError
        A file cannot be imported, defines no such class, or a class has no name or one of gradmeter's.
    """
    for path in files or ():
        with redirect_stdout(sys.stderr):  # rows alone go to standard output
            module, found = module_of(path), 0
        for cls in vars(module).values():
            if not inspect.isclass(cls) or cls.__module__ != module.__name__ or inspect.isabstract(cls):
                continue
            for registry in REGISTRIES:
                if issubclass(cls, registry.base):
                    registry.add(cls)
                    found += 1
        if not found:
            raise UsageError(f"plugin {path} defines no estimator, family or problem")
