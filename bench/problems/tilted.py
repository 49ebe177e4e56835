"""An integrand that depends on λ: f_λ(z) = Σ (z_i − a loc_i)².

Its gradient in loc has two terms: ∇_λ E f with the λ in f held fixed, 2 (E z − a loc), and the explicit term
E ∂f/∂loc = −2a (E z − a loc). An estimate without the second term is biased.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors
from gradmeter.bench.problems.options import differentiate_option, family_option
from gradmeter.bench.problems.problem import Exact, check_moment
from gradmeter.bench.problems.separable import OverCoordinates, Separable
from gradmeter.bench.problems.test_functions import Square
from gradmeter.estimators import FamilyConfig
from gradmeter.estimators.options import option


class TiltedSquareIntegrand(Separable):
    """Σ (z_i − a loc_i)², with `a` and q's `loc` [D] in `data`."""

    reads = ("loc",)

    def _away(self, data: Arrays, z: Array) -> Array:
        return z - data["a"] * data["loc"]

    def term(self, xp: Any, data: Arrays, z: Array) -> Array:
        away = self._away(data, z)
        return away * away

    def derivative(self, xp: Any, data: Arrays, z: Array) -> Array:
        return 2.0 * self._away(data, z)

    def curvature(self, xp: Any, data: Arrays, z: Array) -> Array:
        return 2.0 * xp.ones_like(z)

    def explicit_pullback(self, xp: Any, data: Arrays, z: Array, cotangent: Array, noise: Arrays) -> Arrays:
        """Return the cotangent times ∂f/∂loc = −2a (z − a loc), summed over samples."""
        slope = -2.0 * data["a"] * cotangent[..., None] * self._away(data, z)
        return {"loc": xp.sum(slope, axis=1)}


@dataclass(frozen=True)
class TiltedSquare(OverCoordinates):
    """The problem for any location family of q that has a variance.

    Since `loc` shifts every z_i by the same amount, E f at λ is E Σ z² at (1 − a) loc. For a Normal it is
    Σ (1 − a)² loc² + σ².
    """

    name: ClassVar[str] = "tilted-square"
    summary: ClassVar[str] = "Σ (z − a loc)², which reads q's loc: f_λ has a derivative in λ at fixed z"
    integrand = TiltedSquareIntegrand()

    a: float = option(0.5, "how much of loc f takes off z")
    q: FamilyConfig = family_option(
        *("normal", "multivariate-normal", "low-rank-normal", "elliptical"),
        *("laplace", "student-t", "logistic", "gumbel", "uniform", "triangular"),
    )
    dim: int = option(1, "number of coordinates D", minimum=1, maximum=1_000_000)
    differentiate: str = differentiate_option("∇f and ∂f/∂loc come")

    def check(self) -> None:
        super().check()
        check_moment(f"problem {self.name}", self.q, 2, self.dimension)

    def data(self) -> Vectors:
        return {"a": np.asarray(self.a)}

    def _moved(self) -> Square:
        """Return the problem Σ z², which has the value of f if its loc is (1 − a) loc."""
        return Square(k=0.0, q=self.q, dim=self.dim)

    def hermite_moment(self, order: int, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return self._moved().hermite_moment(order, (1.0 - self.a) * loc, scale)

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Return the exact values, known for all families of this problem."""
        exact = self._moved().exact_at({**parameters, "loc": (1.0 - self.a) * parameters["loc"]})
        if exact is None:
            return None
        return replace(exact, gradient={**exact.gradient, "loc": (1.0 - self.a) * exact.gradient["loc"]})
