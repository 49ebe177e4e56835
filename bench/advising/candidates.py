"""The estimators that advice is taken from, unless others are named."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, values_of
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.problems import Problem
from gradmeter.estimators import Estimator, UsageError

#: One or two of each kind, those first that are often the best, since the time may not be enough for all.
CANDIDATES = (
    "pathwise",
    "quadratic-surrogate",
    "pathwise[antithetic=true]",
    "combined-control-variates",
    "taylor[hessian=product]",
    "pathwise[sticking-the-landing=true]",
    "score-function[baseline=leave-one-out]",
)
#: For bounds of several importance samples.
BOUNDS = ("iwae", "dreg", "vimco")
#: For few coordinates, since an estimate evaluates f twice or more for each of them.
FEW, FOR_FEW = 4, ("measure-valued",)
#: Samples that estimators with a baseline from the other samples take at least.
OF_A_BASELINE = 8


def cells_of(
    problem: Problem, backend: str, estimators: Iterable[Any] | None, samples: int, seed: int, goals: StoppingCriteria
) -> list[Cell]:
    """Return a cell for each candidate that applies, with the least S from `samples` on that it takes.

    Parameters
    ----------
    problem
        The model.
    backend
        Name of the backend.
    estimators
        Candidates, names or objects; None for the usual ones.
    samples
        Least S.
    seed
        Seed of all cells.
    goals
        When to stop drawing replicates.

    Raises
    ------
    UsageError
        No candidate applies; the message says why the first does not.
    """
    made = (
        [make_estimator(name) for name in _names(problem)] if estimators is None else values_of("estimator", estimators)
    )
    cells = [_cell(problem, estimator, backend, samples, seed, goals) for estimator in made]
    if estimators is not None:
        return cells
    reasons = [infeasible(cell) for cell in cells]
    found = [cell for cell, reason in zip(cells, reasons, strict=True) if reason is None]
    if not found:
        raise UsageError(f"no candidate applies to {problem.name}: {reasons[0]}")
    return found


def _names(problem: Problem) -> tuple[str, ...]:
    if problem.importance_samples > 1:
        return BOUNDS
    return (*CANDIDATES, *(FOR_FEW if problem.dimension <= FEW else ()))


def _cell(
    problem: Problem, estimator: Estimator, backend: str, samples: int, seed: int, goals: StoppingCriteria
) -> Cell:
    least = estimator.smallest_num_samples()
    if getattr(estimator, "baseline", None) == "leave-one-out":
        least = OF_A_BASELINE
    if getattr(estimator, "antithetic", False) or getattr(estimator, "draws", None) == "antithetic":
        samples = 2 * math.ceil(0.5 * samples)
    return Cell(problem, estimator, backend, num_samples=max(samples, least), seed=seed, goals=goals)
