"""The Normal q that maximises an exact ELBO.

With H = E ∇²log p, the maximum has E ∇log p = 0 and the precision −H (of a mean-field q: its diagonal). So a step is
Newton's in loc and towards that in the precision, halved while the ELBO falls.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gradmeter.bench.identity import Same
from gradmeter.bench.problems.gaussian_elbo import Expected
from gradmeter.estimators import UsageError
from gradmeter.estimators.families.multivariate_normal import pack

#: The families that it is for.
FITTED = ("normal", "multivariate-normal")
STEPS = 500
#: Of every derivative of the ELBO, relative to the size of the precision.
ENOUGH = 1e-12


@functools.cache
def fitted(same: Same) -> dict[str, np.ndarray]:
    """λ of the maximum, for a `Regression` whose family is one of `FITTED`.

    Raises
    ------
    UsageError
        There is none to be found from loc = 0.
    """
    problem = same.value
    full = problem.family.name == "multivariate-normal"
    loc, precision = np.zeros(problem.dimension), np.exp(2.0) * np.eye(problem.dimension)
    objective, found = _elbo(problem, loc, precision)
    for _ in range(STEPS):
        wanted = -found.hessian if full else np.diag(np.diag(-found.hessian))
        size = np.sqrt(np.outer(np.diag(precision), np.diag(precision)))
        gap = np.abs((wanted - precision) / size).max(), np.abs(found.slope / np.sqrt(np.diag(precision))).max()
        if max(gap) < ENOUGH:
            break
        towards, step = _definite(-found.hessian), 1.0
        direction = np.linalg.solve(towards, found.slope)
        wanted = towards if full else np.diag(np.maximum(np.diag(wanted), FLOOR))
        while step > 1e-10:
            at = loc + step * direction, precision + step * (wanted - precision)
            value, new = _elbo(problem, *at)
            if value >= objective - 1e-13 * abs(objective):
                break
            step *= 0.5
        else:
            break
        (loc, precision), objective, found = at, value, new
    else:
        raise UsageError(f"problem {problem.name}: at=fitted did not converge; give λ instead")
    if full:
        return {"loc": loc, "cholesky": pack(np.linalg.cholesky(np.linalg.inv(precision)))}
    return {"loc": loc, "log_scale": -0.5 * np.log(np.diag(precision))}


#: The least curvature that a step goes by: below 1, which is the prior's own, h is convex there.
FLOOR = 1e-3


def _definite(matrix: np.ndarray) -> np.ndarray:
    """The matrix with its eigenvalues at least `FLOOR` in size and positive, so that a step goes up."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(np.abs(values), FLOOR)) @ vectors.T


def _elbo(problem: Any, loc: np.ndarray, precision: np.ndarray) -> tuple[float, Expected]:
    """Up to a constant, and what it is made of; −inf where it overflows."""
    factor = np.linalg.cholesky(precision)
    with np.errstate(over="ignore", invalid="ignore"):
        found = problem.expected(loc, np.linalg.inv(factor))
    value = found.objective - float(np.log(np.diag(factor)).sum())
    return (value if np.isfinite(value) else -np.inf), found
