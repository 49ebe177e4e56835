"""The commands that make the cells behind a figure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from gradmeter.bench.reading.results import Result

_FLAGS = {
    "backend": ("--backend", "numpy"),
    "device": ("--device", "cpu"),
    "dtype": ("--dtype", "float64"),
    "num_samples": ("--samples", None),
    "seed": ("--seed", "0"),
}


def commands(results: Iterable[Result], *flags: str) -> str:
    """Return lines `gradmeter run FLAGS …` whose grids hold exactly these cells.

    Estimators on the same grid share a line.
    """
    grids: dict[str, set[tuple[str, ...]]] = {}
    for r in results:
        grids.setdefault(r.estimator, set()).add(
            (r.problem, *("" if r[c] is None else str(r[c]) for c in (*_FLAGS, "noise")))
        )
    lines: dict[tuple[str, ...], list[str]] = {}
    for estimator, cells in grids.items():
        for grid in _products(cells):
            lines.setdefault(grid, []).append(estimator)
    return "\n".join(_line(flags, grid, estimators) for grid, estimators in lines.items())


def _products(cells: set[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return cells as grids: one grid if they are a full product, else one for each backend and problem."""
    for keys in ((6,), (6, 1), (6, 0), (6, 0, 1), tuple(range(7))):
        parts: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for cell in sorted(cells):
            parts.setdefault(tuple(cell[k] for k in keys), []).append(cell)
        axes = [[sorted({c[i] for c in part}, key=_order) for i in range(7)] for part in parts.values()]
        sizes = []
        for axis in axes:
            size = 1
            for values in axis:
                size *= len(values)
            sizes.append(size)
        if sizes == [len(part) for part in parts.values()]:
            return [tuple("\0".join(values) for values in axis) for axis in axes]
    raise AssertionError("a single cell is a grid")


def _order(text: str) -> tuple[float, str]:
    try:
        return (float(text), text)
    except ValueError:
        return (0.0, text)


def _line(flags: tuple[str, ...], grid: tuple[str, ...], estimators: list[str]) -> str:
    problems, *axes, noise = (part.split("\0") for part in grid)
    words = ["gradmeter", "run", *flags]
    words += [w for problem in problems for w in ("--problem", problem)]
    words += [w for estimator in estimators for w in ("--estimator", estimator)]
    for (flag, default), values in zip(_FLAGS.values(), axes, strict=True):
        if values not in ([default], [""]):
            words += [w for value in values for w in (flag, value)]
    if noise not in (["native"], [""]):
        words += ["--noise", noise[0]]
    return shlex.join(words)
