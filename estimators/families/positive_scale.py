"""Families of positive numbers with a scale alone, z = σ ε with ε ≥ 0: Rayleigh, and halves of symmetric distributions.

A subclass provides what `Standard` lists, the moments of ε and its tail. The other methods follow from x = z/σ.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, OptionPerBlock
from gradmeter.estimators.families.standard import Standard
from gradmeter.estimators.families.support_and_tails import SupportAndTails, Tail
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class PositiveScale(Standard):
    """The base of families of z ≥ 0 with a scale. Parameter: `log_scale` [D], unconstrained, log σ."""

    blocks: ClassVar[tuple[str, ...]] = ("log_scale",)

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        """Return e, so that exp(−e) is the probability above z."""
        return {"base": Noise("exponential", (*sample_shape, dimension))}

    @abstractmethod
    def standard_moment(self, order: int) -> float:
        """Return E εⁿ; raise NotApplicable if it does not exist."""

    @abstractmethod
    def tail(self, inverse: Array) -> Tail:
        """Return the upper tail, given 1/σ [D]."""

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        return backend.xp.exp(parameters["log_scale"]) * self.standard(backend, noise)

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        x = z * backend.xp.exp(-parameters["log_scale"])
        return self.standard_log_density(backend, x) - parameters["log_scale"]

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        inverse = backend.xp.exp(-parameters["log_scale"])
        return self.standard_slope(backend, z * inverse) * inverse

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        inverse = backend.xp.exp(-parameters["log_scale"])
        return self.standard_curvature(backend, z * inverse) * inverse * inverse * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return −1 − x g'(x)."""
        x = z * backend.xp.exp(-parameters["log_scale"])
        return {"log_scale": -1.0 - x * self.standard_slope(backend, x)}

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
        scale = np.exp(parameters["log_scale"])
        return SupportAndTails(np.zeros_like(scale), scale, scale + np.inf, scale, above=self.tail(1.0 / scale))

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return σⁿ E εⁿ, whose ∂log_scale is n times itself."""
        moment = self.standard_moment(order) * np.exp(order * parameters["log_scale"])
        return moment, {"log_scale": order * moment}


@dataclass(frozen=True)
class ScaleConfig(OptionPerBlock):
    """The option of families whose σ is called their scale."""

    scale: Values = option(1.0, "scale of every coordinate", above=0.0, per="coordinate")
