"""Powers, whose expectations are the moments of q, exact for every family with known moments."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors
from gradmeter.bench.problems.options import differentiate_option, family_option
from gradmeter.bench.problems.problem import Exact, check_moment, exact_polynomial
from gradmeter.bench.problems.separable import OverCoordinates, Separable
from gradmeter.estimators import FamilyConfig
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class Power(Separable):
    """φ(z) = zⁿ by repeated multiplication, which is exact for z of either sign."""

    degree: int

    def term(self, xp: Any, data: Arrays, z: Array) -> Array:
        return _power(z, self.degree)

    def derivative(self, xp: Any, data: Arrays, z: Array) -> Array:
        return self.degree * _power(z, self.degree - 1)

    def curvature(self, xp: Any, data: Arrays, z: Array) -> Array:
        if self.degree == 1:
            return xp.zeros_like(z)
        return self.degree * (self.degree - 1) * _power(z, self.degree - 2)


def _power(z: Array, exponent: int) -> Array:
    return math.prod([z] * exponent, start=z * 0.0 + 1.0) if exponent == 0 else math.prod([z] * (exponent - 1), start=z)


@dataclass(frozen=True)
class Polynomial(OverCoordinates):
    """f = Σ z_i^degree, exact for every family with known moments."""

    name: ClassVar[str] = "polynomial"
    summary: ClassVar[str] = "Σ z^degree, whose expectation is a moment of q"

    degree: int = option(2, "the power", minimum=1, maximum=20)
    q: FamilyConfig = family_option()
    dim: int = option(1, "number of coordinates D", minimum=1, maximum=1_000_000)
    differentiate: str = differentiate_option()

    def check(self) -> None:
        super().check()
        check_moment(f"problem polynomial with degree={self.degree}", self.q, self.degree, self.dim)

    @property
    def integrand(self) -> Power:
        return Power(self.degree)

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Return the exact values, from the family's moments, else from its marginals, else by enumeration."""
        return exact_polynomial(self.family, parameters, {self.degree: 1.0}) or super().exact_at(parameters)
