"""Compare two stores, with cells matched by their description.

Both stores draw the same noise for the same cell, so variances are compared in pairs and a change of a few per cent is
visible.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from gradmeter.bench.comparison.change import CALLED, NINETY_FIVE, Change, Comparison
from gradmeter.bench.comparison.times import of_backends, time_ratio, without_shared
from gradmeter.bench.reading.numbers import times
from gradmeter.bench.reading.ratios import timed_as_two, variance_ratio
from gradmeter.bench.reading.results import Result, cleaned, load
from gradmeter.bench.sweep.measuring import FAILED
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import UsageError

OTHER_REFERENCE = "the stores timed different reference workloads, so their times are not compared: measure one anew"
_IDENTITY = (
    *("problem", "problem_options", "estimator", "estimator_options", "backend", "device", "dtype"),
    *("num_samples", "seed", "noise"),
)


def compare(before: Store, after: Store) -> Comparison:
    """Compare the second store with the first.

    Raises
    ------
    UsageError
        The stores have no measured cell in common.
    """
    first, second = by_identity(before), by_identity(after)
    common = [key for key, result in first.items() if result.measured and key in second and second[key].measured]
    if not common:
        raise UsageError(_nothing_in_common(first, second))
    pairs = [(first[key], second[key]) for key in common]
    same_reference = _reference_parts(before) == _reference_parts(after)
    cells, shared = without_shared([_change(*pair, timed=same_reference) for pair in pairs])
    alone = [[r for key, r in each.items() if r.measured and key not in common] for each in (first, second)]
    failed = [second[key] for key, r in first.items() if r.measured and key in second and _failed(second[key])]
    return Comparison(
        cells,
        of_backends(cells),
        ([_label(r) for r in alone[0]], [_label(r) for r in alone[1]]),
        [f"{_label(r)}: {r['status']}" for r in failed],
        shared,
        [*_floors("before", before), *_floors("after", after), *_smallest(cells, shared)],
        [*([] if same_reference else [OTHER_REFERENCE]), *_remarks(pairs)],
    )


def by_identity(store: Store) -> dict[str, Result]:
    """Return the cells of a store by their identity, whatever code or machine measured them.

    A user's object is identified by its name; if the store has several of that name, also by the digest of its content.
    """
    found, _ = load(store, [cleaned(row) for row in store.rows()])
    return {
        json.dumps([r.problem, r.estimator, *(r[c] for c in _IDENTITY)], sort_keys=True, default=str): r for r in found
    }


def _label(r: Result) -> str:
    return f"{r.problem} · {r.estimator} · {r.context(('backend', 'device', 'dtype', 'num_samples', 'seed'))}"


def _failed(result: Result) -> bool:
    return result["status"] in FAILED


def _reference_parts(store: Store) -> set[str]:
    """Return the names of the parts of a store's reference workload; ratios to different workloads do not compare."""
    return {name for run in store.timing_runs() for name in run if name.startswith("reference:")}


def _change(before: Result, after: Result, timed: bool) -> Change:
    columns = {"kind": "cell", **{column: after[column] for column in _IDENTITY}}
    ratios = {"time": time_ratio(before, after) if timed else None, "variance": variance_ratio(after, before)}
    return Change(_label(after), columns, ratios)


def _floors(which: str, store: Store) -> Iterator[str]:
    """Yield a sentence on the A/A pairs of a store."""
    pairs = [f"{backend} {times(r.value, r.low, r.high)}" for backend, r in timed_as_two(store)]
    if pairs:
        yield f"noise floor {which} (a cell timed as two, 95 %): {', '.join(pairs)}"


def _smallest(cells: list[Change], shared: float) -> Iterator[str]:
    """Yield a sentence on the smallest change of time reported in the median cell, and on the shift divided out."""
    known = [ratio for c in cells if (ratio := c.ratios["time"]) is not None]
    if known:
        half = float(np.median([math.log(ratio.high / ratio.low) / 2.0 for ratio in known]))
        least = math.exp(CALLED / NINETY_FIVE * half)
        yield (
            f"times: a change is called from {least:.2f}× on in the median cell, {CALLED:g} standard errors; "
            f"{math.exp(shared):.3f}× that all share, as runs of identical code do, is divided out"
        )


def _remarks(pairs: list[tuple[Result, Result]]) -> list[str]:
    """Return sentences on differences other than the code."""
    remarks = []
    for column, note in (
        ("machine", "what is called faster or slower may be the machine"),
        ("threads", "times do not compare"),
    ):
        seen = _differing((str(a[column]), str(b[column])) for a, b in pairs)
        remarks += [f"{column} differs: {x} before, {y} after; {note}" for x, y in seen]
    packages = sorted({name for a, b in pairs for name in {**a["versions"], **b["versions"]} if name != "gradmeter"})
    for name in packages:
        seen = _differing((str(a["versions"].get(name)), str(b["versions"].get(name))) for a, b in pairs)
        remarks += [f"version of {name} differs: {x} before, {y} after" for x, y in seen]
    return remarks


def _differing(pairs: Any) -> list[tuple[str, str]]:
    return [(x, y) for x, y in dict.fromkeys(pairs) if x != y]


def _nothing_in_common(first: dict[str, Result], second: dict[str, Result]) -> str:
    """Return a message, which names the column that distinguishes the two stores if a single one does."""
    message = "the two stores have no measured cell in common; run the same suite into both"
    for column in _IDENTITY:
        values = [
            {json.dumps(r[column], sort_keys=True) for r in each.values() if r.measured} for each in (first, second)
        ]
        if all(values) and values[0].isdisjoint(values[1]):
            x, y = (", ".join(sorted(v)).replace('"', "") for v in values)
            return f"{message}: {column} is {x} in the first and {y} in the second"
    return message
