"""Linear regression with Student-t noise, robust to outliers; exact by one-dimensional quadrature per row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors
from gradmeter.bench.problems.quadrature import normal_expectations
from gradmeter.bench.problems.regression.generalised_linear import GeneralisedLinear
from gradmeter.bench.problems.regression.regression import Regression
from gradmeter.estimators.options import option


class StudentTIntegrand(GeneralisedLinear):
    """Student-t likelihood: with r = y − predictor and w = ν τ², h = −½ (ν + 1) log(1 + r²/w).

    The constant is N log t_ν(0)/τ. `data` holds ν as `degrees` and w as `width`.
    """

    def log_likelihood(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        error = response - predictor
        return -0.5 * (data["degrees"] + 1.0) * xp.log1p(error * error / data["width"])

    def residual(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        error = response - predictor
        return (data["degrees"] + 1.0) * error / (error * error + data["width"])

    def curvature(self, xp: Any, data: Arrays, predictor: Array, response: Array) -> Array:
        error, width = response - predictor, data["width"]
        square = error * error
        size = square + width
        return (data["degrees"] + 1.0) * (square - width) / (size * size)


@dataclass(frozen=True)
class StudentTRegression(Regression):
    """ELBO of Bayesian linear regression with prior N(0, I) and Student-t noise of scale τ."""

    name: ClassVar[str] = "student-t-regression"
    summary: ClassVar[str] = "ELBO of a robust linear regression, Student-t noise (exact by 1-D quadrature)"
    integrand = StudentTIntegrand()
    source: ClassVar[str] = "quadrature"
    shapes: ClassVar[dict[str, tuple[int, int]]] = {"diabetes": (442, 10)}

    dataset: str = option("diabetes", "scikit-learn's bundled data", choices=("diabetes",))
    df: float = option(4.0, "degrees of freedom ν of the noise", minimum=0.5, maximum=1e6)
    residual_scale: float = option(0.7, "scale τ of the noise", minimum=0.01, maximum=1e3)

    def data(self) -> Vectors:
        data, nu = super().data(), self.df
        largest = math.lgamma(0.5 * (nu + 1.0)) - math.lgamma(0.5 * nu)
        largest -= 0.5 * math.log(nu * math.pi) + math.log(self.residual_scale)
        numbers = {"degrees": nu, "width": nu * self.residual_scale**2, "constant": len(data["response"]) * largest}
        return data | {name: np.asarray(value) for name, value in numbers.items()}

    def pole(self) -> float:
        """Return √w = √ν τ, since log(1 + r²/w) has branch points at r = ±i√w."""
        return math.sqrt(self.df) * self.residual_scale

    def likelihood_moments(
        self, mean: np.ndarray, deviation: np.ndarray, response: np.ndarray
    ) -> dict[int, np.ndarray]:
        more, width = self.df + 1.0, self.pole() ** 2

        def derivatives(predictor: np.ndarray, response: np.ndarray) -> dict[int, np.ndarray]:
            error = response - predictor
            square = error * error
            size = square + width
            return {
                0: -0.5 * more * np.log1p(square / width),
                1: more * error / size,
                2: more * (square - width) / size**2,
                4: 6.0 * more * (square * square - 6.0 * width * square + width * width) / size**4,
            }

        return normal_expectations(derivatives, mean, deviation, response, self.pole())
