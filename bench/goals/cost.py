"""What every estimator costs over what its count of evaluations predicts.

Predicted are its evaluations, each at the time of one sample of plain pathwise (for what evaluates ∇f) or of the plain
score function (for what evaluates f) on the same problem, backend and S, noise included. A ratio below 1 says that
evaluations come cheaper together: a Hessian at one point for all replicates, or one product for all coordinates.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.goals.goal import Goal, Measured, ratio
from bench.goals.kernels import present
from bench.measurement.cell import prepare
from bench.measurement.cost import timed_calls
from bench.sweep.cells import NAMED_ALONE, VARIANTS, Cell, make_estimator, make_problem

#: The problems, and beside them those for estimators that need another family or a minibatch.
PROBLEMS = ("cosine[k=2.5,loc=1,dim=10]", "logistic-regression")
ELSEWHERE = {
    "rejection-reparameterisation": ("polynomial[family=gamma,concentration=2,dim=10]",),
    "stratified-pathwise": ("polynomial[family=mixture-of-normals,distance=1,dim=10]",),
    "score-function[baseline=input-dependent]": ("logistic-regression[batch=32]",),
}
#: What the predictions rest on, by whether an estimator evaluates ∇f.
UNITS = {True: "pathwise", False: "score-function[baseline=none]"}
MOST = 2.0
ROUNDS = 20


def predicted() -> Iterator[Goal]:
    """Measured over predicted cost, float64."""
    for backend in present():
        for text in (*VARIANTS, *NAMED_ALONE):
            for problem in ELSEWHERE.get(text, PROBLEMS):
                goal = _compare(problem, text, backend)
                if goal is not None:
                    yield goal


def unit(cell: Cell) -> Cell:
    """The cell whose samples are the unit of cost."""
    differentiates = bool(cell.estimator.requirements(cell.problem.entropy).integrand)
    return Cell(cell.problem, make_estimator(UNITS[differentiates]), cell.backend, num_samples=cell.num_samples)


def _compare(problem: str, text: str, backend: str) -> Goal | None:
    estimator = make_estimator(text)
    cell = Cell(make_problem(problem), estimator, backend, num_samples=estimator.smallest_num_samples())
    if text in UNITS.values() or cell.impossible() is not None:
        return None
    ready, plain = prepare(cell), prepare(unit(cell))
    (one, _), (other, _) = timed_calls(ready), timed_calls(plain)
    found = ratio(one.run, other.run, ROUNDS)
    share = (other.replicates / one.replicates) * (plain.evaluations / ready.evaluations)
    return Goal(
        f"cost over that of its evaluations: {backend}, {problem}, {text}, S = {cell.num_samples}",
        Measured(found.value * share, found.low * share, found.high * share),
        most=MOST,
        remark=f"{ready.evaluations} evaluations",
    )
