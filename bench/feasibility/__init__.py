"""What can be measured, and why not: the one place that decides, before anything runs."""

from __future__ import annotations

from gradmeter.bench.cells import Cell
from gradmeter.bench.feasibility.precision import unrepresentable
from gradmeter.estimators import Estimator, Family, NotApplicable, UsageError
from gradmeter.estimators.backends import get, missing
from gradmeter.estimators.errors import contained


def infeasible(cell: Cell) -> str | None:
    """Return why a cell cannot be measured, or None; no framework is imported, except for a CUDA device."""
    problem, estimator = cell.problem, cell.estimator
    requires = estimator.requirements(problem.entropy)
    reason = missing(cell.backend)
    if reason is not None:
        return reason
    if problem.framework not in (None, cell.backend):
        return f"problem {problem.name} is written in {problem.framework}; use that backend"
    if cell.backend == "numpy" and cell.device != "cpu":
        return "backend 'numpy' computes on the CPU only; use --device cpu"
    if cell.device == "cuda":
        try:
            get(cell.backend, cell.device)
        except UsageError as error:
            return str(error)
    if requires.integrand and cell.backend == "numpy" and problem.differentiate == "autodiff":
        return "differentiate=autodiff needs the torch or jax backend; NumPy cannot differentiate"
    try:
        estimator.check(
            problem.family,
            problem.entropy,
            cell.num_samples,
            problem.dimension,
            problem.unsupported,
            problem.importance_samples,
        )
    except NotApplicable as error:
        return str(error)
    if requires.inputs and not problem.draws_inputs:
        return "an input-dependent baseline needs an input that varies, and none does here; give the problem a batch"
    return unrepresentable(problem.q, estimator, problem.entropy, problem.dimension, cell.dtype, problem.distances)


def foreseen(cell: Cell) -> str | None:
    """Return why a cell cannot be measured, or None; also None where a class of the user's raises.

    Measuring the cell then tells what is wrong.
    """
    try:
        with contained():
            return infeasible(cell)
    except Exception:
        return None


def refused(estimator: Estimator, family: Family, backend: str) -> str | None:
    """Return why an estimator cannot be used with a family on a backend, whatever the integrand; None if it can."""
    return missing(backend) or estimator.unsupported_reason(family, estimator.default_entropy())
