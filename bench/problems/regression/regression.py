"""Bayesian regressions: the ELBO of a Normal q with any covariance structure, with exact gradients.

log p(x, z) = Σ_n h(x_nᵀ z, y_n) + log N(z; 0, I), for a prior N(0, I) and a log-likelihood h of the linear predictor.
Under q, x_nᵀz ~ N(m_n, s_n²), so every expectation is a one-dimensional integral per row, in closed form for some h.
The identities of Bonnet and Price turn E ∇log p and E ∇²log p into the gradient.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.fitted import AT, GaussianProblem
from gradmeter.bench.problems.gaussian_elbo import Expected
from gradmeter.bench.problems.minibatch import RowProblem
from gradmeter.bench.problems.options import batch_option, differentiate_option, entropy_option, family_option
from gradmeter.bench.problems.problem import LOG_2PI
from gradmeter.bench.problems.quadrature import WIDEST
from gradmeter.bench.problems.regression.datasets import load
from gradmeter.estimators import FamilyConfig, UsageError
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class Regression(RowProblem, GaussianProblem):
    """Base class of the regressions."""

    #: Numbers of rows and columns of each data set.
    shapes: ClassVar[dict[str, tuple[int, int]]]
    #: Whether the response is a count; see `load`.
    counts: ClassVar[bool] = False

    dataset: str
    q: FamilyConfig = family_option("normal", "multivariate-normal", "low-rank-normal")
    at: str = option("given", AT, choices=("given", "fitted"))
    batch: int | None = batch_option()
    entropy: str = entropy_option()
    differentiate: str = differentiate_option()

    @property
    def dimension(self) -> int:
        return self.shapes[self.dataset][1] + 1

    @property
    def rows(self) -> int:
        return self.shapes[self.dataset][0]

    def pole(self) -> float | None:
        """Return the imaginary part of the nearest pole of h in the predictor; None for closed-form expectations."""
        return None

    def check(self) -> None:
        super().check()
        pole, scale = self.pole(), float(np.max(getattr(self.q, "scale", 0.0)))
        if pole is not None and self.at == "given" and scale > WIDEST * pole:
            raise UsageError(
                f"problem {self.name}: scale is {scale:g}; its exact gradient is known up to scale={WIDEST * pole:g}"
            )

    def data(self) -> Vectors:
        design, response = load(self.dataset, self.counts)
        return {"design": design, "response": response, **self.minibatch()}

    def expected(self, loc: np.ndarray, root: np.ndarray) -> Expected:
        """Return the expectations of log p(x, z) and its derivatives under N(loc, rootᵀ root), root [K, D]."""
        data = self.data()
        design = data["design"]
        deviation = np.sqrt(np.sum((design @ root.T) ** 2, axis=1))
        fit = self.likelihood_moments(design @ loc, deviation, data["response"])
        size = float(loc @ loc + np.sum(root * root)) + len(loc) * LOG_2PI  # −2 E log prior
        return Expected(
            objective=float(fit[0].sum() + data.get("constant", 0.0)) - 0.5 * size,
            slope=design.T @ fit[1] - loc,
            hessian=(design.T * fit[2]) @ design - np.eye(len(loc)),
            fourth=(design**4).T @ fit[4],
        )

    @abstractmethod
    def likelihood_moments(
        self, mean: np.ndarray, deviation: np.ndarray, response: np.ndarray
    ) -> dict[int, np.ndarray]:
        """Return E of h and its predictor derivatives of order 1, 2 and 4 under N(mean, deviation²), per row."""
