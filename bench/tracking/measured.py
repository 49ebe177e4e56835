"""Variance, bias bound and cost of most kinds of estimators on every backend: one grid, measured once, looked up often.

The noise of a cell is fixed by its seed, so variance and bias bound repeat from run to run to the last digits; they
change with the code alone. (Code that draws the noise in another order moves the bias bound by tens of per cent.)
Times are samples, one a round, from which asv makes an interval.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gradmeter.bench.tracking.workloads import (
    BACKENDS,
    DISCRETE,
    DISCRETE_ESTIMATORS,
    ELBO_ESTIMATORS,
    ESTIMATORS,
    FURTHER_ESTIMATORS,
    REAL_DATA,
    SLOW_TO_COMPILE,
    TEST_FUNCTION,
    cell,
)

#: A bias certified below this is rounding, whose ups and downs mean nothing.
EXACT = 1e-6
REPLICATES = 2**18
#: For the estimator that evaluates f for every coordinate.
FEWER_REPLICATES = 2**15

Name = tuple[str, str, str]
Grid = dict[Name, dict[str, Any]]
Samples = dict[str, Any]

CASES: tuple[Name, ...] = tuple(
    case
    for problem, estimators in (
        (REAL_DATA, ELBO_ESTIMATORS),
        (TEST_FUNCTION, (*ESTIMATORS, *FURTHER_ESTIMATORS)),
        (DISCRETE, DISCRETE_ESTIMATORS),
    )
    for backend in BACKENDS
    for estimator in estimators
    if (case := (problem, backend, estimator)) != SLOW_TO_COMPILE
)


def measured_grid(cases: tuple[Name, ...] = CASES) -> Grid:
    """By (problem, backend, estimator): the row of all parameter blocks, and its rounds of timing.

    Every cell is timed in the same interleaved rounds, so that seconds compare between estimators and backends.
    """
    from gradmeter.bench.reading.results import load
    from gradmeter.bench.sweep.run import run
    from gradmeter.bench.sweep.store import Store

    cells = {}
    for problem, backend, estimator in cases:
        costly = problem == REAL_DATA and estimator == "measure-valued"
        made = cell(problem, backend, estimator, replicates=FEWER_REPLICATES if costly else REPLICATES)
        cells[made.key] = (problem, backend, estimator), made
    with Store.create(Path("measured.sqlite")) as store:  # asv runs this in a folder of its own, and removes it
        found, _ = load(store, run([made for _, made in cells.values()], store))
        return {
            cells[result["cell_key"]][0]: {
                **result.row,
                "rounds": {name: result.series[name].tolist() for name in ("seconds", "reference") if result.timed},
            }
            for result in found
        }


class _Measured:
    """What is looked up for each cell of the grid; its benchmarks differ in the problem alone."""

    problem: str
    params: tuple[tuple[str, ...], tuple[str, ...]]
    param_names = ("backend", "estimator")
    timeout = 300.0
    version = "2"

    def setup_cache(self) -> Grid:
        return measured_grid()

    setup_cache.timeout = 1800.0  # type: ignore[attr-defined]

    def _row(self, grid: Grid, backend: str, estimator: str) -> dict[str, Any]:
        row = grid[self.problem, backend, estimator]
        if row["status"] != "ok" or not row["rounds"]:
            raise RuntimeError(f"{row['status']}: {row['reason']}")
        return row

    def track_variance(self, grid: Grid, backend: str, estimator: str) -> float:
        return float(self._row(grid, backend, estimator)["variance"])

    def track_bias_bound(self, grid: Grid, backend: str, estimator: str) -> float:
        return max(EXACT, float(self._row(grid, backend, estimator)["bias_bound"]))

    def track_seconds(self, grid: Grid, backend: str, estimator: str) -> Samples:
        return {"samples": self._row(grid, backend, estimator)["rounds"]["seconds"], "number": 1}

    def track_relative_time(self, grid: Grid, backend: str, estimator: str) -> Samples:
        """Over the time of the reference workload in the same round: most of a machine's ups and downs cancel."""
        rounds = self._row(grid, backend, estimator)["rounds"]
        pairs = zip(rounds["seconds"], rounds["reference"], strict=True)
        return {"samples": [seconds / reference for seconds, reference in pairs], "number": 1}

    def track_work_normalised_variance(self, grid: Grid, backend: str, estimator: str) -> Samples:
        row = self._row(grid, backend, estimator)
        return {"samples": [row["variance"] * seconds for seconds in row["rounds"]["seconds"]], "number": 1}

    track_variance.unit = "trace of the covariance"  # type: ignore[attr-defined]
    track_bias_bound.unit = "of the gradient's norm"  # type: ignore[attr-defined]
    track_seconds.unit = "seconds"  # type: ignore[attr-defined]
    track_relative_time.unit = "× reference workload"  # type: ignore[attr-defined]
    track_work_normalised_variance.unit = "variance × seconds"  # type: ignore[attr-defined]


class RealData(_Measured):
    """Logistic regression on breast_cancer, 569 × 31, at q = N(0, I)."""

    problem = REAL_DATA
    params = (BACKENDS, ELBO_ESTIMATORS)
    skip_params = (SLOW_TO_COMPILE[1:],)


class TestFunction(_Measured):
    """Σ cos(2.5 z), D = 10, at q = N(1, 1)."""

    problem = TEST_FUNCTION
    params = (BACKENDS, (*ESTIMATORS, *FURTHER_ESTIMATORS))


class DiscreteLatents(_Measured):
    """A sigmoid belief network on digits, q a product of Bernoullis."""

    problem = DISCRETE
    params = (BACKENDS, DISCRETE_ESTIMATORS)
