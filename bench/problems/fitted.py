"""Problems whose ELBO is exact under any Normal q, and its maximisation over q.

With H = E ∇²log p, the maximum has E ∇log p = 0 and precision −H (the diagonal of −H for a mean-field q). An iteration
takes a Newton step in loc and a step of the same length towards −H in the precision, halved while the ELBO decreases.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.identity.content import Same
from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.gaussian_elbo import Expected, exact_gaussian_elbo, square_root
from gradmeter.bench.problems.known_optimum import KnownOptimum
from gradmeter.bench.problems.problem import Exact
from gradmeter.estimators import UsageError
from gradmeter.estimators.families.multivariate_normal import pack

#: The supported families.
FITTED = ("normal", "multivariate-normal")
#: Help text of the option `at` of these problems.
AT = "λ: the family's options as given, or the maximum of the exact ELBO"
STEPS = 500
#: Tolerance on every derivative of the ELBO, relative to the precision.
ENOUGH = 1e-12


class GaussianProblem(KnownOptimum):
    """Base class of ELBOs whose expectations under any Normal q are known; fields are the options of a subclass."""

    at_optimum, known_for = "fitted", FITTED

    #: How the expectations are computed, as in `Exact.source`.
    source: ClassVar[str]

    @abstractmethod
    def expected(self, loc: np.ndarray, root: np.ndarray) -> Expected:
        """Return the expectations of log p(x, z) and its derivatives under N(loc, rootᵀ root), root [K, D]."""

    def maximiser(self) -> Vectors:
        return dict(fitted(Same(self.with_plain_options())))

    def with_plain_options(self) -> Any:
        """Return a copy whose options that do not affect the optimal λ are at their defaults."""
        options: Any = self  # concrete problems are dataclasses
        unrelated = {"batch": None, "entropy": "sampled", "differentiate": "closed-form"}
        plain: dict[str, Any] = {name: value for name, value in unrelated.items() if hasattr(self, name)}
        return replace(options, q=type(self.q)(), at="fitted", **plain)

    def exact(self) -> Exact | None:
        found = super().exact()
        return found.stationary() if found is not None and self.at == "fitted" else found

    def exact_at(self, parameters: Vectors) -> Exact | None:
        return self.exact_elbo(parameters)

    def exact_elbo(self, parameters: Vectors) -> Exact:
        """Return the exact ELBO and gradient at any λ and, for the mean-field Normal, the optimal baselines."""
        found = self.expected(parameters["loc"], square_root(self.family, parameters))
        return exact_gaussian_elbo(self.family, parameters, self.entropy, found, self.source)


class MayOverflow(GaussianProblem):
    """Base class of those whose ELBO overflows at a wide q; fields `at` and `q` are options of a subclass."""

    #: What overflows, for the message.
    overflowing: ClassVar[str] = "the ELBO"

    def check(self) -> None:
        super().check()
        if self.at == "given" and max(np.max(np.abs(getattr(self.q, name))) for name in ("loc", "scale")) > 1.0:
            self.exact()  # up to 1 nothing overflows

    def exact_elbo(self, parameters: Vectors) -> Exact:
        with np.errstate(over="ignore", invalid="ignore"):
            exact = super().exact_elbo(parameters)
        if exact.objective is None or not np.isfinite(exact.objective):
            raise UsageError(f"problem {self.name}: {self.overflowing} overflows; give a smaller loc or scale")
        return exact


@functools.cache
def fitted(same: Same) -> dict[str, np.ndarray]:
    """Return the λ that maximises the ELBO of a `GaussianProblem` whose family is one of `FITTED`.

    Raises
    ------
    UsageError
        The iteration from loc = 0 does not converge.
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


#: Smallest curvature used in a step. The prior's curvature is 1, so a smaller one means that h is convex there.
FLOOR = 1e-3


def _definite(matrix: np.ndarray) -> np.ndarray:
    """Return the matrix with eigenvalues replaced by absolute values of at least `FLOOR`, so that steps go uphill."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(np.abs(values), FLOOR)) @ vectors.T


def _elbo(problem: Any, loc: np.ndarray, precision: np.ndarray) -> tuple[float, Expected]:
    """Return the ELBO up to a constant, or −inf where it overflows, and the expectations it consists of."""
    factor = np.linalg.cholesky(precision)
    with np.errstate(over="ignore", invalid="ignore"):
        found = problem.expected(loc, np.linalg.inv(factor))
    value = found.objective - float(np.log(np.diag(factor)).sum())
    return (value if np.isfinite(value) else -np.inf), found
