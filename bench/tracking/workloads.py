"""The fixed workload that benchmarks share: square, D = 100, S = 1, float32, where the noise floor is defined."""

from __future__ import annotations

from bench.measurement.cell import prepare
from bench.measurement.kernel import Setting
from bench.sweep.cells import Cell, make_estimator, make_problem

PROBLEM = "square[k=2,dim=100]"
ESTIMATORS = ("pathwise", "score-function")


def prepared(backend: str, estimator: str, dtype: str = "float32") -> Setting:
    """The workload on a backend, ready to run."""
    return prepare(Cell(make_problem(PROBLEM), make_estimator(estimator), backend, dtype=dtype)).setting
