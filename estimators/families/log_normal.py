"""The log-normal distribution: log z_i ~ N(loc_i, exp(log_scale_i)²), coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family, OptionPerBlock
from gradmeter.estimators.families.log_location_scale import LogLocationScale
from gradmeter.estimators.families.support_and_tails import HEAVY, SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class LogNormal(LogLocationScale):
    """The log-normal family. Parameters: `loc` [D] and `log_scale` [D] of log z, both unconstrained."""

    name: ClassVar[str] = "log-normal"
    summary: ClassVar[str] = "exponential of a Normal; parameters loc, log_scale, both of log z"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "log_scale")
    mean: ClassVar[float] = 0.0

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        loc: Values = option(0.0, "mean of log z in every coordinate", per="coordinate")
        scale: Values = option(1.0, "standard deviation of log z in every coordinate", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return LogNormal()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("normal", (*sample_shape, dimension))}

    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        return noise["base"]

    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        return -0.5 * x * x - 0.5 * math.log(2.0 * math.pi)

    def standard_slope(self, backend: Backend, x: Array) -> Array:
        return -x

    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        return -backend.xp.ones_like(x)

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        middle = np.exp(parameters["loc"])
        return SupportAndTails(np.zeros_like(middle), middle, middle + np.inf, middle, above=HEAVY)

    def generating_function(self, t: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
        value = np.exp(0.5 * t * t)
        return value, t * value
