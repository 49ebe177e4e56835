"""The reciprocal (log-uniform) distribution: density 1/(z log(high/low)) on [low, high], coordinates independent.

Densities and their derivatives are valid inside the support only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig
from gradmeter.estimators.families.log_location_scale import LogLocationScale
from gradmeter.estimators.families.support_and_tails import SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class Reciprocal(LogLocationScale):
    """The log-uniform family.

    Parameters: `log_low` [D], and `log_span` [D] = log log(high/low), both unconstrained.
    """

    name: ClassVar[str] = "reciprocal"
    summary: ClassVar[str] = "log-uniform distribution; parameters log_low, log_span (log of log(high/low))"
    blocks: ClassVar[tuple[str, ...]] = ("log_low", "log_span")
    mean: ClassVar[float] = 0.5
    unsupported: ClassVar[dict[str, str]] = {
        "score_identity": "its support depends on λ and its density is not 0 at the ends, so E[∇_λ log q] = −1",
    }

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        low: Values = option(1.0, "lower end of the support", above=0.0, per="coordinate")
        high: Values = option(10.0, "upper end of the support, above low", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return Reciprocal()

        def check(self, dimension: int) -> None:
            super().check(dimension)
            for low, high in self.rows("low", "high"):
                if not low < high:
                    raise UsageError(f"family reciprocal with low={low:g}, high={high:g}: high must be above low")

        def parameters(self, dimension: int) -> Blocks:
            span = self.each(dimension, lambda low, high: math.log(math.log(high) - math.log(low)), "low", "high")
            return {"log_low": self.each(dimension, math.log, "low"), "log_span": span}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("uniform", (*sample_shape, dimension))}

    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        """Return u, so that z = low (high/low)ᵘ."""
        return noise["base"]

    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        return backend.xp.zeros_like(x)

    def standard_slope(self, backend: Backend, x: Array) -> Array:
        return backend.xp.zeros_like(x)

    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        return backend.xp.zeros_like(x)

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        low, span = np.exp(parameters["log_low"]), np.exp(parameters["log_span"])
        high = low * np.exp(span)
        moving = {"log_low": (low, high), "log_span": (0.0 * low, high * span)}
        return SupportAndTails(low, low * np.exp(0.5 * span), high, high - low, moving=moving)

    def generating_function(self, t: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (eᵗ − 1)/t and its derivative, by power series where the closed form would cancel."""
        small = np.abs(t) < 1.0
        safe = np.where(small, 1.0, t)
        series = np.where(small, t, 0.0)
        value = np.expm1(safe) / safe
        slope = (np.exp(safe) - value) / safe
        near = sum(series**k / math.factorial(k + 1) for k in range(19))
        near_slope = sum(k * series ** (k - 1) / math.factorial(k + 1) for k in range(1, 20))
        return np.where(small, near, value), np.where(small, near_slope, slope)
