"""The Pareto distribution: survival (scale/z)^shape on z ≥ scale, coordinates independent.

Densities and their derivatives are valid inside the support only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.families.family import Array, Blocks, Family, OptionPerBlock
from gradmeter.estimators.families.log_location_scale import LogLocationScale
from gradmeter.estimators.families.support_and_tails import HEAVY, SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class Pareto(LogLocationScale):
    """The Pareto family.

    Parameters: `log_scale` [D], the log of the lower end, and `log_shape` [D], the log of the tail exponent. E zⁿ
    exists for n below the shape.
    """

    name: ClassVar[str] = "pareto"
    summary: ClassVar[str] = "Pareto distribution by its inverse CDF; parameters log_scale (the lower end), log_shape"
    blocks: ClassVar[tuple[str, ...]] = ("log_scale", "log_shape")
    inverted: ClassVar[bool] = True
    mean: ClassVar[float] = 1.0
    unsupported: ClassVar[dict[str, str]] = {
        "score_identity": "its support depends on λ and its density is not 0 at the lower end, so E[∇_λ log q] = shape",
    }

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        scale: Values = option(1.0, "lower end of every coordinate", above=0.0, per="coordinate")
        shape: Values = option(5.0, "tail exponent of every coordinate", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return Pareto()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("exponential", (*sample_shape, dimension))}

    def standard(self, backend: Backend, noise: dict[str, Array]) -> Array:
        """Return −log(1 − u), so that z = scale (1 − u)^(−1/shape)."""
        return noise["base"]

    def standard_log_density(self, backend: Backend, x: Array) -> Array:
        return -x

    def standard_slope(self, backend: Backend, x: Array) -> Array:
        return -backend.xp.ones_like(x)

    def standard_curvature(self, backend: Backend, x: Array) -> Array:
        return backend.xp.zeros_like(x)

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        low, shape = np.exp(parameters["log_scale"]), np.exp(parameters["log_shape"])
        middle = low * 2.0 ** (1.0 / shape)
        moving = {"log_scale": (low, 0.0 * low)}
        return SupportAndTails(low, middle, low + np.inf, middle - low, above=HEAVY, moving=moving)

    def generating_function(self, t: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
        """Return E exp(te) = 1/(1 − t) for t = n/shape below 1, with its derivative."""
        if order > 0 and np.any(t >= 1.0 - 1e-12):  # the shape is rounded by exp(log shape)
            shape = float(np.min(order / t))
            raise NotApplicable(f"family pareto with shape={shape:g} has E z^n for n below {shape:g} only, not {order}")
        return 1.0 / (1.0 - t), 1.0 / (1.0 - t) ** 2
