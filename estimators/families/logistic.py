"""The logistic distribution: CDF 1/(1 + exp(−(z − loc)/σ)), coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Family
from gradmeter.estimators.families.location_scale import LocationScale, LocationScalePoint
from gradmeter.estimators.noise import Noise


@dataclass(frozen=True)
class Logistic(LocationScale):
    """The logistic family. Parameters: `loc` [D] and `log_scale` [D]; the standard deviation is σ π/√3."""

    name: ClassVar[str] = "logistic"
    summary: ClassVar[str] = "logistic distribution by its inverse CDF; parameters loc, log_scale"

    @dataclass(frozen=True)
    class Config(LocationScalePoint):
        @property
        def family(self) -> Family:
            return Logistic()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("exponential", (*sample_shape, dimension))}

    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        """Return log u/(1 − u) with 1 − u = exp(−e)."""
        return noise["base"] + backend.xp.log(-backend.xp.expm1(-noise["base"]))

    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        """Return −2 log(2 cosh(x/2))."""
        return -2.0 * backend.xp.logaddexp(0.5 * x, -0.5 * x)

    def standard_slope(self, backend: Backend, x: Array) -> Array:
        return -backend.xp.tanh(0.5 * x)

    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        tangent = backend.xp.tanh(0.5 * x)
        return 0.5 * (tangent * tangent - 1.0)

    def standard_moment(self, order: int) -> float:
        """Return 2 n! (1 − 2^(1 − n)) ζ(n) for even n > 0."""
        if order % 2 or order == 0:
            return float(order == 0)
        from scipy.special import zeta  # slow to import

        return 2.0 * math.factorial(order) * (1.0 - 2.0 ** (1 - order)) * float(zeta(order))
