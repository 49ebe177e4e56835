"""The measured kernel on each backend: its time, its memory, and its ratio to the noise floor."""

import itertools

from bench.tracking.workloads import ESTIMATORS, prepared
from estimators.backends import NAMES, missing

CASES = [f"{b} {e}" for b, e in itertools.product(NAMES, ESTIMATORS) if missing(b) is None]


class Kernel:
    """square, D = 100, S = 1, float32."""

    params = CASES
    param_names = ("case",)
    timeout = 300.0
    version = "1"

    def setup(self, case):
        from bench.measurement.kernel import StatisticsKernel

        backend, estimator = case.split()
        self.setting = prepared(backend, estimator)
        kernel = StatisticsKernel(self.setting)
        roots, centre = self.setting.roots("timing"), self.setting.zeros()
        self.call = lambda: kernel(roots, 0, centre)
        self.call()

    def time_kernel(self, case):
        """One call: noise, estimates and block sums, compiled before."""
        self.call()

    def peakmem_kernel(self, case):
        self.call()

    def track_ratio_to_floor(self, case):
        """Time over that of the noise alone, in interleaved pairs."""
        from bench.measurement.floor import ratio_to_floor

        return ratio_to_floor(self.setting, rounds=20).ratio

    time_kernel.version = peakmem_kernel.version = "1"
    track_ratio_to_floor.version = "1"
    track_ratio_to_floor.unit = "×"


class Variance:
    """Variance and certified bias of one estimate, logistic regression on real data, at fixed seeds."""

    params = ("pathwise", "score-function[baseline=mean]", "pathwise[antithetic=true]")
    param_names = ("estimator",)
    timeout = 300.0
    version = "1"

    def setup(self, estimator):
        import bench

        options = {"max_replicates": 2**15, "timing": False}
        rows = bench.measure("logistic-regression", estimator, **options).set_index("block")
        self.row = rows.loc["all"]

    def track_variance(self, estimator):
        return float(self.row["variance"])

    def track_bias_bound(self, estimator):
        return float(self.row["bias_bound"])

    track_variance.version = track_bias_bound.version = "1"
