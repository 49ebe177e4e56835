"""The log-logistic distribution: CDF 1/(1 + (z/scale)^(−shape)) on z ≥ 0, coordinates independent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.families.family import Array, Blocks, Family, OptionPerBlock
from gradmeter.estimators.families.log_location_scale import LogLocationScale
from gradmeter.estimators.families.logistic import Logistic
from gradmeter.estimators.families.support_and_tails import HEAVY, SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

#: The distribution of ε.
STANDARD = Logistic()


@dataclass(frozen=True)
class LogLogistic(LogLocationScale):
    """The log-logistic family.

    Parameters: `log_scale` [D], the log of the median, and `log_shape` [D], both unconstrained.
    """

    name: ClassVar[str] = "log-logistic"
    summary: ClassVar[str] = "exponential of a logistic number, by its inverse CDF; parameters log_scale, log_shape"
    blocks: ClassVar[tuple[str, ...]] = ("log_scale", "log_shape")
    inverted: ClassVar[bool] = True
    mean: ClassVar[float] = 0.0

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        scale: Values = option(1.0, "median of every coordinate", above=0.0, per="coordinate")
        shape: Values = option(5.0, "tail exponent of every coordinate", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return LogLogistic()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return STANDARD.noise(sample_shape, dimension)

    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        """Return log u/(1 − u), so that z = scale (u/(1 − u))^(1/shape)."""
        return STANDARD.standard(backend, noise)

    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        return STANDARD.standard_log_density(backend, x)

    def standard_slope(self, backend: Backend, x: Array) -> Array:
        return STANDARD.standard_slope(backend, x)

    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        return STANDARD.standard_curvature(backend, x)

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        middle = np.exp(parameters["log_scale"])
        return SupportAndTails(np.zeros_like(middle), middle, middle + np.inf, middle, above=HEAVY)

    def generating_function(self, t: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
        """Return E exp(tε) = πt/sin πt for t = n/shape below 1, with its derivative."""
        if order == 0:
            return np.ones_like(t), np.zeros_like(t)
        if np.any(t >= 1.0 - 1e-12):  # the shape is rounded by exp(log shape)
            shape = float(np.min(order / t))
            raise NotApplicable(
                f"family log-logistic with shape={shape:g} has E z^n for n below {shape:g} only, not {order}"
            )
        x, sine = np.pi * t, np.sin(np.pi * t)
        return x / sine, np.pi * (sine - x * np.cos(x)) / sine**2
