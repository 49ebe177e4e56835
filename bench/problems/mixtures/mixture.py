"""Base classes of the mixture problems: data sets of points and minibatches of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from gradmeter.bench.problems.mixtures import points as data
from gradmeter.bench.problems.problem import Problem
from gradmeter.estimators import Integrand, Noise, UsageError

Array = Any


class OfPoints(Integrand):
    """An integrand over the points [N, P] in `data`, or over a minibatch of their rows if `data` has `batch` [B]."""

    def noise_specs(self, data: dict[str, Array]) -> dict[str, Noise]:
        if "batch" not in data:
            return {}
        return {"rows": Noise("rows", (data["batch"].shape[0],), population=data["points"].shape[0])}


class Mixture(Problem):
    """Base class of mixtures of K components for the points of a data set."""

    dataset: str
    dim: int
    components: int
    size: int
    batch: int | None

    @property
    def rows(self) -> int:
        """The number of points N."""
        return data.rows(self.dataset, self.dim, self.size)

    def check(self) -> None:
        super().check()
        what = f"problem {self.name}"
        if self.components > self.rows:
            raise UsageError(
                f"{what}: {self.components} components need at least as many points; there are {self.rows}"
            )
        if self.batch is not None and self.batch > self.rows:
            raise UsageError(f"{what}: batch is {self.batch}; {self.dataset} has {self.rows} points")

    def content(self) -> str | None:
        return data.fingerprint(self.dataset)

    def points(self) -> np.ndarray:
        """Return the points [N, P]."""
        return data.load(self.dataset, self.dim, self.components, self.size)

    def point_arrays(self) -> dict[str, np.ndarray]:
        """Return the data of `OfPoints`."""
        return {"points": self.points()} | ({} if self.batch is None else {"batch": np.zeros(self.batch)})
