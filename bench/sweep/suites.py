"""Suites: TOML files that name grids of cells.

summary = "what it is for"
precision = 0.05            # goals; all optional, and a grid may override them
bias_bound = 0.01
max_replicates = 131072
minibatch_parts = true      # optional: split the variance of cells that draw a minibatch, as --minibatch-parts does

[[grid]]
problem = ["square[k=2]"]
estimator = ["pathwise", "score-function[baseline=mean]"]
backend = ["numpy", "jax"]  # the rest optional: device, dtype, samples, seed

A suite may also name its `paper`, and hold `[[claim]]` and `[[regime]]` tables; `claims.py` has their form.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from gradmeter.bench.cells import Cell, StoppingCriteria, check_size, grid, values_of
from gradmeter.bench.problems import PROBLEMS
from gradmeter.bench.sweep.claims import Claim, Regime, parse_claim, parse_regime
from gradmeter.estimators import UsageError, plugins
from gradmeter.estimators.errors import one_line, unknown

_AXES = {"problem": str, "estimator": str, "backend": str, "device": str, "dtype": str, "samples": int, "seed": int}
LONGEST = 2**20
#: A key of more than 64 parts, a.b.c ...; the TOML reader takes quadratic time for these.
_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.){0,200}+"|'[^'\n]*+')"""
_ENDLESS_KEY = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{64}}")
_TOP = ("summary", "precision", "bias_bound", "max_replicates", "minibatch_parts", "grid", "paper", "claim", "regime")
_Parsed = TypeVar("_Parsed")
#: The folder of the suites that hold the claims of a paper.
PAPERS = "papers"


@dataclass(frozen=True)
class Suite:
    """A named grid of cells, and what is said about them."""

    name: str
    summary: str
    cells: list[Cell]
    minibatch_parts: bool = False
    paper: str = ""
    claims: list[Claim] = field(default_factory=list)
    regimes: list[Regime] = field(default_factory=list)


def names() -> list[str]:
    """Return the names of the suites that come with gradmeter; other packages may offer more."""
    top = files("gradmeter.bench.suites")
    own = [f.name for f in top.iterdir()] + [f"{PAPERS}/{f.name}" for f in top.joinpath(PAPERS).iterdir()]
    return sorted(name.removesuffix(".toml") for name in own if name.endswith(".toml"))


def papers() -> list[str]:
    """Return the names of the suites that come with gradmeter and hold the claims of a paper."""
    return [name for name in names() if name.startswith(f"{PAPERS}/")]


def with_claims(problems: set[str | None]) -> Iterator[Suite]:
    """Yield the suites of papers whose grids name these problems only, `problems` being names without options."""
    for name in papers():
        grids = tomllib.loads(_bundled(name)).get("grid", [])
        texts = (text for grid in grids for text in _listed(grid["problem"]))
        if all(text.partition("[")[0] in problems for text in texts):
            yield load(name)


def limit(most: int | None, *axes: Sequence[Any]) -> None:
    """Refuse a grid of more cells than were asked for, before it is made."""
    cells = math.prod(len(axis) for axis in axes)
    if most is not None and cells > most:
        raise UsageError(f"these are {cells:,} cells, more than {most:,}; add --yes to run them, or --plan to see them")


def load(name: str, most: int | None = None) -> Suite:
    """Load a suite by its name, or from the path of a TOML file.

    Raises
    ------
    UsageError
        There is no such suite, or the file cannot be read or is no suite.
    """
    if name in names():
        text = _bundled(name)
    elif name in plugins.offered("suite"):
        text = _text(str(plugins.imported("suite", name)))
    elif name.endswith(".toml") or "/" in name:
        text = _text(name)
    elif name.partition("[")[0] in PROBLEMS:
        raise UsageError(f"'{name}' is a problem, not a suite; use --problem '{name}'")
    else:
        raise unknown("suite", name, [*names(), *plugins.offered("suite")], "gradmeter list suites")
    if _ENDLESS_KEY.search(text):
        raise UsageError(f"suite {name} has a key of more than 64 parts; keys of a suite are single words")
    try:
        return _build(name, tomllib.loads(text), most)
    except UsageError as error:
        raise UsageError(f"suite {name}: {error}") from None
    except (ValueError, RecursionError) as error:  # ValueError: not TOML, or a number of thousands of digits
        raise UsageError(f"suite {name} is not TOML: {one_line(error)}") from None
    except MemoryError:
        raise UsageError(f"suite {name} cannot be read: not enough memory; give the process more") from None


def _bundled(name: str) -> str:
    return files("gradmeter.bench.suites").joinpath(f"{name}.toml").read_text(encoding="utf-8")


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except UnicodeDecodeError:
        raise UsageError(f"suite {path} is not a text file") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"suite {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(text) > LONGEST:
        raise UsageError(f"suite {path} is too long to be a suite; at most {LONGEST:,} characters")
    return text


def _build(name: str, content: dict[str, Any], most: int | None) -> Suite:
    for key in content:
        if key not in _TOP:
            raise unknown("key", key, _TOP)
    summary, grids, split = content.get("summary", ""), content.get("grid", []), content.get("minibatch_parts", False)
    paper = content.get("paper", "")
    if not isinstance(summary, str):
        raise UsageError("summary must be a text")
    if not isinstance(paper, str):
        raise UsageError("paper must be a text")
    if not isinstance(split, bool):
        raise UsageError("minibatch_parts must be true or false")
    if not isinstance(grids, list) or not grids or not all(isinstance(g, dict) for g in grids):
        raise UsageError("there is no [[grid]]; it needs at least one, with problem and estimator")
    goals = _goals(content, StoppingCriteria())
    cells: dict[Cell, None] = {}
    for table in grids:
        cells.update(dict.fromkeys(_cells(table, goals, most)))
        check_size(len(cells))
    claims, regimes = _tables(content, "claim", parse_claim), _tables(content, "regime", parse_regime)
    return Suite(name, summary, list(cells), split, paper, claims, regimes)


def _tables(content: dict[str, Any], key: str, parse: Callable[[Any], _Parsed]) -> list[_Parsed]:
    tables = content.get(key, [])
    if not isinstance(tables, list):
        raise UsageError(f"{key} must be written [[{key}]], once for each {key}")
    return [parse(table) for table in tables]


def _goals(table: dict[str, Any], default: StoppingCriteria) -> StoppingCriteria:
    return replace(default, **{name: table[name] for name in vars(default) if name in table})


def _cells(table: dict[str, Any], goals: StoppingCriteria, most: int | None) -> list[Cell]:
    known = (*_AXES, *vars(goals))
    for key in table:
        if key not in known:
            raise unknown("key of a grid", key, known)
    axes = {}
    for key, kind in _AXES.items():
        values = table.get(key, [])
        values = _listed(values)
        if not all(isinstance(v, kind) and not isinstance(v, bool) for v in values):
            raise UsageError(f"{key} must be a list of {'whole numbers' if kind is int else 'names'}")
        axes[key] = values
    if not axes["problem"] or not axes["estimator"]:
        raise UsageError("a grid needs both problem and estimator")
    limit(most, *(values or [None] for values in axes.values()))
    checked: dict[str, Any] = {axis: values_of(axis, values) for axis, values in axes.items()}
    return grid(**checked, goals=_goals(table, goals))


def with_goals(cells: list[Cell], **goals: Any) -> list[Cell]:
    """Return the cells with some criteria replaced: those given that are not None, as numbers or text."""
    given = {name: value for name, value in goals.items() if value is not None}
    return [replace(cell, goals=replace(cell.goals, **given)) for cell in cells]
