"""Suites: TOML files that name grids of cells.

summary = "what it is for"
precision = 0.05            # goals; all optional, and a grid may override them
bias_bound = 0.01
max_replicates = 131072

[[grid]]
problem = ["square[k=2]"]
estimator = ["pathwise", "score-function[baseline=mean]"]
backend = ["numpy", "jax"]  # the rest optional: device, dtype, samples, seed
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench.sweep.cells import DTYPES, Cell, Goals, check_choice, grid, make_estimator, make_problem
from estimators import UsageError, backends
from estimators.errors import unknown
from estimators.options import number

_AXES = {"problem": str, "estimator": str, "backend": str, "device": str, "dtype": str, "samples": int, "seed": int}
_TOP = ("summary", "precision", "bias_bound", "max_replicates", "grid")


@dataclass(frozen=True)
class Suite:
    name: str
    summary: str
    cells: list[Cell]


def names() -> list[str]:
    """The suites that come with gradvar."""
    return sorted(f.name.removesuffix(".toml") for f in files("bench.suites").iterdir() if f.name.endswith(".toml"))


def load(name: str) -> Suite:
    """A suite by its name, or from a path to a TOML file.

    Raises
    ------
    UsageError
        No such suite, or a file that cannot be read or is no suite.
    """
    if name in names():
        text, label = files("bench.suites").joinpath(f"{name}.toml").read_text(encoding="utf-8"), f"suite {name}"
    elif name.endswith(".toml") or "/" in name:
        label = f"suite {name}"
        try:
            text = Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{label} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    else:
        raise unknown("suite", name, names())
    try:
        return _build(name, tomllib.loads(text), label)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{label} is not TOML: {error}") from None


def _build(name: str, content: dict[str, Any], label: str) -> Suite:
    for key in content:
        if key not in _TOP:
            raise unknown(f"key in {label}:", key, _TOP)
    grids = content.get("grid", [])
    if not isinstance(grids, list) or not grids or not all(isinstance(g, dict) for g in grids):
        raise UsageError(f"{label} has no [[grid]]; it needs at least one, with problem and estimator")
    goals = _goals(content, Goals(), label)
    cells: dict[Cell, None] = {}
    for table in grids:
        cells.update(dict.fromkeys(_cells(table, goals, label)))
    return Suite(name, str(content.get("summary", "")), list(cells))


def _goals(table: dict[str, Any], default: Goals, label: str) -> Goals:
    return Goals(
        precision=number(f"precision in {label}", table.get("precision", default.precision), float, above=0.0),
        bias_bound=number(f"bias_bound in {label}", table.get("bias_bound", default.bias_bound), float, above=0.0),
        max_replicates=number(
            f"max_replicates in {label}", table.get("max_replicates", default.max_replicates), int, minimum=1
        ),
    )


def _cells(table: dict[str, Any], goals: Goals, label: str) -> list[Cell]:
    known = (*_AXES, *vars(goals))
    for key in table:
        if key not in known:
            raise unknown(f"key in a grid of {label}:", key, known)
    axes = {}
    for key, kind in _AXES.items():
        values = table.get(key, [])
        values = values if isinstance(values, list) else [values]
        if not all(isinstance(v, kind) and not isinstance(v, bool) for v in values):
            raise UsageError(f"{label}: {key} must be a list of {'whole numbers' if kind is int else 'names'}")
        axes[key] = values
    if not axes["problem"] or not axes["estimator"]:
        raise UsageError(f"{label}: a grid needs both problem and estimator")
    return grid(
        [make_problem(text) for text in axes["problem"]],
        [make_estimator(text) for text in axes["estimator"]],
        [check_choice("backend", b, backends.NAMES) for b in axes["backend"]] or ["numpy"],
        [check_choice("device", d, backends.DEVICES) for d in axes["device"]] or ["cpu"],
        [check_choice("dtype", d, DTYPES) for d in axes["dtype"]] or ["float64"],
        [number("samples", s, int, minimum=1) for s in axes["samples"]],
        [number("seed", s, int, minimum=0) for s in axes["seed"]] or [0],
        goals=_goals(table, goals, label),
    )


def with_goals(cells: list[Cell], **goals: float | int | None) -> list[Cell]:
    """The same cells with some goals replaced (those that are not None)."""
    given = {name: value for name, value in goals.items() if value is not None}
    return [replace(cell, goals=replace(cell.goals, **given)) for cell in cells]  # type: ignore[arg-type]
