"""Base class of the mixture problems, of a data set of points."""

from __future__ import annotations

import numpy as np

from gradmeter.bench.problems.minibatch import RowProblem
from gradmeter.bench.problems.mixtures import points as datasets
from gradmeter.bench.problems.problem import Vectors
from gradmeter.estimators import UsageError


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
