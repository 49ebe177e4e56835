"""The cells of a store as the report sees them: one `Result` each, whatever the file holds."""

from __future__ import annotations

import functools
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.reading import names
from gradmeter.bench.rows import ALL, COLUMNS, Row
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators.options import numbers

_IDENTITY = (
    *("problem", "problem_options", "estimator", "estimator_options", "backend", "device", "dtype"),
    *("num_samples", "seed", "noise", "machine", "content"),
)
#: Columns that are sizes; one that is negative or larger than `LARGEST` did not come from a measurement.
_SIZES = ("variance", "seconds", "latency", "evaluations", "num_samples", "replicates", "exact_norm", "bias_norm")
LARGEST = 1e150
#: Columns that tell cells of one problem and estimator apart.
CONTEXT = ("backend", "device", "dtype", "seed", "noise")


@dataclass(frozen=True)
class Result:
    """One cell.

    Attributes
    ----------
    blocks : its rows by parameter block, `all` among them.
    store : where its series are.
    problem, estimator : what they are called: `name[k=v]`, and `#` with the start of a digest where another object of
        that name has another content.
    """

    blocks: dict[str, Row]
    store: Store
    problem: str
    estimator: str

    @property
    def row(self) -> Row:
        """The `all` row; the last one of a cell that has none."""
        return _whole(self.blocks)

    def __getitem__(self, column: str) -> Any:
        return self.row[column]

    def marked(self, kind: str) -> bool:
        """Whether its `problem` or `estimator` has a digest behind its name."""
        return bool(getattr(self, kind) != names.TEXTS[kind](self.row))

    @property
    def planted(self) -> bool:
        return names.planted(self.row["estimator"])

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
        """What the named columns hold, in words: `jax, float32, seed 1, S=4`."""
        prefixes = {"seed": "seed ", "num_samples": "S="}
        return ", ".join(prefixes.get(c, "") + self.text(c) for c in columns)

    def text(self, column: str) -> str:
        """What a column holds, as text."""
        return "–" if self[column] is None else str(self[column])

    def option(self, name: str) -> float | None:
        """A numeric option of the problem."""
        value = self["problem_options"].get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def load(store: Store, rows: Iterable[Row]) -> tuple[list[Result], int]:
    """The newest result of every cell, oldest first, and how many older ones were left out; `rows` are cleaned ones.

    A cell is measured anew when its goals or the sources that measure it change; its older rows stay in the store.
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
    """A row that can be shown and computed with: printable strings, no sizes that are negative or absurd."""
    return {name: _usable(name, value) for name, value in row.items()}


def _usable(name: str, value: Any) -> Any:
    if COLUMNS[name] in ("string", "json"):
        return {} if value is None and COLUMNS[name] == "json" else _printable(value)
    if value is not None and name in _SIZES and not 0.0 <= value <= LARGEST:
        return None
    return value


def _printable(value: Any) -> Any:
    """Strings without control characters, direction overrides and lone surrogates."""
    if isinstance(value, dict):
        return {_printable(str(k)): _printable(v) for k, v in value.items()}
    if isinstance(value, str):
        return "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in value)
    return value if value is None or isinstance(value, bool | int | float) or numbers(value) else _printable(str(value))


def varying(results: Iterable[Result], columns: Iterable[str] = CONTEXT) -> tuple[str, ...]:
    """Those of the columns in which the results differ."""
    results = list(results)
    return tuple(c for c in columns if len({r[c] for r in results}) > 1)
