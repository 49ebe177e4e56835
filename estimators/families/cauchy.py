"""The Cauchy distribution: density 1/(πσ(1 + x²)) with x = (z − loc)/σ, coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.families.family import Array, Family
from gradmeter.estimators.families.location_scale import LocationScale, LocationScalePoint
from gradmeter.estimators.families.support_and_tails import HEAVY, Tail
from gradmeter.estimators.noise import Noise


@dataclass(frozen=True)
class Cauchy(LocationScale):
    """The Cauchy family. Parameters: `loc` [D] (the median) and `log_scale` [D] (σ is half the interquartile range).

    It has no moments.
    """

    name: ClassVar[str] = "cauchy"
    summary: ClassVar[str] = "Cauchy distribution by its inverse CDF, without moments; parameters loc, log_scale"

    @dataclass(frozen=True)
    class Config(LocationScalePoint):
        @property
        def family(self) -> Family:
            return Cauchy()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        # Exponential instead of uniform noise, because u = 0 could be drawn, which gives an infinite z.
        return {"base": Noise("exponential", (*sample_shape, dimension))}

    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        """Return tan π(u − ½) with 1 − u = exp(−e), from the nearer of 0 and 1: −1/tan πu or 1/tan π(1 − u)."""
        xp, e = backend.xp, noise["base"]
        low = e < math.log(2.0)
        cotangent = 1.0 / xp.tan(math.pi * xp.where(low, -xp.expm1(-e), xp.exp(-e)))
        return xp.where(low, -cotangent, cotangent)

    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        return -backend.xp.log1p(x * x) - math.log(math.pi)

    def standard_slope(self, backend: Backend, x: Array) -> Array:
        return -2.0 * x / (1.0 + x * x)

    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        # 2 (x² − 1)/(1 + x²)², whose numerator would overflow in float32 if computed directly.
        part = 1.0 / (1.0 + x * x)
        return 2.0 * part - 4.0 * part * part

    def tails(self, inverse: Array) -> tuple[Tail, Tail]:
        return HEAVY, HEAVY

    def standard_moment(self, order: int) -> float:
        if order > 0:
            raise NotApplicable(f"family cauchy has no moments: E |z|^{order} diverges")
        return 1.0
