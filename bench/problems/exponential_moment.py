"""Exponential integrands, whose expectation is the moment generating function of q."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors
from gradmeter.bench.problems.one_dimensional import check_growth
from gradmeter.bench.problems.options import differentiate_option, family_option
from gradmeter.bench.problems.separable import OverCoordinates, Separable
from gradmeter.estimators import FamilyConfig
from gradmeter.estimators.options import option


class ExponentialMomentIntegrand(Separable):
    """φ(z) = exp(t z)."""

    def term(self, xp: Any, data: Arrays, z: Array) -> Array:
        return xp.exp(data["t"] * z)

    def derivative(self, xp: Any, data: Arrays, z: Array) -> Array:
        return data["t"] * self.term(xp, data, z)

    def curvature(self, xp: Any, data: Arrays, z: Array) -> Array:
        return data["t"] * data["t"] * self.term(xp, data, z)


@dataclass(frozen=True)
class ExponentialMoment(OverCoordinates):
    """f = Σ exp(t z_i), exact in closed form for the mean-field Normal, else by quadrature or enumeration."""

    name: ClassVar[str] = "exponential-moment"
    summary: ClassVar[str] = "Σ exp(t z), whose expectation is the moment generating function of q"
    integrand = ExponentialMomentIntegrand()

    t: float = option(0.5, "the factor of z")
    q: FamilyConfig = family_option()
    dim: int = option(1, "number of coordinates D", minimum=1, maximum=1_000_000)
    differentiate: str = differentiate_option()

    def check(self) -> None:
        super().check()
        check_growth(f"problem exponential-moment with t={self.t:g}", self.q, self.dim, self.t, 1, "t")
        self.check_size()

    def data(self) -> Vectors:
        return {"t": np.asarray(self.t)}

    def weighted(self, z: np.ndarray, log_density: np.ndarray) -> np.ndarray:
        return np.exp(log_density + self.t * z)

    def hermite_moment(self, order: int, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
        # (tσ)ⁿ E φ, since weighting by φ shifts ε to ε + tσ.
        return (self.t * scale) ** order * np.exp(self.t * loc + 0.5 * (self.t * scale) ** 2)
