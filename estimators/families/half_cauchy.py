"""The half-Cauchy distribution: density 2/(π σ (1 + (z/σ)²)) on z ≥ 0, coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.families.cauchy import Cauchy
from gradmeter.estimators.families.family import Array, Family
from gradmeter.estimators.families.positive_scale import PositiveScale, ScaleConfig
from gradmeter.estimators.families.support_and_tails import HEAVY, Tail

#: The distribution of ε.
STANDARD = Cauchy()


@dataclass(frozen=True)
class HalfCauchy(PositiveScale):
    """The half-Cauchy family. Parameter: `log_scale` [D], unconstrained; σ is the median. It has no moments."""

    name: ClassVar[str] = "half-cauchy"
    summary: ClassVar[str] = "absolute value of a centred Cauchy number, by its inverse CDF; parameter log_scale"

    @dataclass(frozen=True)
    class Config(ScaleConfig):
        @property
        def family(self) -> Family:
            return HalfCauchy()

    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        """Return 1/tan(½π exp(−e)) = tan(½π (1 − exp(−e))), from the nearer of 0 and 1."""
        xp, e = backend.xp, noise["base"]
        low = e < math.log(2.0)
        tangent = xp.tan(0.5 * math.pi * xp.where(low, -xp.expm1(-e), xp.exp(-e)))
        return xp.where(low, tangent, 1.0 / tangent)

    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        return STANDARD.standard_log_density(backend, x) + math.log(2.0)

    def standard_slope(self, backend: Backend, x: Array) -> Array:
        return STANDARD.standard_slope(backend, x)

    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        return STANDARD.standard_curvature(backend, x)

    def standard_moment(self, order: int) -> float:
        if order > 0:
            raise NotApplicable(f"family half-cauchy has no moments: E z^{order} diverges")
        return 1.0

    def tail(self, inverse: Array) -> Tail:
        return HEAVY
