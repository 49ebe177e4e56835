"""The uniform distribution on [low, high], coordinates independent.

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
from gradmeter.estimators.families.location_scale import LocationScale
from gradmeter.estimators.families.support_and_tails import SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class Uniform(LocationScale):
    """The uniform family. Parameters: `loc` [D], the lower end, and `log_scale` [D], the logarithm of the width."""

    name: ClassVar[str] = "uniform"
    summary: ClassVar[str] = "uniform distribution; parameters loc (the lower end), log_scale (log of the width)"
    unsupported: ClassVar[dict[str, str]] = {
        "score_identity": "its support depends on λ and its density is not 0 at the ends, so E[∇_λ log q] = −1",
    }

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        low: Values = option(0.0, "lower end of the support", per="coordinate")
        high: Values = option(1.0, "upper end of the support, above low", per="coordinate")

        @property
        def family(self) -> Family:
            return Uniform()

        def check(self, dimension: int) -> None:
            super().check(dimension)
            for low, high in self.rows("low", "high"):
                if not low < high:
                    raise UsageError(f"family uniform with low={low:g}, high={high:g}: high must be above low")

        def parameters(self, dimension: int) -> Blocks:
            width = self.each(dimension, lambda low, high: math.log(high - low), "low", "high")
            return {"loc": self.each(dimension, float, "low"), "log_scale": width}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("uniform", (*sample_shape, dimension))}

    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        return noise["base"]

    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        return backend.xp.zeros_like(x)

    def standard_slope(self, backend: Backend, x: Array) -> Array:
        return backend.xp.zeros_like(x)

    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        return backend.xp.zeros_like(x)

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        low, width = parameters["loc"], np.exp(parameters["log_scale"])
        one = np.ones_like(low)
        moving = {"loc": (one, one), "log_scale": (0.0 * one, width)}
        return SupportAndTails(low, low + 0.5 * width, low + width, width, moving=moving)

    def standard_moment(self, order: int) -> float:
        return 1.0 / (order + 1)
