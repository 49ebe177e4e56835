"""Two stores side by side: what became faster, slower, more or less variable, with intervals.

Cells are matched by their description. Both stores draw the same noise for the same cell, so variances are compared
pair by pair and a few per cent show.

Seconds are not comparable from one run to the next, because machines swing. So every timing run times a reference
workload in the same rounds; a cell's time is the median over rounds of its log ratio to that, and a change is the
difference of two such medians. Three things make identical code differ nevertheless:

- the scatter of the rounds, which a bootstrap measures in each comparison;
- what is a cell's own from process to process, such as where its arrays lie: `SWING`. Now and then it is much more,
  so a store may be timed by several processes (`gradvar run --time-again`). Then those count that agree with the
  fastest: what slows one of them alone is not the code's;
- what all cells share, because no reference follows a machine exactly: `REFERENCE_SWING`. So the shift within `SHARED`
  that most cells agree on is divided out, and said. A larger one is a change like any other; a smaller slowdown of
  everything at once cannot be told from the machine.

Intervals hold all three, at 95 %. With many cells some of those miss 1 by chance, so a change is called only where it
is `CALLED` standard errors from none. A slowdown of everything on a backend is told as such: the median over its cells
is a line of its own.

Calibrated by `make calibrate`, whose runs are timed by two processes each (results/calibration holds the figures; SWING
and CALLED were chosen on earlier runs, of one process each). JAX's latencies differ by up to 2.7 times from process to
process, so latencies are not compared.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench.measurement.timing import median_interval
from bench.report.numbers import times
from bench.report.ratios import Ratio, timed_as_two, variance_ratio
from bench.report.results import Result, cleaned, load
from bench.sweep.run import FAILED
from bench.sweep.store import Store
from estimators import UsageError
from estimators.errors import unknown
from estimators.options import number

#: Standard deviation of a log ratio between two runs of identical code, beyond the scatter of their rounds.
SWING = 0.015
#: The same of what all cells of a run share, and the most of it that is divided out (as a logarithm).
REFERENCE_SWING, SHARED = 0.025, 0.045
#: Processes that time the same cell agree within this, as a logarithm.
AGREEING = 3.0 * SWING
#: Standard errors from no change at which one is called.
CALLED = 4.0
#: A backend with fewer timed cells has no line of its own.
FEWEST = 3
#: Two exactly equal computations, apart from the order of additions.
ROUNDING = 1e-9
#: What each metric is called when it grew, and when it shrank.
WORDS = {"time": ("slower", "faster"), "variance": ("more", "less")}
METRICS = tuple(WORDS)
OTHER_REFERENCE = "the stores timed different reference workloads, so their times are not compared: measure one anew"
_95 = 1.96
_IDENTITY = (
    *("problem", "problem_options", "estimator", "estimator_options", "backend", "device", "dtype"),
    *("num_samples", "seed", "noise"),
)


@dataclass(frozen=True)
class Change:
    """Ratios of the second store to the first, by metric: of one cell, or of all cells of a backend.

    Attributes
    ----------
    label : which cell or backend, in words.
    columns : the same for programs.
    ratios : by metric, with 95 % intervals; None where one store does not know it.
    """

    label: str
    columns: dict[str, Any]
    ratios: dict[str, Ratio | None]

    def word(self, metric: str) -> str:
        """What became of a metric, in a word; `same` unless noise explains it less often than once in 10,000."""
        ratio = self.ratios.get(metric)
        if ratio is None:
            return "not known"
        more, less = WORDS[metric]
        if _beyond(ratio.value, ratio.low):
            return more
        return less if _beyond(1.0 / ratio.value, 1.0 / ratio.high) else "same"

    @property
    def as_json(self) -> str:
        """One line."""
        told = {
            metric: ratio and {"word": self.word(metric), "ratio": ratio.value, "low": ratio.low, "high": ratio.high}
            for metric, ratio in self.ratios.items()
        }
        return json.dumps({**self.columns, **told}, ensure_ascii=False)


@dataclass(frozen=True)
class Comparison:
    """What two stores say of each other.

    Attributes
    ----------
    cells : a change for every cell measured in both.
    backends : a change for every backend with enough timed cells: the median over them.
    alone : cells that only the first and only the second store measured, in words.
    failed : those of the first store that the second tried and could not measure.
    shared : logarithm of what was divided out of all times.
    floors : sentences on what differences mean nothing.
    remarks : sentences on what else differs between the stores.
    """

    cells: list[Change]
    backends: list[Change]
    alone: tuple[list[str], list[str]]
    failed: list[str]
    shared: float = 0.0
    floors: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def compare(before: Store, after: Store) -> Comparison:
    """The second store against the first.

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
    cells, shared = _without_shared([_change(*pair, timed=same_reference) for pair in pairs])
    alone = [[r for key, r in each.items() if r.measured and key not in common] for each in (first, second)]
    failed = [second[key] for key, r in first.items() if r.measured and key in second and _failed(second[key])]
    return Comparison(
        cells,
        _backends(cells),
        ([_label(r) for r in alone[0]], [_label(r) for r in alone[1]]),
        [f"{_label(r)}: {r['status']}" for r in failed],
        shared,
        [*_floors("before", before), *_floors("after", after), *_smallest(cells, shared)],
        [*([] if same_reference else [OTHER_REFERENCE]), *_remarks(pairs)],
    )


