"""The Laplace distribution: density exp(−|z − loc|/σ)/(2σ), coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family
from gradmeter.estimators.families.location_scale import LocationScale, LocationScalePoint
from gradmeter.estimators.noise import Noise


@dataclass(frozen=True)
class Laplace(LocationScale):
    """The Laplace family. Parameters: `loc` [D] and `log_scale` [D]; the standard deviation is √2 σ.

    The density has a corner at loc, so log q is differentiable almost everywhere.
    """

    name: ClassVar[str] = "laplace"
    summary: ClassVar[str] = "Laplace distribution by its inverse CDF; parameters loc, log_scale"

    @dataclass(frozen=True)
    class Config(LocationScalePoint):
        @property
        def family(self) -> Family:
            return Laplace()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("exponential", (*sample_shape, dimension))}

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        """Return the median, where the path has a corner."""
        return {"base": np.full((1, 1), math.log(2.0))}

    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        """Return −log 2(1 − u) above the median and log 2u below, with 1 − u = exp(−e)."""
        xp, e = backend.xp, noise["base"]
        two = math.log(2.0)
        return xp.where(e < two, two + xp.log(-xp.expm1(-e)), e - two)

    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        return -backend.xp.abs(x) - math.log(2.0)

    def standard_slope(self, backend: Backend, x: Array) -> Array:
        return -backend.xp.sign(x)

    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        return backend.xp.zeros_like(x)

    def standard_moment(self, order: int) -> float:
        return 0.0 if order % 2 else float(math.factorial(order))
