"""The cost of every estimator over the cost that its number of evaluations predicts.

The prediction is the number of its evaluations times the time of one sample of plain pathwise (for estimators that
evaluate ∇f) or of the plain score function (for estimators that evaluate f, or where z is discrete), on the same
problem, backend and S, noise included. A ratio below 1 means that evaluations are cheaper together: a Hessian at one
point for all replicates, or one product for all coordinates. Estimators for discrete z are measured on Σ z², which
costs next to nothing: their time is mostly for what they draw and learn, which no number of evaluations predicts, so
they have no limit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from gradmeter.bench.cells import Cell, make_estimator, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.cost import timed_calls
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.performance.goals.goal import Goal, Measured, ratio
from gradmeter.bench.performance.goals.kernels import present
from gradmeter.estimators import FAMILIES, NAMED_ALONE, VARIANTS, UsageError

#: The problems, and substitutes for estimators that apply to neither: with a minibatch, of another family, or an ELBO
#: of binary variables.
PROBLEMS = ("cosine[k=2.5,loc=1,dim=10]", "logistic-regression")
ELSEWHERE = (
    "logistic-regression[batch=32]",
    *(f"polynomial[family={name},dim=10]" for name in FAMILIES),
    "sigmoid-belief-network[images=6]",
)
#: Estimators that define the unit of cost, by whether an estimator evaluates ∇f.
UNITS = {True: "pathwise", False: "score-function[baseline=none]"}
MOST = 2.0
ROUNDS = 20


def predicted() -> Iterator[Goal]:
    """Yield the measured over the predicted cost, float64."""
    for backend in present():
        for text in (*VARIANTS, *NAMED_ALONE):
            if text not in UNITS.values():
                for cell in cells(text, backend):
                    yield compare(cell)


def cells(text: str, backend: str) -> list[Cell]:
    """Return cells of an estimator on the two problems where it applies, else on the first substitute where it does."""
    found = [cell for problem in PROBLEMS if (cell := _cell(problem, text, backend))]
    return found or list(itertools.islice(filter(None, (_cell(p, text, backend) for p in ELSEWHERE)), 1))


def _cell(problem: str, text: str, backend: str) -> Cell | None:
    estimator = make_estimator(text)
    try:
        cell = Cell(make_problem(problem), estimator, backend, num_samples=estimator.smallest_num_samples())
    except UsageError:  # a family without the required moments, or of another number of coordinates
        return None
    return cell if infeasible(cell) is None else None


def unit(cell: Cell) -> Cell:
    """Return the cell whose sample is the unit of cost; that of the score function where z has no path derivative."""
    differentiates = bool(cell.estimator.requirements(cell.problem.entropy).integrand)
    path, score = (replace(cell, estimator=make_estimator(UNITS[kind])) for kind in (True, False))
    return path if differentiates and infeasible(path) is None else score


def compare(cell: Cell) -> Goal:
    """Compare the cost of a cell with its prediction."""
    ready, plain = prepare(cell), prepare(unit(cell))
    (one, _), (other, _) = timed_calls(ready), timed_calls(plain)
    found = ratio(one.run, other.run, ROUNDS)
    made = "; noise by inverse CDFs" if getattr(cell.estimator, "draws", "") in ("stratified", "sobol") else ""
    continuous = not cell.problem.family.discrete
    share = (other.replicates / one.replicates) * (plain.evaluations / ready.evaluations)
    return Goal(
        f"cost over that of its evaluations: {cell.label()}",
        Measured(found.value * share, found.low * share, found.high * share),
        most=MOST if continuous else None,
        remark=f"{ready.evaluations} evaluations{made}",
    )