def _beyond(value: float, low: float) -> bool:
    """Whether a ratio is that many standard errors above 1, given the lower end of its 95 % interval."""
    if low <= 0.0:
        return False
    return math.log(value) - CALLED / _95 * (math.log(value) - math.log(low)) > ROUNDING


def by_identity(store: Store) -> dict[str, Result]:
    """The cells of a store by what they are, whatever measured them."""
    found, _ = load(store, [cleaned(row) for row in store.rows()])
    return {json.dumps([r[column] for column in _IDENTITY], sort_keys=True, default=str): r for r in found}


def _label(r: Result) -> str:
    return f"{r.problem} · {r.estimator} · {r.context(('backend', 'device', 'dtype', 'num_samples', 'seed'))}"


def _failed(result: Result) -> bool:
    return result["status"] in FAILED


def _reference_parts(store: Store) -> set[str]:
    """What the reference workload of a store consists of; ratios to another one do not compare."""
    return {name for run in store.timing_runs() for name in run if name.startswith("reference:")}


def _change(before: Result, after: Result, timed: bool) -> Change:
    columns = {"kind": "cell", **{column: after[column] for column in _IDENTITY}}
    ratios = {"time": time_ratio(before, after) if timed else None, "variance": variance_ratio(after, before)}
    return Change(_label(after), columns, ratios)


def time_ratio(before: Result, after: Result, series: str = "seconds") -> Ratio | None:
    """Seconds over those of the reference workload in the same rounds, after over before."""
    new, old = (_relative_log_seconds(r, series) for r in (after, before))
    if new is None or old is None:
        return None
    (x, x_below, x_above), (y, y_below, y_above) = _over_processes(new), _over_processes(old)
    below, above = math.hypot(x_below, y_above), math.hypot(x_above, y_below)
    return Ratio(math.exp(x - y), math.exp(x - y - below), math.exp(x - y + above))


def _over_processes(processes: list[np.ndarray]) -> tuple[float, float, float]:
    """The mean of the medians of those processes that agree with the fastest, and how far its 95 % interval reaches
    below and above."""
    found = [median_interval(rounds) for rounds in processes]
    fastest = min(middle for middle, *_ in found)
    agreeing = [each for each in found if each[0] - fastest <= AGREEING]
    size = len(agreeing)
    middle = sum(m for m, *_ in agreeing) / size
    swing = _95 * SWING * math.sqrt(size / 2.0)  # SWING is of a ratio, so of two processes
    below, above = (math.hypot(swing, *(abs(each[i] - each[0]) for each in agreeing)) / size for i in (1, 2))
    return middle, below, above


def _relative_log_seconds(result: Result, series: str) -> list[np.ndarray] | None:
    """The rounds of each process that timed the cell."""
    seconds, reference = result.series.get(series), result.series.get("reference")
    if seconds is None or reference is None or len(seconds) != len(reference) or not len(seconds):
        return None
    if not (np.all(seconds > 0.0) and np.all(reference > 0.0)):
        return None
    process = result.series.get("process")
    if process is None or len(process) != len(seconds):
        process = np.zeros(len(seconds))
    return [np.log(seconds / reference)[process == number] for number in np.unique(process)]


def _without_shared(cells: list[Change]) -> tuple[list[Change], float]:
    """The cells with what their times share divided out, and the logarithm of that.

    The most probable shift, given that most cells have not changed: those more than two standard errors from it
    count as changed, however far they are.
    """
    times_found = [ratio for c in cells if (ratio := c.ratios["time"]) is not None]
    if not times_found:
        return cells, 0.0
    logs = np.array([math.log(ratio.value) for ratio in times_found])
    errors = np.array([math.log(ratio.high / ratio.low) / (2.0 * _95) for ratio in times_found])
    shifts = np.linspace(-SHARED, SHARED, 181)
    misfit = np.minimum(((logs - shifts[:, None]) / errors) ** 2, 4.0).sum(axis=1) + (shifts / REFERENCE_SWING) ** 2
    # Of equals the smallest, so that nothing is divided out where nothing speaks for it.
    shift = float(min(zip(misfit, np.abs(shifts), shifts, strict=True))[2])
    agreeing = np.abs(logs - shift) < 2.0 * errors
    error = (np.sum(errors[agreeing] ** -2.0) + REFERENCE_SWING**-2.0) ** -0.5
    return [replace(c, ratios={**c.ratios, "time": _shifted(c.ratios["time"], shift, error)}) for c in cells], shift


def _shifted(ratio: Ratio | None, shift: float, error: float) -> Ratio | None:
    """A ratio with a shift of its logarithm taken out, of which the standard error is given."""
    if ratio is None:
        return None
    middle = math.log(ratio.value) - shift
    below = math.hypot(math.log(ratio.value / ratio.low), _95 * error)
    above = math.hypot(math.log(ratio.high / ratio.value), _95 * error)
    return Ratio(math.exp(middle), math.exp(middle - below), math.exp(middle + above))


