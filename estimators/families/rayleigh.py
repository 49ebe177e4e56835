"""The Rayleigh distribution: density z/σ² exp(−z²/(2σ²)) on z ≥ 0, coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family, MeanField, OptionPerBlock
from gradmeter.estimators.families.support_and_tails import SupportAndTails, Tail
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class Rayleigh(MeanField):
    """The Rayleigh family. Parameter: `log_scale` [D], unconstrained; σ = exp(log_scale) is the mode."""

    name: ClassVar[str] = "rayleigh"
    summary: ClassVar[str] = "Rayleigh distribution by its inverse CDF; parameter log_scale (of the mode)"
    blocks: ClassVar[tuple[str, ...]] = ("log_scale",)

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        scale: Values = option(1.0, "mode of every coordinate", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return Rayleigh()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("exponential", (*sample_shape, dimension))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = σ √(−2 log(1 − u))."""
        return backend.xp.exp(parameters["log_scale"]) * backend.xp.sqrt(2.0 * noise["base"])

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        x = z * backend.xp.exp(-parameters["log_scale"])
        return backend.xp.log(x) - 0.5 * x * x - parameters["log_scale"]

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        return 1.0 / z - z * backend.xp.exp(-2.0 * parameters["log_scale"])

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        return -(1.0 / (z * z) + backend.xp.exp(-2.0 * parameters["log_scale"])) * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return (z/σ)² − 2."""
        x = z * backend.xp.exp(-parameters["log_scale"])
        return {"log_scale": x * x - 2.0}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivative from ∂z/∂log_scale = z."""
        return {"log_scale": cotangent * z}

    def entropy_pathwise(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """Return 1 for every noise, because z is σ times noise."""
        return {"log_scale": 1.0}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of Σ log σ + const, which is 1."""
        return {"log_scale": backend.xp.ones_like(parameters["log_scale"])}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        middle = np.exp(parameters["log_scale"])
        return SupportAndTails(np.zeros_like(middle), middle, middle + np.inf, middle, above=Tail(2.0, 0.5 / middle**2))

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return (√2 σ)ⁿ Γ(1 + n/2), whose ∂log_scale is n times itself."""
        moment = np.exp(order * parameters["log_scale"]) * 2.0 ** (0.5 * order) * math.gamma(1.0 + 0.5 * order)
        return moment, {"log_scale": order * moment}
