"""The test functions of Mohamed et al. 2020, section 3, in D dimensions as sums over coordinates.

Each is Σ_i φ(z_i) with z_i ~ N(loc, scale²), so one coordinate is replaced in O(1) and every Hermite moment
E[φ(loc + scale ε) He_n(ε)] = scaleⁿ dⁿ/dlocⁿ E φ (Stein) is closed.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bench.problems.problem import Exact, Problem, Vectors, exact_normal
from estimators import Expectation, Integrand, Normal, UsageError
from estimators.options import option

Array = Any


class Separable(Integrand):
    """Σ_i φ(z_i; k), `data["k"]` a number."""

    @abstractmethod
    def term(self, xp: Any, k: Array, z: Array) -> Array:
        """φ(z) elementwise."""

    @abstractmethod
    def derivative(self, xp: Any, k: Array, z: Array) -> Array:
        """φ'(z) elementwise."""

    def value(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        return xp.sum(self.term(xp, data["k"], z), axis=-1)

    def gradient(self, xp: Any, data: dict[str, Array], z: Array, noise: dict[str, Array]) -> Array:
        return self.derivative(xp, data["k"], z)

    def replaced(
        self, backend: Any, data: dict[str, Array], z: Array, replacement: Array, noise: dict[str, Array]
    ) -> Array:
        new = self.term(backend.xp, data["k"], replacement)
        if z.shape[-1] == 1:
            return new
        old = self.term(backend.xp, data["k"], z)
        return backend.xp.sum(old, axis=-1, keepdims=True) - old + new


class SquareIntegrand(Separable):
    def term(self, xp: Any, k: Array, z: Array) -> Array:
        return (z - k) * (z - k)

    def derivative(self, xp: Any, k: Array, z: Array) -> Array:
        return 2.0 * (z - k)


class ExponentialIntegrand(Separable):
    def term(self, xp: Any, k: Array, z: Array) -> Array:
        return xp.exp(-k * z * z)

    def derivative(self, xp: Any, k: Array, z: Array) -> Array:
        return -2.0 * k * z * xp.exp(-k * z * z)


class CosineIntegrand(Separable):
    def term(self, xp: Any, k: Array, z: Array) -> Array:
        return xp.cos(k * z)

    def derivative(self, xp: Any, k: Array, z: Array) -> Array:
        return -k * xp.sin(k * z)


@dataclass(frozen=True)
class TestFunction(Problem):
    """Options shared by the three; every coordinate has the same loc and scale (σ)."""

    __test__: ClassVar[bool] = False  # not for pytest to collect
    integrand: ClassVar[Integrand]

    k: float = option(1.0, "the function's parameter")
    loc: float = option(0.0, "mean of every coordinate")
    scale: float = option(1.0, "σ of every coordinate", above=0.0)
    dim: int = option(1, "number of coordinates D", minimum=1, maximum=1_000_000)
    differentiate: str = option("closed-form", "where ∇f comes from", choices=("closed-form", "autodiff"))

    @property
    def dimension(self) -> int:
        return self.dim

    def expectation(self) -> Expectation:
        return Expectation(
            Normal(),
            self.integrand,
            {"k": np.asarray(self.k)},
            differentiate=self.differentiate,  # type: ignore[arg-type]
        )

    def parameters(self) -> Vectors:
        return {"loc": np.full(self.dim, self.loc), "log_scale": np.full(self.dim, math.log(self.scale))}

    @abstractmethod
    def hermite_moment(self, order: int) -> float:
        """E[φ(loc + scale ε) He_order(ε)] of one coordinate."""

    def exact(self) -> Exact:
        one = {n: self.hermite_moment(n) for n in (0, 1, 2, 4)}
        every: dict[int, np.ndarray | float] = {n: np.full(self.dim, one[n]) for n in (1, 2, 4)}
        return exact_normal(np.full(self.dim, self.scale), {0: self.dim * one[0], **every}, "closed-form")


@dataclass(frozen=True)
class Square(TestFunction):
    name: ClassVar[str] = "square"
    summary: ClassVar[str] = "Σ (z − k)², z ~ N(loc, scale²)"
    integrand: ClassVar[Integrand] = SquareIntegrand()

    def hermite_moment(self, order: int) -> float:
        delta = self.loc - self.k
        moments = {0: delta**2 + self.scale**2, 1: 2.0 * delta * self.scale, 2: 2.0 * self.scale**2}
        return moments.get(order, 0.0)


@dataclass(frozen=True)
class Exponential(TestFunction):
    name: ClassVar[str] = "exponential"
    summary: ClassVar[str] = "Σ exp(−k z²), z ~ N(loc, scale²)"
    integrand: ClassVar[Integrand] = ExponentialIntegrand()

    def check(self) -> None:
        if 1.0 + 2.0 * self.k * self.scale**2 <= 0.0:
            limit = -0.5 / self.scale**2
            raise UsageError(
                f"problem exponential with k={self.k:g}, scale={self.scale:g} has no expectation; "
                f"k must be above −1/(2 scale²) = {limit:g}"
            )

    def hermite_moment(self, order: int) -> float:
        # E φ = c^(-1/2) exp(−a loc²); its derivatives are polynomials times itself.
        c = 1.0 + 2.0 * self.k * self.scale**2
        a, m = self.k / c, self.loc
        polynomial = {
            0: 1.0,
            1: -2.0 * a * m,
            2: 4.0 * a**2 * m**2 - 2.0 * a,
            4: 16.0 * a**4 * m**4 - 48.0 * a**3 * m**2 + 12.0 * a**2,
        }[order]
        return self.scale**order * polynomial * math.exp(-a * m * m) / math.sqrt(c)


@dataclass(frozen=True)
class Cosine(TestFunction):
    name: ClassVar[str] = "cosine"
    summary: ClassVar[str] = "Σ cos(k z), z ~ N(loc, scale²)"
    integrand: ClassVar[Integrand] = CosineIntegrand()

    def hermite_moment(self, order: int) -> float:
        # The real part of (ikσ)ⁿ exp(ik loc − k²σ²/2).
        wave = (1j * self.k * self.scale) ** order * np.exp(1j * self.k * self.loc - 0.5 * (self.k * self.scale) ** 2)
        return float(np.real(wave))
