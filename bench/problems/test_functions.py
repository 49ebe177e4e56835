"""The test functions of Mohamed et al. 2020, section 3, in D dimensions as sums over coordinates.

Each is Σ_i φ(z_i), so one coordinate is replaced in O(1). With z_i ~ N(loc, scale²), as in the paper, every Hermite
moment E[φ(loc + scale ε) He_n(ε)] = scaleⁿ dⁿ/dlocⁿ E φ (Stein) is closed.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bench.problems.problem import Exact, Problem, Vectors, check_moment, exact_normal, exact_polynomial, family_option
from estimators import Expectation, Integrand, Normal, Point, UsageError
from estimators.options import option

Array = Any


class Separable(Integrand):
    """Σ_i φ(z_i)."""

    @abstractmethod
    def term(self, xp: Any, data: dict[str, Array], z: Array) -> Array:
        """φ(z) elementwise."""

    @abstractmethod
    def derivative(self, xp: Any, data: dict[str, Array], z: Array) -> Array:
        """φ'(z) elementwise."""

    @abstractmethod
    def curvature(self, xp: Any, data: dict[str, Array], z: Array) -> Array:
        """φ''(z) elementwise."""

    def value(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        return xp.sum(self.term(xp, data, z), axis=-1)

    def gradient(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        return self.derivative(xp, data, z)

    def hessian_product(
        self, xp: Any, data: dict[str, Array], z: Array, vector: Array, noise: dict[str, Array]
    ) -> Array:
        return self.curvature(xp, data, z) * vector

    def local_terms(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        return self.term(xp, data, z)

    def replaced(
        self, backend: Any, data: dict[str, Array], z: Array, replacement: Array, noise: dict[str, Array]
    ) -> Array:
        new = self.term(backend.xp, data, replacement)
        if z.shape[-1] == 1:
            return new
        old = self.term(backend.xp, data, z)
        return backend.xp.sum(old, axis=-1, keepdims=True) - old + new


class SquareIntegrand(Separable):
    def term(self, xp: Any, data: dict[str, Array], z: Array) -> Array:
        away = z - data["k"]
        return away * away

    def derivative(self, xp: Any, data: dict[str, Array], z: Array) -> Array:
        return 2.0 * (z - data["k"])

    def curvature(self, xp: Any, data: dict[str, Array], z: Array) -> Array:
        return 2.0 * xp.ones_like(z)


class ExponentialIntegrand(Separable):
    def term(self, xp: Any, data: dict[str, Array], z: Array) -> Array:
        return xp.exp(-data["k"] * z * z)

    def derivative(self, xp: Any, data: dict[str, Array], z: Array) -> Array:
        return -2.0 * data["k"] * z * xp.exp(-data["k"] * z * z)

    def curvature(self, xp: Any, data: dict[str, Array], z: Array) -> Array:
        k = data["k"]
        return (4.0 * k * k * z * z - 2.0 * k) * xp.exp(-k * z * z)


class CosineIntegrand(Separable):
    def term(self, xp: Any, data: dict[str, Array], z: Array) -> Array:
        return xp.cos(data["k"] * z)

    def derivative(self, xp: Any, data: dict[str, Array], z: Array) -> Array:
        return -data["k"] * xp.sin(data["k"] * z)

    def curvature(self, xp: Any, data: dict[str, Array], z: Array) -> Array:
        return -data["k"] * data["k"] * xp.cos(data["k"] * z)


@dataclass(frozen=True)
class TestFunction(Problem):
    """Options shared by the three; every coordinate of λ is the same."""

    __test__: ClassVar[bool] = False  # not for pytest to collect
    integrand: ClassVar[Integrand]

    k: float = option(1.0, "the function's parameter")
    q: Point = family_option()
    dim: int = option(1, "number of coordinates D", minimum=1, maximum=1_000_000)
    differentiate: str = option("closed-form", "where ∇f comes from", choices=("closed-form", "autodiff"))

    @property
    def dimension(self) -> int:
        return self.dim

    def expectation(self) -> Expectation:
        return Expectation(
            self.family,
            self.integrand,
            {"k": np.asarray(self.k)},
            differentiate=self.differentiate,  # type: ignore[arg-type]
        )

    @abstractmethod
    def hermite_moment(self, order: int, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """E[φ(loc + scale ε) He_order(ε)] of every coordinate [D]."""

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Known for the Normal."""
        if not isinstance(self.q, Normal.At):
            return None
        loc, scale = parameters["loc"], np.exp(parameters["log_scale"])
        hermite: dict[int, np.ndarray | float] = {n: self.hermite_moment(n, loc, scale) for n in (1, 2, 4)}
        return exact_normal(scale, {0: float(self.hermite_moment(0, loc, scale).sum()), **hermite}, "closed-form")


@dataclass(frozen=True)
class Square(TestFunction):
    name: ClassVar[str] = "square"
    summary: ClassVar[str] = "Σ (z − k)²"
    integrand: ClassVar[Integrand] = SquareIntegrand()

    def check(self) -> None:
        super().check()
        check_moment("problem square", self.q, 2)

    def hermite_moment(self, order: int, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        delta = loc - self.k
        moments = {0: delta**2 + scale**2, 1: 2.0 * delta * scale, 2: 2.0 * scale**2}
        return moments.get(order, np.zeros_like(loc))

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Known for every family with moments."""
        coefficients = {0: self.k**2, 1: -2.0 * self.k, 2: 1.0}
        return super().exact_at(parameters) or exact_polynomial(self.family, parameters, coefficients)


@dataclass(frozen=True)
class Exponential(TestFunction):
    name: ClassVar[str] = "exponential"
    summary: ClassVar[str] = "Σ exp(−k z²)"
    integrand: ClassVar[Integrand] = ExponentialIntegrand()

    def check(self) -> None:
        super().check()
        if isinstance(self.q, Normal.At) and 1.0 + 2.0 * self.k * self.q.scale**2 <= 0.0:
            limit = -0.5 / self.q.scale**2
            raise UsageError(
                f"problem exponential with k={self.k:g}, scale={self.q.scale:g} has no expectation; "
                f"k must be above −1/(2 scale²) = {limit:g}"
            )

    def hermite_moment(self, order: int, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        # E φ = c^(-1/2) exp(−a loc²); its derivatives are polynomials times itself.
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
class Cosine(TestFunction):
    name: ClassVar[str] = "cosine"
    summary: ClassVar[str] = "Σ cos(k z)"
    integrand: ClassVar[Integrand] = CosineIntegrand()

    def hermite_moment(self, order: int, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        # The real part of (ikσ)ⁿ exp(ik loc − k²σ²/2).
        wave = (1j * self.k * scale) ** order * np.exp(1j * self.k * loc - 0.5 * (self.k * scale) ** 2)
        return np.real(wave)
