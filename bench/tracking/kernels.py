"""The measured kernel on each backend: its time, its memory, and its ratio to the noise floor."""

from __future__ import annotations

import itertools
from typing import Any

from bench.tracking.workloads import ESTIMATORS, prepared
from estimators.backends import NAMES, missing

CASES = [f"{b} {e}" for b, e in itertools.product(NAMES, ESTIMATORS) if missing(b) is None]


class Kernel:
    """One call, compiled before: noise, estimates and block sums. square, D = 100, S = 1, float32."""

    params = CASES
    param_names = ("case",)
    timeout = 300.0
    version = "1"

    def setup(self, case: str) -> None:
        from bench.measurement.kernel import StatisticsKernel

        backend, estimator = case.split()
        setting = prepared(backend, estimator)
        self.kernel, self.roots, self.centre = StatisticsKernel(setting), setting.roots("timing"), setting.zeros()
        self.kernel(self.roots, 0, self.centre)

    def time_kernel(self, case: str) -> None:
        self.kernel(self.roots, 0, self.centre)

    def peakmem_kernel(self, case: str) -> None:
        self.kernel(self.roots, 0, self.centre)


class Floor:
    """Time of that call over that of drawing its noise alone, in interleaved pairs."""

    params = CASES
    param_names = ("case",)
    timeout = 300.0
    version = "1"
    unit = "×"

    def track_ratio_to_floor(self, case: str) -> float:
        from bench.measurement.floor import ratio_to_floor

        backend, estimator = case.split()
        return ratio_to_floor(prepared(backend, estimator), rounds=20).ratio


class Variance:
    """Variance and certified bias of one estimate, logistic regression on real data, at a fixed seed."""

    params = ("pathwise", "score-function[baseline=mean]", "pathwise[antithetic=true]")
    param_names = ("estimator",)
    timeout = 300.0
    version = "1"

    def setup(self, estimator: str) -> None:
        from bench.api import measure

        rows: Any = measure("logistic-regression", estimator, max_replicates=2**15, timing=False)
        self.row = rows.set_index("block").loc["all"]

    def track_variance(self, estimator: str) -> float:
        return float(self.row["variance"])

    def track_bias_bound(self, estimator: str) -> float:
        return float(self.row["bias_bound"])
