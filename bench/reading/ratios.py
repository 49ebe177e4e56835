"""Ratios of two cells with 95 % intervals, from what the cells share: common random numbers, interleaved rounds.

Errors of independent factors are combined on the log scale by the square-and-add rule (Zou & Donner 2008).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.measurement.timing import median_interval, paired_ratio
from gradmeter.bench.reading.results import Result
from gradmeter.bench.rows import ALL
from gradmeter.bench.sweep.store import Store

RESAMPLES = 1000
#: Factor on a bootstrap interval, by number of groups: Student's t over the normal quantile, and the bias of a
#: bootstrapped variance.
_SMALL = {64: 1.028, 32: 1.057, 16: 1.123}
_SHARED_NOISE = ("problem", "problem_options", "num_samples", "seed", "backend", "device", "dtype", "noise")


@dataclass(frozen=True)
class Ratio:
    """A ratio and its 95 % interval; `sure` is False where an input was flagged or the ratio is not paired."""

    value: float
    low: float
    high: float
    sure: bool = True

    def __mul__(self, other: Ratio) -> Ratio:
        value = self.value * other.value
        below = math.hypot(_log(self.value, self.low), _log(other.value, other.low))
        above = math.hypot(_log(self.high, self.value), _log(other.high, other.value))
        return Ratio(value, value * math.exp(-below), value * math.exp(above), self.sure and other.sure)

    def scaled(self, factor: float) -> Ratio:
        return Ratio(self.value * factor, self.low * factor, self.high * factor, self.sure)


def _log(above: float, below: float) -> float:
    """Return log(above / below) of positive numbers, capped at 350, so that an unbounded interval stays finite."""
    return min(math.log(above) - math.log(below), 350.0)


def variance_ratio(a: Result, b: Result, block: str = ALL) -> Ratio | None:
    """Return the variance of `a` over that of `b`; None where either is 0 or unknown.

    The interval is a bootstrap over the groups of replicates that resamples group i of both cells together. If the
    cells drew the same noise, this makes the interval narrow; if not, it is equally valid.

    Parameters
    ----------
    a
        The numerator.
    b
        The denominator.
    block
        Name of a parameter block, or `all`.
    """
    first, second = a.blocks.get(block), b.blocks.get(block)
    if not first or not second or not first["variance"] or not second["variance"]:
        return None
    value = first["variance"] / second["variance"]
    sure = first["variance_flag"] == "ok" and second["variance_flag"] == "ok"
    groups = _aligned(a, b, block)
    if groups is None:
        return _from_intervals(first, second, "variance")
    x, y = groups
    if a["replicates"] != b["replicates"] and _shared_noise(a, b):  # use the paired groups for the ratio, too
        value = float(x.mean() / y.mean())
    drawn = np.random.default_rng(0).integers(0, len(x), (RESAMPLES, len(x)))
    logs = np.log(x[drawn].mean(axis=1) / y[drawn].mean(axis=1)) - math.log(x.mean() / y.mean())
    low, high = np.quantile(logs, [0.025, 0.975]) * _SMALL.get(len(x), 1.0)
    return Ratio(value, value * math.exp(min(low, 0.0)), value * math.exp(max(high, 0.0)), sure)


def _aligned(a: Result, b: Result, block: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the group means of both cells, paired index by index.

    With twice as many replicates a group holds twice as many of them; then two groups of the shorter cell match one
    group in the first half of the longer one. The other half is omitted, which costs precision but not validity.
    """
    x, y = (r.series.get(f"squared_norm:{block}") for r in (a, b))
    if x is None or y is None or len(x) != len(y) or len(x) < 16 or not (np.all(x > 0.0) and np.all(y > 0.0)):
        return None
    n, m = a["replicates"] or 0, b["replicates"] or 0
    if n == m or not n or not m or not _shared_noise(a, b):
        return x, y
    factor = max(n, m) // min(n, m)
    if max(n, m) % min(n, m) or len(x) % factor or len(x) // factor < 16:
        return x, y
    few, many = (x, y) if n < m else (y, x)
    few, many = few.reshape(-1, factor).mean(axis=1), many[: len(many) // factor]
    return (few, many) if n < m else (many, few)


def _shared_noise(a: Result, b: Result) -> bool:
    return all(a[c] == b[c] for c in _SHARED_NOISE)


def time_ratio(a: Result, b: Result) -> Ratio | None:
    """Return the seconds of `a` over those of `b`, paired by round where both were timed in the same run."""
    if not a["seconds"] or not b["seconds"]:
        return None
    x, y = a.series.get("seconds"), b.series.get("seconds")
    if x is None or y is None or not (np.all(x > 0.0) and np.all(y > 0.0)):
        return _from_intervals(a.row, b.row, "seconds")
    if timed_together(a, b):
        return Ratio(*paired_ratio(x, y))
    (xm, xl, xh), (ym, yl, yh) = median_interval(x), median_interval(y)
    together = Ratio(xm, xl, xh) * Ratio(1.0 / ym, 1.0 / yh, 1.0 / yl)
    return Ratio(together.value, together.low, together.high, sure=False)


def timed_together(a: Result, b: Result) -> bool:
    """Return whether both cells were timed in the same rounds of the reference workload."""
    x, y = a.series.get("reference"), b.series.get("reference")
    return x is not None and y is not None and len(x) > 0 and np.array_equal(x, y)


def timed_as_two(store: Store) -> list[tuple[str, Ratio]]:
    """Return the A/A pairs of a store: for every timing run, each backend and one of its cells over itself."""
    found = []
    for run in store.timing_runs():
        for name in sorted(n for n in run if n.startswith("a:")):
            backend = name.removeprefix("a:")
            x, y = run[name], run.get(f"again:{backend}", np.empty(0))
            if len(x) == len(y) > 0 and min(*x, *y) > 0.0:
                found.append((backend, Ratio(*paired_ratio(x, y))))
    return found


def work_ratio(a: Result, b: Result, timed: bool = True) -> Ratio | None:
    """Return variance × seconds of `a` over that of `b`; variance × evaluations where `timed` is False.

    Parameters
    ----------
    a
        The numerator.
    b
        The denominator.
    timed
        Whether the cost is seconds; evaluations of f otherwise.
    """
    variance = variance_ratio(a, b)
    if not timed:
        usable = variance is not None and a["evaluations"] and b["evaluations"]
        return variance.scaled(a["evaluations"] / b["evaluations"]) if variance and usable else None
    time = time_ratio(a, b)
    return variance * time if variance and time else None


def _from_intervals(a: dict[str, float | None], b: dict[str, float | None], column: str) -> Ratio | None:
    """Return the ratio of two independent columns, from their own intervals."""
    values = [row[f"{column}{suffix}"] for row in (a, b) for suffix in ("", "_low", "_high")]
    if any(v is None or v <= 0.0 for v in values):
        return None
    x, xl, xh, y, yl, yh = (float(v) for v in values if v is not None)
    ratio = Ratio(x, xl, xh) * Ratio(1.0 / y, 1.0 / yh, 1.0 / yl)
    return Ratio(ratio.value, ratio.low, ratio.high, sure=False)