def _backends(cells: list[Change]) -> list[Change]:
    """The median change of time over the cells of each backend, no more certain than that of a single cell is."""
    wholes = []
    for backend in dict.fromkeys(c.columns["backend"] for c in cells):
        found = [c.ratios["time"] for c in cells if c.columns["backend"] == backend]
        known = [ratio for ratio in found if ratio is not None]
        if len(known) >= FEWEST:
            middle, low, high = median_interval([math.log(ratio.value) for ratio in known])
            single = float(np.median([math.log(ratio.high / ratio.low) / 2.0 for ratio in known]))
            below, above = math.hypot(middle - low, single), math.hypot(high - middle, single)
            ratio = Ratio(math.exp(middle), math.exp(middle - below), math.exp(middle + above))
            columns = {"kind": "backend", "backend": backend, "cells": len(known)}
            wholes.append(Change(f"{backend} as a whole, {len(known)} cells", columns, {"time": ratio}))
    return wholes


def _floors(which: str, store: Store) -> Iterator[str]:
    """The A/A pairs of a store."""
    pairs = [f"{backend} {times(r.value, r.low, r.high)}" for backend, r in timed_as_two(store)]
    if pairs:
        yield f"noise floor {which} (a cell timed as two, 95 %): {', '.join(pairs)}"


def _smallest(cells: list[Change], shared: float) -> Iterator[str]:
    """What change of time would be called, in the middle of the cells, and what was divided out of all of them."""
    known = [ratio for c in cells if (ratio := c.ratios["time"]) is not None]
    if known:
        half = float(np.median([math.log(ratio.high / ratio.low) / 2.0 for ratio in known]))
        least = math.exp(CALLED / _95 * half)
        yield (
            f"times: a change is called from {least:.2f}× on in the median cell, {CALLED:g} standard errors; "
            f"{math.exp(shared):.3f}× that all share, as runs of identical code do, is divided out"
        )


def _remarks(pairs: list[tuple[Result, Result]]) -> list[str]:
    """What differs besides the code."""
    remarks = []
    for column, note in (
        ("machine", "what is called faster or slower may be the machine"),
        ("threads", "times do not compare"),
    ):
        seen = _differing((str(a[column]), str(b[column])) for a, b in pairs)
        remarks += [f"{column} differs: {x} before, {y} after; {note}" for x, y in seen]
    packages = sorted({name for a, b in pairs for name in {**a["versions"], **b["versions"]} if name != "gradvar"})
    for name in packages:
        seen = _differing((str(a["versions"].get(name)), str(b["versions"].get(name))) for a, b in pairs)
        remarks += [f"version of {name} differs: {x} before, {y} after" for x, y in seen]
    return remarks


def _differing(pairs: Any) -> list[tuple[str, str]]:
    return [(x, y) for x, y in dict.fromkeys(pairs) if x != y]


def _nothing_in_common(first: dict[str, Result], second: dict[str, Result]) -> str:
    """Says in what the two differ where a single column tells them apart."""
    message = "the two stores have no measured cell in common; run the same suite into both"
    for column in _IDENTITY:
        values = [
            {json.dumps(r[column], sort_keys=True) for r in each.values() if r.measured} for each in (first, second)
        ]
        if all(values) and values[0].isdisjoint(values[1]):
            x, y = (", ".join(sorted(v)).replace('"', "") for v in values)
            return f"{message}: {column} is {x} in the first and {y} in the second"
    return message


def parse_gate(text: str) -> tuple[str, float]:
    """`time:1.25` as the metric and the ratio at which a comparison fails."""
    metric, colon, limit = text.partition(":")
    if not colon:
        raise UsageError(f"--fail '{text}' is not of the form metric:ratio; for example: --fail time:1.25")
    if metric not in METRICS:
        raise unknown("metric of --fail:", metric, METRICS)
    return metric, number(f"--fail {metric}", limit, float, above=1.0)


def tripped(comparison: Comparison, gates: list[tuple[str, float]]) -> list[str]:
    """Sentences on what fails the gates: changes for the worse that are called and whose interval reaches the limit.

    Raises
    ------
    UsageError
        A gate is on a metric that no cell has in both stores: it would pass whatever happened.
    """
    for metric in dict.fromkeys(metric for metric, _ in gates):
        if all(change.ratios[metric] is None for change in comparison.cells):
            hint = "" if metric == "variance" else "; run both without --no-timing"
            raise UsageError(f"--fail {metric}: no cell has its {metric} in both stores{hint}")
    sentences = [f"{cell}, measured before" for cell in comparison.failed] if gates else []
    for metric, limit in gates:
        for change in (*comparison.cells, *comparison.backends):
            ratio = change.ratios.get(metric)
            if ratio is not None and change.word(metric) == WORDS[metric][0] and ratio.high >= limit:
                told = times(ratio.value, ratio.low, ratio.high)
                sentences.append(f"{metric} of {change.label} is {told} what it was; the gate is {limit:g}")
    return sentences
