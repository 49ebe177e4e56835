"""The Weibull distribution: survival exp(−(z/scale)^shape) on z ≥ 0, coordinates independent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family, OptionPerBlock
from gradmeter.estimators.families.log_location_scale import LogLocationScale
from gradmeter.estimators.families.support_and_tails import SupportAndTails, Tail
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class Weibull(LogLocationScale):
    """The Weibull family. Parameters: `log_scale` [D] and `log_shape` [D], both unconstrained."""

    name: ClassVar[str] = "weibull"
    summary: ClassVar[str] = "Weibull distribution by its inverse CDF; parameters log_scale, log_shape"
    blocks: ClassVar[tuple[str, ...]] = ("log_scale", "log_shape")
    inverted: ClassVar[bool] = True
    mean: ClassVar[float] = -float(np.euler_gamma)

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        scale: Values = option(1.0, "scale of every coordinate", above=0.0, per="coordinate")
        shape: Values = option(
            1.5, "shape k of every coordinate; 1 is the exponential, 2 the Rayleigh", above=0.0, per="coordinate"
        )

        @property
        def family(self) -> Family:
            return Weibull()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("exponential", (*sample_shape, dimension))}

    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        """Return log e, so that z = scale (−log(1 − u))^(1/shape)."""
        return backend.xp.log(noise["base"])

    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        return x - backend.xp.exp(x)

    def standard_slope(self, backend: Backend, x: Array) -> Array:
        return -backend.xp.expm1(x)

    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        return -backend.xp.exp(x)

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        middle, shapes = np.exp(parameters["log_scale"]), np.exp(parameters["log_shape"])
        shape = float(shapes.min())  # the heaviest tail decides which expectations exist
        tail = Tail(shape, np.where(shapes == shape, middle**-shape, np.inf))
        return SupportAndTails(np.zeros_like(middle), middle, middle + np.inf, middle, above=tail)

    def generating_function(self, t: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
        """Return E exp(tε) = Γ(1 + t), with its derivative."""
        from scipy.special import digamma, gamma  # slow to import

        value = gamma(1.0 + t)
        return value, value * digamma(1.0 + t)
