"""Base classes of ELBOs of hierarchical models, whose log joint density is a sum of terms of few predictors."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.identity.content import Same
from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.fitted import AT, MayOverflow
from gradmeter.bench.problems.gaussian_elbo import Expected
from gradmeter.bench.problems.minibatch import RowProblem
from gradmeter.bench.problems.options import batch_option, differentiate_option, entropy_option
from gradmeter.bench.problems.posteriors.log_joint import Group, LogJoint, Model, build
from gradmeter.bench.problems.posteriors.narrow import narrow_family_option
from gradmeter.estimators import FamilyConfig, UsageError
from gradmeter.estimators.options import option

#: Options of the search for the maximum of the ELBO, and the largest derivative at which its result is accepted.
SEARCH = {"gtol": 1e-9, "ftol": 1e-16, "maxcor": 60, "maxiter": 5000, "maxfun": 5000}
ENOUGH = 1e-5
#: Largest number of searches, each from where the one before ended.
SEARCHES = 5


@dataclass(frozen=True)
class Posterior(MayOverflow):
    """Base class of these problems."""

    q: FamilyConfig = narrow_family_option()
    at: str = option("given", AT, choices=("given", "fitted"))
    entropy: str = entropy_option()
    differentiate: str = differentiate_option()

    @abstractmethod
    def log_joint(self) -> Sequence[Group]:
        """Return the log joint density."""

    @property
    def units(self) -> int:
        """The number of units that local groups consist of."""
        return 1

    @property
    def model(self) -> Model:
        return _model(self)

    @property
    def integrand(self) -> LogJoint:
        return self.model.integrand

    @property
    def source(self) -> str:  # type: ignore[override]
        return self.model.source

    def data(self) -> Vectors:
        return dict(self.model.data)

    def expected(self, loc: np.ndarray, root: np.ndarray) -> Expected:
        return self.model.expected(loc, root)

    def maximiser(self) -> Vectors:
        return dict(maximum(Same(self.with_plain_options())))


@functools.cache
def maximum(same: Same) -> Vectors:
    """Return the λ that maximises the exact ELBO, by L-BFGS from the family's default options.

    The Newton iteration of `fitted` need not converge where scales are latent: log p is not concave.

    Raises
    ------
    UsageError
        The search does not converge.
    """
    from scipy.optimize import minimize  # slow to import

    problem = same.value
    start = problem.q.parameters(problem.dimension)
    ends = np.cumsum([a.size for a in start.values()])

    def at(flat: np.ndarray) -> Vectors:
        parts = np.split(flat, ends[:-1])
        return {name: np.reshape(part, a.shape) for (name, a), part in zip(start.items(), parts, strict=True)}

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        try:
            exact = problem.exact_elbo(at(flat))
        except UsageError:  # an overflow far from the maximum
            return np.inf, np.zeros_like(flat)
        return -exact.objective, -np.concatenate([np.ravel(exact.gradient[name]) for name in start])

    place = np.concatenate([np.ravel(a) for a in start.values()])
    for _ in range(SEARCHES):  # a step into overflow ends a search
        found = minimize(objective, place, jac=True, method="L-BFGS-B", options=SEARCH)
        place = found.x
        if np.abs(found.jac).max() < ENOUGH:
            return at(place)
    raise UsageError(f"problem {problem.name}: at=fitted did not converge; give λ instead")


@functools.lru_cache(maxsize=32)
def _model(problem: Posterior) -> Model:
    return build(problem.log_joint(), problem.units)


@dataclass(frozen=True)
class LocalPosterior(Posterior, RowProblem):
    """Base class of models in which units have terms of their own, of which an estimate may draw a minibatch."""

    batch: int | None = batch_option("units")

    @property
    def rows(self) -> int:
        return self.units

    def data(self) -> Vectors:
        return {**super().data(), **self.minibatch()}
