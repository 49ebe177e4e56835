"""Changes of time between two runs. Seconds are not comparable between runs, because machines drift.

So every timing run times a reference workload in the same rounds. A cell's time is the median over rounds of its log
ratio to the reference, and a change is the difference of two such medians. Identical code still differs for three
reasons:

- the scatter of the rounds, which a bootstrap measures in each comparison;
- effects on a single cell that vary between processes, such as the place of its arrays in memory: `SWING`. Now and then
  they are much larger, so a store may be timed by several processes (`gradmeter run --time-again`). Then the processes
  that agree with the fastest count: what slows a single process is not the code;
- effects on all cells, because no reference follows a machine exactly: `REFERENCE_SWING`. So a shift of at most
  `SHARED` that most cells agree on is divided out and reported. A larger shift is a change like any other; a smaller
  slowdown of everything at once cannot be distinguished from the machine.

Intervals include all three, at 95 %. A slowdown of everything on one backend is reported as such: the median over its
cells is a line of its own.

Calibrated by `make calibrate`, whose runs are timed by two processes each (results/calibration holds the figures; SWING
and CALLED were chosen on earlier runs of one process each). JAX's latencies differ by up to 2.7 times between
processes, so latencies are not compared.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gradmeter.bench.comparison.change import NINETY_FIVE, Change
from gradmeter.bench.measurement.timing import median_interval
from gradmeter.bench.reading.ratios import Ratio
from gradmeter.bench.reading.results import Result

#: Standard deviation of a cell's log ratio between two runs of identical code, beyond the scatter of their rounds.
SWING = 0.015
#: Standard deviation of the log ratio that all cells of a run share, and its largest value that is divided out.
REFERENCE_SWING, SHARED = 0.025, 0.045
#: Log times of one cell in two processes agree if they differ by at most this.
AGREEING = 3.0 * SWING
#: Fewest timed cells of a backend that has a line of its own.
FEWEST = 3


def time_ratio(before: Result, after: Result, series: str = "seconds") -> Ratio | None:
    """Return the ratio of after to before, of seconds relative to the reference workload in the same rounds.

    Parameters
    ----------
    before
        Result of the first store.
    after
        Result of the same cell in the second store.
    series
        Name of the series of times, `seconds` or `latency`.
    """
    new, old = (_relative_log_seconds(r, series) for r in (after, before))
    if new is None or old is None:
        return None
    (x, x_below, x_above), (y, y_below, y_above) = _over_processes(new), _over_processes(old)
    below, above = math.hypot(x_below, y_above), math.hypot(x_above, y_below)
    return Ratio(math.exp(x - y), math.exp(x - y - below), math.exp(x - y + above))


def _over_processes(processes: list[np.ndarray]) -> tuple[float, float, float]:
    """Return the mean of the medians of the processes that agree with the fastest, and its 95 % half-widths.

    The half-widths are those below and above the mean.
    """
    found = [median_interval(rounds) for rounds in processes]
    fastest = min(middle for middle, *_ in found)
    agreeing = [each for each in found if each[0] - fastest <= AGREEING]
    size = len(agreeing)
    middle = sum(m for m, *_ in agreeing) / size
    swing = NINETY_FIVE * SWING * math.sqrt(size / 2.0)  # SWING is that of a ratio, hence of two processes
    below, above = (math.hypot(swing, *(abs(each[i] - each[0]) for each in agreeing)) / size for i in (1, 2))
    return middle, below, above


def _relative_log_seconds(result: Result, series: str) -> list[np.ndarray] | None:
    """Return the rounds of log relative seconds of each process that timed the cell; None where they are missing."""
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
    """Divide out what the times of all cells share; return the cells and the logarithm of the shared factor.

    The factor is the most probable shift if most cells have not changed: cells more than two standard errors from it
    count as changed, however far they are.
    """
    times_found = [ratio for c in cells if (ratio := c.ratios["time"]) is not None]
    if not times_found:
        return cells, 0.0
    logs = np.array([math.log(ratio.value) for ratio in times_found])
    errors = np.array([math.log(ratio.high / ratio.low) / (2.0 * NINETY_FIVE) for ratio in times_found])
    shifts = np.linspace(-SHARED, SHARED, 181)
    misfit = np.minimum(((logs - shifts[:, None]) / errors) ** 2, 4.0).sum(axis=1) + (shifts / REFERENCE_SWING) ** 2
    # Among equal misfits take the smallest shift, so that nothing is divided out without evidence.
    shift = float(min(zip(misfit, np.abs(shifts), shifts, strict=True))[2])
    agreeing = np.abs(logs - shift) < 2.0 * errors
    error = (np.sum(errors[agreeing] ** -2.0) + REFERENCE_SWING**-2.0) ** -0.5
    return [replace(c, ratios={**c.ratios, "time": _shifted(c.ratios["time"], shift, error)}) for c in cells], shift


def _shifted(ratio: Ratio | None, shift: float, error: float) -> Ratio | None:
    """Subtract a shift with the given standard error from the logarithm of a ratio."""
    if ratio is None:
        return None
    middle = math.log(ratio.value) - shift
    below = math.hypot(math.log(ratio.value / ratio.low), NINETY_FIVE * error)
    above = math.hypot(math.log(ratio.high / ratio.value), NINETY_FIVE * error)
    return Ratio(math.exp(middle), math.exp(middle - below), math.exp(middle + above))


def of_backends(cells: list[Change]) -> list[Change]:
    """Return the median change of time over the cells of each backend, no more certain than that of a single cell."""
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
