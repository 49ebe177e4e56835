"""The test functions of Mohamed et al. 2020, section 3, as sums over D coordinates.

Each is Σ_i φ(z_i), so replacing one coordinate takes O(1). For z_i ~ N(loc, scale²), as in the paper, every Hermite
moment E[φ(loc + scale ε) He_n(ε)] = scaleⁿ dⁿ/dlocⁿ E φ (Stein) is in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors
from gradmeter.bench.problems.one_dimensional import check_growth
from gradmeter.bench.problems.options import differentiate_option, family_option
from gradmeter.bench.problems.problem import Exact, check_moment, exact_polynomial
from gradmeter.bench.problems.separable import OverCoordinates, Separable
from gradmeter.estimators import FamilyConfig, Normal, UsageError
from gradmeter.estimators.families.cauchy import Cauchy
from gradmeter.estimators.options import option


class SquareIntegrand(Separable):
    """φ(z) = (z − k)²."""

    def term(self, xp: Any, data: Arrays, z: Array) -> Array:
        away = z - data["k"]
        return away * away

    def derivative(self, xp: Any, data: Arrays, z: Array) -> Array:
        return 2.0 * (z - data["k"])

    def curvature(self, xp: Any, data: Arrays, z: Array) -> Array:
        return 2.0 * xp.ones_like(z)


class ExponentialIntegrand(Separable):
    """φ(z) = exp(−k z²)."""

    def term(self, xp: Any, data: Arrays, z: Array) -> Array:
        return xp.exp(-data["k"] * z * z)

    def derivative(self, xp: Any, data: Arrays, z: Array) -> Array:
        return -2.0 * data["k"] * z * xp.exp(-data["k"] * z * z)

    def curvature(self, xp: Any, data: Arrays, z: Array) -> Array:
        k = data["k"]
        return (4.0 * k * k * z * z - 2.0 * k) * xp.exp(-k * z * z)


class CosineIntegrand(Separable):
    """φ(z) = cos(k z)."""

    def term(self, xp: Any, data: Arrays, z: Array) -> Array:
        return xp.cos(data["k"] * z)

    def derivative(self, xp: Any, data: Arrays, z: Array) -> Array:
        return -data["k"] * xp.sin(data["k"] * z)

    def curvature(self, xp: Any, data: Arrays, z: Array) -> Array:
        return -data["k"] * data["k"] * xp.cos(data["k"] * z)


@dataclass(frozen=True)
class OfOneNumber(OverCoordinates):
    """Base class of problems Σ φ(z_i) with one parameter k."""

    k: float = option(1.0, "the function's parameter")
    q: FamilyConfig = family_option()
    dim: int = option(1, "number of coordinates D", minimum=1, maximum=1_000_000)
    differentiate: str = differentiate_option()

    def data(self) -> Vectors:
        return {"k": np.asarray(self.k)}


@dataclass(frozen=True)
class Square(OfOneNumber):
    """f = Σ (z_i − k)², exact in closed form for every family with known moments."""

    name: ClassVar[str] = "square"
    summary: ClassVar[str] = "Σ (z − k)²"
    integrand = SquareIntegrand()

    def check(self) -> None:
        super().check()
        check_moment("problem square", self.q, 2, self.dim)

    def hermite_moment(self, order: int, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        delta = loc - self.k
        moments = {0: delta**2 + scale**2, 1: 2.0 * delta * scale, 2: 2.0 * scale**2}
        return moments.get(order, np.zeros_like(loc))

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Return the exact values, which are in closed form for every family with known moments."""
        if isinstance(self.q, Normal.Config):
            return super().exact_at(parameters)
        coefficients = {0: self.k**2, 1: -2.0 * self.k, 2: 1.0}
        return exact_polynomial(self.family, parameters, coefficients) or super().exact_at(parameters)


@dataclass(frozen=True)
class Exponential(OfOneNumber):
    """f = Σ exp(−k z_i²); under a Normal q, k must be above −1/(2σ²)."""

    name: ClassVar[str] = "exponential"
    summary: ClassVar[str] = "Σ exp(−k z²)"
    integrand = ExponentialIntegrand()

    def check(self) -> None:
        super().check()
        widest = float(np.max(self.q.scale)) if isinstance(self.q, Normal.Config) else 0.0
        if 1.0 + 2.0 * self.k * widest**2 <= 0.0:
            limit = -0.5 / widest**2
            raise UsageError(
                f"problem exponential with k={self.k:g}, scale={widest:g} has no expectation; "
                f"k must be above −1/(2 scale²) = {limit:g}"
            )
        check_growth(f"problem exponential with k={self.k:g}", self.q, self.dim, -self.k, 2, "k", sign=-1.0)
        self.check_size()

    def weighted(self, z: np.ndarray, log_density: np.ndarray) -> np.ndarray:
        return np.exp(log_density - self.k * z * z)

    def hermite_moment(self, order: int, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        # E φ = c^(-1/2) exp(−a loc²); its derivatives are polynomials times E φ.
        c = 1.0 + 2.0 * self.k * scale**2
        a, m = self.k / c, loc
        polynomial = {
            0: np.ones_like(m),
            1: -2.0 * a * m,
            2: 4.0 * a**2 * m**2 - 2.0 * a,
            4: 16.0 * a**4 * m**4 - 48.0 * a**3 * m**2 + 12.0 * a**2,
        }[order]
        return scale**order * polynomial * np.exp(-a * m * m) / np.sqrt(c)


@dataclass(frozen=True)
class Cosine(OfOneNumber):
    """f = Σ cos(k z_i), exact in closed form for the mean-field Normal and the Cauchy family."""

    name: ClassVar[str] = "cosine"
    summary: ClassVar[str] = "Σ cos(k z)"
    integrand = CosineIntegrand()

    def hermite_moment(self, order: int, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        # Real part of (ikσ)ⁿ exp(ik loc − k²σ²/2).
        wave = (1j * self.k * scale) ** order * np.exp(1j * self.k * loc - 0.5 * (self.k * scale) ** 2)
        return np.real(wave)

    def wave(self) -> float:
        return self.k

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Return the exact values; under a Cauchy distribution, E φ = cos(k loc) exp(−|k| σ)."""
        if not isinstance(self.q, Cauchy.Config):
            return super().exact_at(parameters)
        loc, scale = parameters["loc"], np.exp(parameters["log_scale"])
        decay = np.exp(-abs(self.k) * scale)
        value, slope = np.cos(self.k * loc) * decay, -self.k * np.sin(self.k * loc) * decay
        gradient = {"loc": slope, "log_scale": -abs(self.k) * scale * value}
        return Exact(gradient, "closed-form", float(value.sum()))
