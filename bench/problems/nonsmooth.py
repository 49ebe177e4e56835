"""Non-smooth integrands: a step, and an absolute value.

The gradient of E f depends on the discontinuity of the step and on that of the absolute value's slope, which no sample
of ∇f shows in the first case, or of ∇²f in either. So the pathwise estimator is correct for the absolute value but
wrong for the step, where it returns 0, and estimators based on ∇²f are wrong for both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays
from gradmeter.bench.problems.problem import check_moment
from gradmeter.bench.problems.separable import Separable
from gradmeter.bench.problems.test_functions import OfOneNumber
from gradmeter.estimators.options import option


class StepIntegrand(Separable):
    """φ(z) = 1 where z > k, else 0; its derivative is 0 almost everywhere."""

    unsupported: Mapping[str, str] = {"curvature": "problem step has ∇f = 0 wherever it has a gradient at all"}

    def term(self, xp: Any, data: Arrays, z: Array) -> Array:
        return xp.where(z > data["k"], xp.ones_like(z), xp.zeros_like(z))

    def derivative(self, xp: Any, data: Arrays, z: Array) -> Array:
        return xp.zeros_like(z)

    def curvature(self, xp: Any, data: Arrays, z: Array) -> Array:
        return xp.zeros_like(z)


class AbsoluteIntegrand(Separable):
    """φ(z) = |z − k|, with derivative 0 at k."""

    unsupported: Mapping[str, str] = {"curvature": "problem absolute-value has ∇²f = 0 wherever it has one at all"}

    def term(self, xp: Any, data: Arrays, z: Array) -> Array:
        return xp.abs(z - data["k"])

    def derivative(self, xp: Any, data: Arrays, z: Array) -> Array:
        return xp.sign(z - data["k"])

    def curvature(self, xp: Any, data: Arrays, z: Array) -> Array:
        return xp.zeros_like(z)


@dataclass(frozen=True)
class Nonsmooth(OfOneNumber):
    """Base class of the step and the absolute value, whose option k is where φ is not smooth."""

    k: float = option(0.0, "where it jumps, or turns")

    def breaks(self) -> tuple[float, ...]:
        return (self.k,)


def _normal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the density and CDF of the standard Normal."""
    from scipy.special import ndtr  # slow to import

    return np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi), ndtr(x)


@dataclass(frozen=True)
class Step(Nonsmooth):
    """f = Σ 1[z_i > k], for which the pathwise estimator returns 0."""

    name: ClassVar[str] = "step"
    summary: ClassVar[str] = "Σ 1[z > k], whose pathwise gradient is 0 and wrong"
    integrand = StepIntegrand()

    def hermite_moment(self, order: int, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        # With a = (k − loc)/σ, the integral of He_n times the density over (a, ∞) is He_{n − 1}(a) times the density at
        # a.
        a = (self.k - loc) / scale
        density, below = _normal(-a)
        return {0: below, 1: density, 2: a * density, 4: (a**3 - 3.0 * a) * density}[order]


@dataclass(frozen=True)
class AbsoluteValue(Nonsmooth):
    """f = Σ |z_i − k|, whose pathwise gradient is correct."""

    name: ClassVar[str] = "absolute-value"
    summary: ClassVar[str] = "Σ |z − k|, whose slope jumps"
    integrand = AbsoluteIntegrand()

    def check(self) -> None:
        super().check()
        check_moment("problem absolute-value", self.q, 1, self.dim)

    def hermite_moment(self, order: int, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        # σⁿ dⁿ/dlocⁿ E |z − k|, whose second derivative is 2/σ times the standard density at (loc − k)/σ.
        a = (loc - self.k) / scale
        density, below = _normal(a)
        sign = 2.0 * below - 1.0
        moments = {0: 2.0 * density + a * sign, 1: sign, 2: 2.0 * density, 4: 2.0 * (a * a - 1.0) * density}
        return scale * moments[order]
