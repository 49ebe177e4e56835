"""The Gompertz distribution: survival exp(−η(exp(bz) − 1)) on z ≥ 0, coordinates independent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family, MeanField, OptionPerBlock
from gradmeter.estimators.families.support_and_tails import BOUNDED, SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class Gompertz(MeanField):
    """The Gompertz family, with hazard bη exp(bz). Parameters: `log_shape` [D] (log η) and `log_rate` [D] (log b)."""

    name: ClassVar[str] = "gompertz"
    summary: ClassVar[str] = "Gompertz distribution by its inverse CDF; parameters log_shape, log_rate"
    blocks: ClassVar[tuple[str, ...]] = ("log_shape", "log_rate")
    unsupported: ClassVar[dict[str, str]] = {
        "entropy_gradient": "it needs the exponential integral E₁, which PyTorch has not got",
    }
    moment_source: ClassVar[str] = "quadrature"

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        shape: Values = option(1.0, "shape η of every coordinate", above=0.0, per="coordinate")
        rate: Values = option(1.0, "rate b of every coordinate: how fast the hazard grows", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return Gompertz()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("exponential", (*sample_shape, dimension))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = log(1 − log(1 − u)/η)/b."""
        xp = backend.xp
        return xp.log1p(noise["base"] * xp.exp(-parameters["log_shape"])) * xp.exp(-parameters["log_rate"])

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp = backend.xp
        y, shape = z * xp.exp(parameters["log_rate"]), xp.exp(parameters["log_shape"])
        return parameters["log_rate"] + parameters["log_shape"] + y - shape * xp.expm1(y)

    def _hazard(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Array, Array]:
        """Return b, and η exp(bz)."""
        xp = backend.xp
        rate = xp.exp(parameters["log_rate"])
        return rate, xp.exp(parameters["log_shape"] + rate * z)

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        rate, grown = self._hazard(backend, parameters, z)
        return rate * (1.0 - grown)

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        rate, grown = self._hazard(backend, parameters, z)
        return -rate * rate * grown * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return 1 − η(eʸ − 1) and 1 + y(1 − η eʸ), with y = bz."""
        xp = backend.xp
        rate, grown = self._hazard(backend, parameters, z)
        y = rate * z
        return {
            "log_shape": 1.0 - xp.exp(parameters["log_shape"]) * xp.expm1(y),
            "log_rate": 1.0 + y * (1.0 - grown),
        }

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives from ∂z/∂log_shape = −(1 − exp(−bz))/b and ∂z/∂log_rate = −z."""
        xp = backend.xp
        rate = xp.exp(parameters["log_rate"])
        return {"log_shape": cotangent * xp.expm1(-rate * z) / rate, "log_rate": -cotangent * z}

    def entropy_pathwise(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """Return −η/(η + e) = −exp(−bz) and −1, since −log q(t(e, λ)) = e − log b − log(η + e)."""
        return {"log_shape": -backend.xp.exp(-backend.xp.exp(parameters["log_rate"]) * z), "log_rate": -1.0}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        rate = np.exp(parameters["log_rate"])
        middle = np.log1p(np.exp(-parameters["log_shape"])) / rate
        return SupportAndTails(np.zeros_like(middle), middle, middle + np.inf, middle, above=BOUNDED)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return the moments E log(1 + e/η)ⁿ/bⁿ by double-exponential quadrature, which converges to rounding.

        The closed form is n! eᵑ/bⁿ times a generalised exponential integral (Lenart 2014).
        """
        t = np.linspace(-4.5, 4.5, 241)
        e = np.exp(t - np.exp(-t))
        weights = np.exp(-e) * e * (1.0 + np.exp(-t)) * (9.0 / 240.0)
        ratio = e * np.exp(-parameters["log_shape"])[:, None]
        y = np.log1p(ratio)
        scale = np.exp(-order * parameters["log_rate"])
        moment = scale * (y**order @ weights)
        slope = -ratio / (1.0 + ratio) * (order * y ** (order - 1) if order > 0 else 0.0)
        return moment, {"log_shape": scale * (slope @ weights), "log_rate": -order * moment}
