"""Poisson regression: counts with a log link, exact in closed form, since E exp of a Normal is.

The counts are chin-ups (`linnerud`: 20 men, by weight, waist and pulse) or disease progression after one year in
`diabetes`, recorded as a whole number (25 to 346: a score treated as a count).

exp(xᵀz) is log-normal. If q is as wide as the prior, its mean is dominated by the rarest samples, and so are all
estimates; the fitted q is narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors
from gradmeter.bench.problems.fitted import MayOverflow
from gradmeter.bench.problems.regression.generalised_linear import GeneralisedLinear
from gradmeter.bench.problems.regression.regression import Regression
from gradmeter.estimators.options import option


class PoissonIntegrand(GeneralisedLinear):
    """Poisson likelihood: h = y·predictor − exp(predictor), with constant −Σ log y!."""

    def log_likelihood(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        return response * predictor - xp.exp(predictor)

    def residual(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        return response - xp.exp(predictor)

    def curvature(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        return -xp.exp(predictor)


@dataclass(frozen=True)
class PoissonRegression(Regression, MayOverflow):
    """ELBO of Bayesian Poisson regression with prior N(0, I) and a log link."""

    name: ClassVar[str] = "poisson-regression"
    summary: ClassVar[str] = "ELBO of a Bayesian Poisson regression, log link (exact in closed form)"
    integrand = PoissonIntegrand()
    source: ClassVar[str] = "closed-form"
    shapes: ClassVar[dict[str, tuple[int, int]]] = {"linnerud": (20, 3), "diabetes": (442, 10)}
    counts: ClassVar[bool] = True
    overflowing: ClassVar[str] = "E exp(xᵀz)"

    dataset: str = option(
        "linnerud", "scikit-learn's bundled data: chin-ups, or the progression score", choices=("linnerud", "diabetes")
    )

    def data(self) -> Vectors:
        from scipy.special import gammaln  # slow to import

        data = super().data()
        return {**data, "constant": np.asarray(-gammaln(data["response"] + 1.0).sum())}

    def likelihood_moments(
        self, mean: np.ndarray, deviation: np.ndarray, response: np.ndarray
    ) -> dict[int, np.ndarray]:
        rate = np.exp(mean + 0.5 * deviation**2)
        return {0: response * mean - rate, 1: response - rate, 2: -rate, 4: -rate}
