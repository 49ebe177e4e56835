"""Base class of the mixture problems, of a data set of points."""

from __future__ import annotations

import numpy as np

from gradmeter.bench.optimisation.method import Method
from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.minibatch import RowProblem
from gradmeter.bench.problems.mixtures import points as datasets
from gradmeter.estimators import UsageError

#: Steps of EM or sweeps of CAVI after which `reached` gives up.
MOST_STEPS = 20_000


class Mixture(RowProblem):
    """Base class of mixtures of K components for the points of a data set."""

    dim: int
    components: int
    size: int

    @property
    def rows(self) -> int:
        """The number of points N."""
        return datasets.rows(self.dataset, self.dim, self.size)

    def check(self) -> None:
        super().check()
        if self.components > self.rows:
            raise UsageError(
                f"problem {self.name}: {self.components} components need at least as many points; there are {self.rows}"
            )

    def content(self) -> str | None:
        return datasets.fingerprint(self.dataset)

    def points(self) -> np.ndarray:
        """Return the points [N, P]."""
        return datasets.load(self.dataset, self.dim, self.components, self.size)

    def data(self) -> Vectors:
        return {"points": self.points(), **self.minibatch()}


def reached(method: Method, where: str) -> Vectors:
    """Return the parameters at the starting point of an iteration (`start`), or at its fixed point.

    Raises
    ------
    UsageError
        The iteration has not converged after `MOST_STEPS`.
    """
    state = method.initial()
    if where == "start":
        return method.parameters(state)
    for t in range(1, MOST_STEPS + 1):
        before, state = state, method.step(state, t)
        if method.converged(before, state):
            return method.parameters(state)
    raise UsageError(
        f"at={where}: {where.upper()} has not converged after {MOST_STEPS} steps here; use at=start or other components"
    )
