"""Two stores side by side: what became faster, slower, more or less variable, with intervals.

Cells are matched by their description. Both stores draw the same noise for the same cell, so variances are compared
pair by pair and a few per cent show. Seconds are divided by those of the reference workload timed beside them, since
machines swing from one run to the next; what is left of that swing is `SWING`, and a smaller change is not called.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np

from bench.measurement.timing import median_interval
from bench.report.ratios import Ratio, variance_ratio
from bench.report.results import Result, load
from bench.sweep.store import Store
from estimators import UsageError
from estimators.errors import unknown
from estimators.options import number

#: Identical code, timed in two runs, differs by up to this factor after normalising.
SWING = 1.10
#: Two exactly equal computations, apart from the order of additions.
ROUNDING = 1.0 + 1e-9
METRICS = ("time", "variance")
_IDENTITY = (
    *("problem", "problem_options", "estimator", "estimator_options", "backend", "device", "dtype"),
    *("num_samples", "seed", "noise"),
)


@dataclass(frozen=True)
class Change:
    """One cell in both stores: ratios of the second to the first."""

    before: Result
    after: Result
    time: Ratio | None
    variance: Ratio | None

    @property
    def label(self) -> str:
        """The cell in words."""
        r = self.after
        return f"{r.problem} · {r.estimator} · {r.context(('backend', 'device', 'dtype', 'num_samples', 'seed'))}"

    def word(self, metric: str) -> str:
        """What became of a metric, in a word; `same` unless the whole interval lies beyond what noise explains."""
        ratio: Ratio | None = getattr(self, metric)
        if ratio is None:
            return "not known"
        more, less, swing = ("slower", "faster", SWING) if metric == "time" else ("more", "less", ROUNDING)
        return more if ratio.low > swing else less if ratio.high < 1.0 / swing else "same"


def compare(before: Store, after: Store) -> tuple[list[Change], int]:
    """The cells that both stores hold, and how many only one of them does.

    Raises
    ------
    UsageError
        The stores have no measured cell in common.
    """
    first, second = ({_identity(r): r for r in load(s, s.rows())[0] if r.measured} for s in (before, after))
    common = [key for key in first if key in second]
    if not common:
        raise UsageError("the two stores have no measured cell in common; run the same suite into both")
    changes = [
        Change(first[k], second[k], _time_ratio(first[k], second[k]), variance_ratio(second[k], first[k]))
        for k in common
    ]
    return changes, len(first) + len(second) - 2 * len(common)


def _identity(result: Result) -> str:
    return json.dumps([result[column] for column in _IDENTITY], sort_keys=True, default=str)


def _time_ratio(before: Result, after: Result) -> Ratio | None:
    """Seconds over those of the reference workload in the same rounds, after over before."""
    parts = [_relative_log_seconds(r) for r in (after, before)]
    if parts[0] is None or parts[1] is None:
        return None
    (x, xl, xh), (y, yl, yh) = (median_interval(p) for p in parts)
    below, above = math.hypot(x - xl, yh - y), math.hypot(xh - x, y - yl)
    return Ratio(math.exp(x - y), math.exp(x - y - below), math.exp(x - y + above))


def _relative_log_seconds(result: Result) -> np.ndarray | None:
    seconds, reference = result.series.get("seconds"), result.series.get("reference")
    if seconds is None or reference is None or len(seconds) != len(reference) or not len(seconds):
        return None
    return np.log(seconds / reference)


def parse_gate(text: str) -> tuple[str, float]:
    """`time:1.25` as the metric and the ratio at which a comparison fails."""
    metric, colon, limit = text.partition(":")
    if not colon:
        raise UsageError(f"--fail '{text}' is not of the form metric:ratio; for example: --fail time:1.25")
    if metric not in METRICS:
        raise unknown("metric of --fail:", metric, METRICS)
    return metric, number(f"--fail {metric}", limit, float, above=1.0)


def tripped(changes: list[Change], gates: list[tuple[str, float]]) -> list[tuple[Change, str]]:
    """Changes for the worse that reach a gate and that noise does not explain."""
    worse = {"time": "slower", "variance": "more"}
    return [
        (change, metric)
        for metric, limit in gates
        for change in changes
        if change.word(metric) == worse[metric] and getattr(change, metric).value >= limit
    ]
