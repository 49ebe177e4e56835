"""Benchmarks and, beside each, in the same interleaved rounds, what they are divided by.

Seconds swing by tens of per cent on a shared machine and mean nothing on another. The ratio to work that swings along
is what is kept, printed and gated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from gradmeter.bench.measurement.cell import measure
from gradmeter.bench.measurement.prepared import Prepared, prepare
from gradmeter.bench.measurement.timing import calibrate, interleave, paired_ratio, reference_parts
from gradmeter.bench.tracking.workloads import REAL_DATA, cell
from gradmeter.estimators.backends import NAMES, missing

REPLICATES = 2**13
ROUNDS = 30

#: What `make benchmark` prints at its end: the name of a benchmark, its ratio in words.
PRINTED: list[tuple[str, str]] = []


def cases(estimators: tuple[str, ...], leave_out: tuple[tuple[str, str], ...] = ()) -> list[Any]:
    """Every (backend, estimator); those of a framework that is not installed are skipped with the reason."""
    return [
        pytest.param(
            backend,
            estimator,
            id=f"{backend}-{estimator}",
            marks=pytest.mark.skipif(missing(backend) is not None, reason=missing(backend) or ""),
        )
        for backend in NAMES
        for estimator in estimators
        if (backend, estimator) not in leave_out
    ]


@functools.cache
def ready(backend: str, estimator: str) -> Prepared:
    """An estimator on real data."""
    return prepare(cell(REAL_DATA, backend, estimator))


@functools.cache
def statistics(backend: str, estimator: str) -> dict[str, Any]:
    """Its variance, bias bound and verdict, at a fixed seed."""
    goals = cell(REAL_DATA, backend, estimator, replicates=REPLICATES).goals
    found = measure(ready(backend, estimator), goals).blocks["all"]
    return {name: found[name] for name in ("variance", "bias_bound", "verdict")}


#: Named by its parts: a ratio to other work is another number.
REFERENCE = f"the reference workload ({', '.join(reference_parts())})"


def reference_workload() -> Callable[[], Any]:
    """All parts of the reference workload, one after another."""
    parts = list(reference_parts().values())

    def run() -> None:
        for part in parts:
            part()

    return run


def timed(
    benchmark: Any, call: Callable[[], Any], beside: Callable[[], Any] | None = None, to: str = REFERENCE
) -> None:
    """Time a call that blocks until it is done: warmed up, in rounds long enough, then in pairs with `beside`.

    Leaves `ratio` (median and 95 % interval) and `ratio_to` in `extra_info`. With benchmarks disabled the call runs
    once: that it works is then all that is seen.
    """
    if not benchmark.enabled:
        benchmark.pedantic(call)
        return
    beside = beside or reference_workload()
    repeats, _ = calibrate(call)
    benchmark.pedantic(call, warmup_rounds=3, rounds=ROUNDS, iterations=repeats)
    pair = {"call": (call, repeats), "beside": (beside, calibrate(beside)[0])}
    seconds = interleave(pair, ROUNDS)
    ratio, low, high = paired_ratio(seconds["call"], seconds["beside"])
    benchmark.extra_info.update(ratio=[ratio, low, high], ratio_to=to)
    PRINTED.append((benchmark.name, f"{ratio:.3g} [{low:.3g}, {high:.3g}] × {to.partition(' (')[0]}"))
