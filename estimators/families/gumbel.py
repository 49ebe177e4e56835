"""The Gumbel distribution (of maxima): CDF exp(−exp(−(z − loc)/σ)), coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Family
from gradmeter.estimators.families.location_scale import LocationScale, LocationScalePoint, moments_from_cumulants
from gradmeter.estimators.families.support_and_tails import BOUNDED, Tail
from gradmeter.estimators.noise import Noise


@dataclass(frozen=True)
class Gumbel(LocationScale):
    """The Gumbel family. Parameters: `loc` [D], the mode, and `log_scale` [D].

    The mean is loc + γσ, the standard deviation σ π/√6.
    """

    name: ClassVar[str] = "gumbel"
    summary: ClassVar[str] = "Gumbel distribution (of maxima) by its inverse CDF; parameters loc (the mode), log_scale"

    @dataclass(frozen=True)
    class Config(LocationScalePoint):
        @property
        def family(self) -> Family:
            return Gumbel()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("exponential", (*sample_shape, dimension))}

    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        """Return −log(−log u) with u = exp(−e)."""
        return -backend.xp.log(noise["base"])

    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        return -x - backend.xp.exp(-x)

    def standard_slope(self, backend: Backend, x: Array) -> Array:
        return backend.xp.expm1(-x)

    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        return -backend.xp.exp(-x)

    def tails(self, inverse: Array) -> tuple[Tail, Tail]:
        return BOUNDED, Tail(1.0, inverse)

    def standard_moment(self, order: int) -> float:
        """Return the moment from the cumulants, which are γ and (n − 1)! ζ(n)."""
        from scipy.special import zeta  # slow to import

        cumulants = [float(np.euler_gamma)] + [math.factorial(n - 1) * float(zeta(n)) for n in range(2, order + 1)]
        return moments_from_cumulants(cumulants[:order])[order]
