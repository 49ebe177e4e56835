"""Linear regression with unit noise: conjugate, so that all exact values are in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, times
from gradmeter.bench.problems.problem import LOG_2PI
from gradmeter.bench.problems.regression.generalised_linear import GeneralisedLinear
from gradmeter.bench.problems.regression.regression import Regression
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.options import option


class LinearIntegrand(GeneralisedLinear):
    """Linear likelihood with unit noise: h = log N(y; predictor, 1)."""

    def log_likelihood(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        error = response - predictor
        return -0.5 * error * error - 0.5 * LOG_2PI

    def residual(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        return response - predictor

    def curvature(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        return -xp.ones_like(predictor)

    def replaced_likelihood(
        self,
        backend: Backend,
        data: Arrays,
        design: Array,
        response: Array,
        predictor: Array,
        change: Array,
    ) -> Array:
        """Return the likelihoods at all replacements; h is quadratic in the change, so two products suffice."""
        xp = backend.xp
        now = xp.sum(self.log_likelihood(xp, data, predictor, response), axis=-1)[..., None]
        slope = times(xp, self.residual(xp, data, predictor, response), design)
        curvature = xp.sum(design * design, axis=-2)
        if curvature.ndim == 2:
            curvature = curvature[:, None, :]
        return now + change * slope - 0.5 * change * change * curvature


@dataclass(frozen=True)
class LinearRegression(Regression):
    """ELBO of Bayesian linear regression with prior N(0, I) and unit noise."""

    name: ClassVar[str] = "linear-regression"
    summary: ClassVar[str] = "ELBO of a Bayesian linear regression, unit noise (conjugate; exact in closed form)"
    integrand = LinearIntegrand()
    source: ClassVar[str] = "closed-form"
    shapes: ClassVar[dict[str, tuple[int, int]]] = {"diabetes": (442, 10)}

    dataset: str = option("diabetes", "scikit-learn's bundled data", choices=("diabetes",))

    def likelihood_moments(
        self, mean: np.ndarray, deviation: np.ndarray, response: np.ndarray
    ) -> dict[int, np.ndarray]:
        error = response - mean
        return {
            0: -0.5 * (error**2 + deviation**2) - 0.5 * LOG_2PI,
            1: error,
            2: np.full_like(error, -1.0),
            4: np.zeros_like(error),
        }
