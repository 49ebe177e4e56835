"""The Rayleigh distribution: density z/σ² exp(−z²/(2σ²)) on z ≥ 0, coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family, OptionPerBlock
from gradmeter.estimators.families.positive_scale import PositiveScale
from gradmeter.estimators.families.support_and_tails import Tail
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class Rayleigh(PositiveScale):
    """The Rayleigh family. Parameter: `log_scale` [D], unconstrained; σ = exp(log_scale) is the mode."""

    name: ClassVar[str] = "rayleigh"
    summary: ClassVar[str] = "Rayleigh distribution by its inverse CDF; parameter log_scale (of the mode)"

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        scale: Values = option(1.0, "mode of every coordinate", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return Rayleigh()

    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        """Return √(−2 log(1 − u)) = √(2 e)."""
        return backend.xp.sqrt(2.0 * noise["base"])

    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        return backend.xp.log(x) - 0.5 * x * x

    def standard_slope(self, backend: Backend, x: Array) -> Array:
        return 1.0 / x - x

    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        return -1.0 / (x * x) - 1.0

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return −1 − x g'(x) = x² − 2, also at x = 0, where g' is infinite."""
        x = z * backend.xp.exp(-parameters["log_scale"])
        return {"log_scale": x * x - 2.0}

    def standard_moment(self, order: int) -> float:
        return 2.0 ** (0.5 * order) * math.gamma(1.0 + 0.5 * order)

    def tail(self, inverse: Array) -> Tail:
        return Tail(2.0, 0.5 * inverse * inverse)
