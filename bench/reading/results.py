"""The cells of a store as the report reads them: one `Result` per cell, robust to any content of the file."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.reading import names
from gradmeter.bench.rows import ALL, COLUMNS, Row
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators.errors import printable
from gradmeter.estimators.options import numbers

_IDENTITY = (
    *("problem", "problem_options", "estimator", "estimator_options", "backend", "device", "dtype"),
    *("num_samples", "seed", "noise", "machine", "content"),
)
#: Columns of sizes; a negative value, or one above `LARGEST` or below 1 / `LARGEST`, did not come from a measurement.
_SIZES = ("variance", "seconds", "latency", "evaluations", "num_samples", "replicates", "exact_norm", "bias_norm")
LARGEST = 1e150
#: Columns of sizes that have an interval.
_INTERVALS = ("variance", "seconds", "latency")
#: Columns that distinguish cells of one problem and estimator.
CONTEXT = ("backend", "device", "dtype", "seed", "noise")


@dataclass(frozen=True)
class Result:
    """The result of one cell.

    Attributes
    ----------
    blocks
        Its rows by parameter block, including `all`.
    store
        The store that holds its series.
    problem, estimator
        Their names, `name[k=v]`, followed by `#` and the start of a digest if another object of the same name has
        different content.
    """

    blocks: dict[str, Row]
    store: Store
    problem: str
    estimator: str

    @property
    def row(self) -> Row:
        """The `all` row; the last row of a cell without one."""
        return _whole(self.blocks)

    def __getitem__(self, column: str) -> Any:
        return self.row[column]

    def marked(self, kind: str) -> bool:
        """Return whether its `problem` or `estimator` has a digest after its name."""
        return bool(getattr(self, kind) != names.TEXTS[kind](self.row))

    @property
    def injected(self) -> bool:
        return names.injected(self.row["estimator"])

    @property
    def biased_by_nature(self) -> str | None:
        return names.biased(self.row["estimator"])

    @property
    def measured(self) -> bool:
        return bool(self.row["status"] == "ok" and self.row["variance"] is not None)

    @property
    def timed(self) -> bool:
        return self.measured and bool(self.row["seconds"])

    @functools.cached_property
    def series(self) -> dict[str, np.ndarray]:
        return self.store.series(self.row["cell_key"] or "")

    def context(self, columns: Iterable[str]) -> str:
        """Return the values of the given columns in words: `jax, float32, seed 1, S=4`."""
        prefixes = {"seed": "seed ", "num_samples": "S="}
        return ", ".join(prefixes.get(c, "") + self.text(c) for c in columns)

    def text(self, column: str) -> str:
        """Return the value of a column as text."""
        return "–" if self[column] is None else str(self[column])

    def option(self, name: str) -> float | None:
        """Return a numeric option of the problem; None if it is not a number."""
        value = self["problem_options"].get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def load(store: Store, rows: Iterable[Row]) -> tuple[list[Result], int]:
    """Return the newest result of every cell, oldest first, and the number of older results that were left out.

    A cell is measured anew when its stopping criteria or the sources that measure it change; its older rows stay in the
    store.

    Parameters
    ----------
    rows
        Rows from `cleaned`.
    """
    cells: dict[str, dict[str, Row]] = {}
    for row in rows:
        cells.setdefault(row["cell_key"] or "", {})[row["block"] or ALL] = row
    newest: dict[str, dict[str, Row]] = {}
    for blocks in cells.values():
        identity = json.dumps([_whole(blocks)[column] for column in _IDENTITY], sort_keys=True, default=str)
        newest.pop(identity, None)
        newest[identity] = blocks
    named = names.telling_apart(map(_whole, newest.values()))
    return [Result(b, store, *named(_whole(b))) for b in newest.values()], len(cells) - len(newest)


def _whole(blocks: dict[str, Row]) -> Row:
    return blocks.get(ALL) or list(blocks.values())[-1]


def cleaned(row: Row) -> Row:
    """Return a row that is safe to show and to compute with: printable strings, no negative or absurd sizes."""
    usable = {name: _usable(name, value) for name, value in row.items()}
    for name in _INTERVALS:
        if f"{name}_low" not in row:
            continue
        value, low, high = (usable[f"{name}{end}"] for end in ("", "_low", "_high"))
        ends = value is not None and low is not None and high is not None
        if not ends or not 0.0 <= low <= value <= high or 0.0 < low < 1.0 / LARGEST:
            usable |= {f"{name}_low": None, f"{name}_high": None}
    return usable


def _usable(name: str, value: Any) -> Any:
    if COLUMNS[name] in ("string", "json"):
        return {} if value is None and COLUMNS[name] == "json" else _printable(value)
    sized = value is not None and name in _SIZES
    return None if sized and value != 0 and not 1.0 / LARGEST <= value <= LARGEST else value


def _printable(value: Any) -> Any:
    """Return a value whose strings are safe to show."""
    if isinstance(value, dict):
        return {printable(str(k)): _printable(v) for k, v in value.items()}
    if isinstance(value, str):
        return printable(value)
    return value if value is None or isinstance(value, bool | int | float) or numbers(value) else _printable(str(value))


def varying(results: Iterable[Result], columns: Iterable[str] = CONTEXT) -> tuple[str, ...]:
    """Return the columns in which the results differ."""
    results = list(results)
    return tuple(c for c in columns if len({r[c] for r in results}) > 1)
