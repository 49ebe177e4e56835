"""The half-Normal distribution: z = σ |ε| with standard normal ε, coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family
from gradmeter.estimators.families.positive_scale import PositiveScale, ScaleConfig
from gradmeter.estimators.families.support_and_tails import Tail
from gradmeter.estimators.noise import Noise


@dataclass(frozen=True)
class HalfNormal(PositiveScale):
    """The half-Normal family. Parameter: `log_scale` [D], unconstrained; σ² = E z²."""

    name: ClassVar[str] = "half-normal"
    summary: ClassVar[str] = "absolute value of a centred Normal, by its inverse CDF; parameter log_scale"

    @dataclass(frozen=True)
    class Config(ScaleConfig):
        @property
        def family(self) -> Family:
            return HalfNormal()

    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        """Return −Φ⁻¹(½ exp(−e))."""
        return -backend.special.ndtri(0.5 * backend.xp.exp(-noise["base"]))

    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        return -0.5 * x * x + 0.5 * math.log(2.0 / math.pi)

    def standard_slope(self, backend: Backend, x: Array) -> Array:
        return -x

    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        return -backend.xp.ones_like(x)

    def standard_moment(self, order: int) -> float:
        return 2.0 ** (0.5 * order) * math.gamma(0.5 * (order + 1)) / math.sqrt(math.pi)

    def tail(self, inverse: Array) -> Tail:
        return Tail(2.0, 0.5 * inverse * inverse)

    def dispersed(self, backend: Backend, parameters: Blocks, dispersion: float) -> Blocks:
        """Multiply σ² by the dispersion."""
        return {"log_scale": parameters["log_scale"] + 0.5 * math.log(dispersion)}

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        shape = (*sample_shape, dimension)
        second = Noise("uniform", shape) if coupling else Noise("normal", shape)
        return {"log_scale": {"maxwell": Noise("maxwell", shape), "shrunk" if coupling else "negative": second}}

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return c = 1, with σ m as the positive part, m of Maxwell's distribution, and q as the negative part.

        ∂q/∂log σ = (x² − 1) q. Coupled, the draw from q is u σ m with uniform u.
        """
        xp, scale = backend.xp, backend.xp.exp(parameters["log_scale"])
        positive = scale * xp.abs(noise["maxwell"])
        negative = positive * noise["shrunk"] if coupling else scale * xp.abs(noise["negative"])
        return {"log_scale": (xp.ones_like(scale), positive, negative)}

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        """Return the corners of |m| and |ε|, in noise of weak derivatives."""
        return {"maxwell": np.zeros((1, 1)), "negative": np.zeros((1, 1))}
