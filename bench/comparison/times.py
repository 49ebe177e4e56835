"""Changes of time. Seconds are not comparable from one run to the next, because machines swing.

So every timing run times a reference workload in the same rounds; a cell's time is the median over rounds of its log
ratio to that, and a change is the difference of two such medians. Three things make identical code differ nevertheless:

- the scatter of the rounds, which a bootstrap measures in each comparison;
- what is a cell's own from process to process, such as where its arrays lie: `SWING`. Now and then it is much more,
  so a store may be timed by several processes (`gradmeter run --time-again`). Then those count that agree with the
  fastest: what slows one of them alone is not the code's;
- what all cells share, because no reference follows a machine exactly: `REFERENCE_SWING`. So the shift within `SHARED`
  that most cells agree on is divided out, and said. A larger one is a change like any other; a smaller slowdown of
  everything at once cannot be told from the machine.

Intervals hold all three, at 95 %. A slowdown of everything on a backend is told as such: the median over its cells is a
line of its own.

Calibrated by `make calibrate`, whose runs are timed by two processes each (results/calibration holds the figures; SWING
and CALLED were chosen on earlier runs, of one process each). JAX's latencies differ by up to 2.7 times from process to
process, so latencies are not compared.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gradmeter.bench.comparison.change import NINETY_FIVE, Change
from gradmeter.bench.measurement.timing import median_interval
from gradmeter.bench.reading.ratios import Ratio
from gradmeter.bench.reading.results import Result

#: Standard deviation of a log ratio between two runs of identical code, beyond the scatter of their rounds.
SWING = 0.015
#: The same of what all cells of a run share, and the most of it that is divided out (as a logarithm).
REFERENCE_SWING, SHARED = 0.025, 0.045
#: Processes that time the same cell agree within this, as a logarithm.
AGREEING = 3.0 * SWING
#: A backend with fewer timed cells has no line of its own.
FEWEST = 3


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
    swing = NINETY_FIVE * SWING * math.sqrt(size / 2.0)  # SWING is of a ratio, so of two processes
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


def without_shared(cells: list[Change]) -> tuple[list[Change], float]:
    """The cells with what their times share divided out, and the logarithm of that.

    The most probable shift, given that most cells have not changed: those more than two standard errors from it
    count as changed, however far they are.
    """
    times_found = [ratio for c in cells if (ratio := c.ratios["time"]) is not None]
    if not times_found:
        return cells, 0.0
    logs = np.array([math.log(ratio.value) for ratio in times_found])
    errors = np.array([math.log(ratio.high / ratio.low) / (2.0 * NINETY_FIVE) for ratio in times_found])
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
    below = math.hypot(math.log(ratio.value / ratio.low), NINETY_FIVE * error)
    above = math.hypot(math.log(ratio.high / ratio.value), NINETY_FIVE * error)
    return Ratio(math.exp(middle), math.exp(middle - below), math.exp(middle + above))


def of_backends(cells: list[Change]) -> list[Change]:
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
