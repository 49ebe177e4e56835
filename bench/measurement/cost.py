"""What an estimate costs: throughput in bulk and latency alone, all cells of a run timed together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.measurement.cell import Prepared
from bench.measurement.kernel import timed_call
from bench.measurement.timing import calibrate, interleave, median_interval, reference_workload


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


def time_cells(
    prepared: Mapping[str, Prepared],
    each_round: Callable[[int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, Cost], dict[str, np.ndarray]]:
    """Time every cell in the same interleaved rounds.

    Returns
    -------
    costs by key; and the rounds of the reference workload and of an A/A pair (one cell timed as two), which
    tell what differences mean nothing. Both are empty if `stop` came true before the rounds began.
    """
    calls: dict[Any, tuple[Callable[[], Any], int]] = {}
    compiling, made = {}, {}
    for key, ready in prepared.items():
        if stop():
            return {}, {}
        setting = ready.setting
        bulk = timed_call(setting, setting.replicates)
        repeats, seconds = calibrate(bulk.run)
        calls[key, "seconds"], compiling[key], made[key] = (bulk.run, repeats), seconds, bulk.replicates
        # PyTorch's single estimate is timed eagerly, as a training step written in it mostly runs.
        alone = timed_call(setting, 1, compiled=setting.backend.name != "torch")
        calls[key, "latency"] = (alone.run, calibrate(alone.run)[0])
    reference = reference_workload()
    calls["reference"] = (reference, calibrate(reference)[0])
    first = next(iter(prepared))
    calls["again"] = calls[first, "seconds"]
    rounds = interleave(calls, each_round=each_round)
    costs = {
        key: Cost(
            compiling[key],
            {
                "seconds": np.asarray(rounds[key, "seconds"]) / made[key],
                "latency": np.asarray(rounds[key, "latency"]),
                "reference": np.asarray(rounds["reference"]),
            },
        )
        for key in prepared
    }
    again = {"a": np.asarray(rounds[first, "seconds"]), "again": np.asarray(rounds["again"])}
    return costs, {"reference": np.asarray(rounds["reference"]), **again}
