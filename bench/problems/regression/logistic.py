"""Logistic regression, exact by one-dimensional quadrature per row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays
from gradmeter.bench.problems.quadrature import normal_expectations
from gradmeter.bench.problems.regression.generalised_linear import GeneralisedLinear
from gradmeter.bench.problems.regression.regression import Regression
from gradmeter.estimators.options import option


class LogisticIntegrand(GeneralisedLinear):
    """Bernoulli likelihood with y in {0, 1}: h = y·predictor − log(1 + exp(predictor))."""

    def log_likelihood(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        softplus = xp.maximum(predictor, xp.zeros_like(predictor)) + xp.log1p(xp.exp(-xp.abs(predictor)))
        return response * predictor - softplus

    def residual(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        return response - 0.5 - 0.5 * xp.tanh(0.5 * predictor)  # y − sigmoid(predictor), without overflow

    def curvature(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        small = xp.exp(-xp.abs(predictor))
        return -small / ((1.0 + small) * (1.0 + small))


@dataclass(frozen=True)
class LogisticRegression(Regression):
    """ELBO of Bayesian logistic regression with prior N(0, I)."""

    name: ClassVar[str] = "logistic-regression"
    summary: ClassVar[str] = "ELBO of a Bayesian logistic regression (exact by one-dimensional quadrature)"
    integrand = LogisticIntegrand()
    source: ClassVar[str] = "quadrature"
    shapes: ClassVar[dict[str, tuple[int, int]]] = {"breast_cancer": (569, 30)}

    dataset: str = option("breast_cancer", "scikit-learn's bundled data", choices=("breast_cancer",))

    def pole(self) -> float:
        """Return π, since the poles of the sigmoid nearest to the real line are ±iπ."""
        return math.pi

    def likelihood_moments(
        self, mean: np.ndarray, deviation: np.ndarray, response: np.ndarray
    ) -> dict[int, np.ndarray]:
        return normal_expectations(_derivatives, mean, deviation, response, self.pole())


def _derivatives(predictor: np.ndarray, response: np.ndarray) -> dict[int, np.ndarray]:
    """Return h and its derivatives of order 1, 2 and 4 in the predictor."""
    small = np.exp(-np.abs(predictor))
    softplus = np.maximum(predictor, 0.0) + np.log1p(small)
    sigmoid = np.where(predictor >= 0.0, 1.0, small) / (1.0 + small)
    slope = small / (1.0 + small) ** 2  # σ' = σ(1 − σ); σ''' = σ'(1 − 6σ')
    return {
        0: response * predictor - softplus,
        1: response - sigmoid,
        2: -slope,
        4: -slope * (1.0 - 6.0 * slope),
    }
