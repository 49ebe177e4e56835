"""Timing in randomised interleaved rounds, so that a drifting machine slows all contenders alike."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

ROUNDS = 20
#: Most cells that are timed in the same rounds: their compiled functions have to fit in memory.
TOGETHER = 256
SHORTEST = 0.01
TICKS = 1000
#: Bootstrap resamples of an interval.
RESAMPLES = 1000


def _shortest() -> float:
    return max(SHORTEST, TICKS * time.get_clock_info("perf_counter").resolution)


def elapsed(call: Callable[[], Any], repeats: int) -> float:
    """Return the seconds that this many calls take.

    A call that works in another process brings its own stopwatch, a method `elapsed(repeats)`.
    """
    own = getattr(call, "elapsed", None)
    if own is not None:
        return float(own(repeats))
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return time.perf_counter() - start


def calibrate(call: Callable[[], Any]) -> tuple[int, float]:
    """Return how often to repeat a call so that one measurement is long enough, and the seconds of its compilation."""
    first = elapsed(call, 1)
    once = min(elapsed(call, 1), elapsed(call, 1))
    few = max(1, math.ceil(0.1 * _shortest() / max(once, 1e-9)))
    steady = elapsed(call, few) / few
    return math.ceil(1.1 * _shortest() / steady), max(0.0, first - once)


def interleave(
    calls: Mapping[Any, tuple[Callable[[], Any], int]],
    rounds: int = ROUNDS,
    each_round: Callable[[int], None] | None = None,
) -> dict[Any, list[float]]:
    """Time every call `rounds` times, in an order that is reshuffled every round; return seconds per call.

    Parameters
    ----------
    calls
        Name -> (call, repeats).
    rounds
        Number of rounds.
    each_round
        Callback that receives the number of each finished round.
    """
    order = list(calls)
    shuffle = np.random.default_rng(0)
    seconds: dict[Any, list[float]] = {name: [] for name in order}
    for number in range(rounds):
        for i in shuffle.permutation(len(order)):
            call, repeats = calls[order[i]]
            seconds[order[i]].append(elapsed(call, repeats) / repeats)
        if each_round is not None:
            each_round(number + 1)
    return seconds


def median_interval(values: Any) -> tuple[float, float, float]:
    """Return the median and its 95 % bootstrap interval."""
    values = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(np.median(values[drawn], axis=1), [0.025, 0.975])
    return float(np.median(values)), float(low), float(high)


def paired_ratio(numerator: Any, denominator: Any) -> tuple[float, float, float]:
    """Return the median of paired log ratios as a ratio, with its 95 % bootstrap interval."""
    middle, low, high = median_interval(np.log(np.asarray(numerator) / np.asarray(denominator)))
    return float(np.exp(middle)), float(np.exp(low)), float(np.exp(high))


def reference_parts() -> dict[str, Callable[[], Any]]:
    """Return the reference workload that every timing run includes: four kinds of work, in NumPy and Python alone.

    One kind would not suffice: from process to process each drifts by 1 to 2 % against all others. (Vectorised
    exponentials, once a fifth kind, drifted by up to 30 %.)
    """
    generator = np.random.Generator(np.random.SFC64(0))
    normals, unsorted = np.empty(2**14), generator.standard_normal(2**11)
    matrix, product = generator.standard_normal((48, 48)), np.empty((48, 48))

    def interpret() -> int:
        total = 0
        for i in range(1000):
            total += i * i
        return total

    return {
        "normals": lambda: generator.standard_normal(out=normals),
        "products": lambda: np.matmul(matrix, matrix, out=product),
        "sorting": lambda: np.sort(unsorted),
        "interpreting": interpret,
    }
