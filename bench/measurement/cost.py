"""What an estimate costs: throughput in bulk and latency alone, all cells of a run timed together."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.measurement.cell import Prepared
from bench.measurement.kernel import TimedCall, in_bulk, timed_call
from bench.measurement.timing import calibrate, elapsed, interleave, median_interval, reference_workload


@dataclass(frozen=True)
class Cost:
    """Timing rounds of one cell, in seconds per estimate."""

    compile_seconds: float
    series: dict[str, np.ndarray]

    def columns(self, variance: float | None) -> dict[str, float | None]:
        """The timing columns of a row whose variance is given."""
        seconds, latency = median_interval(self.series["seconds"]), median_interval(self.series["latency"])
        return {
            **dict(zip(("seconds", "seconds_low", "seconds_high"), seconds, strict=True)),
            **dict(zip(("latency", "latency_low", "latency_high"), latency, strict=True)),
            "compile_seconds": self.compile_seconds,
            "work_normalised_variance": None if variance is None else variance * seconds[0],
        }


#: Makes a cell's two calls: estimates in bulk, and one alone.
MakeCalls = Callable[[], tuple[TimedCall, TimedCall]]


def time_cells(
    prepared: Mapping[str, Prepared],
    each_round: Callable[[int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, Cost | str], dict[str, np.ndarray]]:
    """`time_calls`, of prepared cells."""
    return time_calls({key: functools.partial(timed_calls, ready) for key, ready in prepared.items()}, each_round, stop)


class _Guarded:
    """A call that may fail in the middle of the rounds without costing the others theirs."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self.failure: str | None = None

    def elapsed(self, repeats: int) -> float:
        if self.failure is None:
            try:
                return elapsed(self._call, repeats)
            except Exception as error:
                self.failure = _not_timed(error)
        return math.nan

    def __call__(self) -> None:
        self._call()


def _not_timed(error: Exception) -> str:
    return f"not timed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def time_calls(
    makers: Mapping[str, MakeCalls],
    each_round: Callable[[int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, Cost | str], dict[str, np.ndarray]]:
    """Time every cell in the same interleaved rounds.

    Returns
    -------
    costs by key, a message in place of one that cannot be timed; and the rounds of the reference workload and
    of an A/A pair (one cell timed as two), which tell what differences mean nothing. Both are empty if `stop`
    came true before the rounds began.
    """
    calls: dict[Any, tuple[Callable[[], Any], int]] = {}
    compiling, made, failed = {}, {}, {}
    for key, make in makers.items():
        if stop():
            return {}, {}
        try:
            bulk, alone = make()
            repeats, compiling[key] = calibrate(bulk.run)
            singles, _ = calibrate(alone.run)
        except Exception as error:  # one cell that cannot be timed must not cost the others their times
            failed[key] = _not_timed(error)
            continue
        calls[key, "seconds"], calls[key, "latency"] = (_Guarded(bulk.run), repeats), (_Guarded(alone.run), singles)
        made[key] = bulk.replicates
    if not made:
        return dict(failed), {}
    reference = reference_workload()
    calls["reference"] = (reference, calibrate(reference)[0])
    first = next(iter(made))
    calls["again"] = calls[first, "seconds"]
    rounds = interleave(calls, each_round=each_round)
    costs: dict[str, Cost | str] = dict(failed)
    for key in made:
        guarded = [calls[key, what][0] for what in ("seconds", "latency")]
        failures = [call.failure for call in guarded if isinstance(call, _Guarded) and call.failure]
        costs[key] = (
            failures[0]
            if failures
            else Cost(
                compiling[key],
                {
                    "seconds": np.asarray(rounds[key, "seconds"]) / made[key],
                    "latency": np.asarray(rounds[key, "latency"]),
                    "reference": np.asarray(rounds["reference"]),
                },
            )
        )
    pair = {"a": np.asarray(rounds[first, "seconds"]), "again": np.asarray(rounds["again"])}
    return costs, {"reference": np.asarray(rounds["reference"]), **pair}


def timed_calls(ready: Prepared) -> tuple[TimedCall, TimedCall]:
    """Estimates in bulk, and one alone."""
    setting = ready.setting
    bulk = in_bulk(setting)
    return timed_call(bulk, bulk.replicates), timed_call(setting, 1)
