"""The exponential distribution: density rate exp(−rate z) on z ≥ 0, coordinates independent."""

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
class Exponential(MeanField):
    """The exponential family of waiting times. Parameter: `log_rate` [D], unconstrained; rate = exp(log_rate)."""

    name: ClassVar[str] = "exponential"
    summary: ClassVar[str] = "exponential distribution by its inverse CDF; parameter log_rate"
    blocks: ClassVar[tuple[str, ...]] = ("log_rate",)

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        rate: Values = option(1.0, "rate of every coordinate, one over its mean", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return Exponential()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("exponential", (*sample_shape, dimension))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = −log(1 − u)/rate."""
        return noise["base"] * backend.xp.exp(-parameters["log_rate"])

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        return parameters["log_rate"] - backend.xp.exp(parameters["log_rate"]) * z

    def dispersed(self, backend: Backend, parameters: Blocks, dispersion: float) -> Blocks:
        """Divide the rate by the dispersion."""
        return {"log_rate": parameters["log_rate"] - math.log(dispersion)}

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        return backend.xp.zeros_like(z) - backend.xp.exp(parameters["log_rate"])

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        return backend.xp.zeros_like(vector)

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return 1 − rate z."""
        return {"log_rate": 1.0 - backend.xp.exp(parameters["log_rate"]) * z}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivative from ∂z/∂log_rate = −z."""
        return {"log_rate": -cotangent * z}

    def entropy_pathwise(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """Return −1 for every noise, because log |∂t/∂ε| = −Σ log_rate."""
        return {"log_rate": -1.0}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of Σ (1 − log_rate), which is −1."""
        return {"log_rate": -backend.xp.ones_like(parameters["log_rate"])}

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        names = ("first", "second") if coupling else ("positive", "first", "second")
        return {"log_rate": {name: Noise("exponential", (*sample_shape, dimension)) for name in names}}

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return c = 1, with q as the positive part and the Erlang distribution of two events as the negative part.

        Coupled, the time of the first event is the draw from q. Source: Mohamed et al. 2020, table 1; here for log
        rate.
        """
        mean = backend.xp.exp(-parameters["log_rate"])
        positive = noise["first"] if coupling else noise["positive"]
        negative = noise["first"] + noise["second"]
        return {"log_rate": (backend.xp.ones_like(mean), mean * positive, mean * negative)}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        rate = np.exp(parameters["log_rate"])
        middle = 1.0 / rate
        return SupportAndTails(np.zeros_like(middle), middle, middle + np.inf, middle, above=Tail(1.0, rate))

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return n!/rateⁿ, whose ∂log_rate is −n times itself."""
        moment = math.factorial(order) * np.exp(-order * parameters["log_rate"])
        return moment, {"log_rate": -order * moment}
