"""The small suite that is run repeatedly: cheap and expensive cells on every installed backend."""

from __future__ import annotations

from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.estimators import backends

PAIRS = (
    ("square[k=2]", "pathwise"),
    ("square[k=2,dim=100]", "score-function"),
    ("cosine[k=2.5,loc=1]", "measure-valued"),
    ("logistic-regression", "pathwise"),
)
GOALS = StoppingCriteria(bias_bound=1.0, max_replicates=2**14)


def cells() -> list[Cell]:
    """Return the cells of PAIRS on each installed backend."""
    return [
        Cell(make_problem(problem), make_estimator(estimator), backend, goals=GOALS)
        for backend in backends.NAMES
        if backends.missing(backend) is None
        for problem, estimator in PAIRS
    ]
