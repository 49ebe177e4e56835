"""Location-scale families: z = loc + σ ε, for any standard distribution of ε.

A subclass provides what `Standard` lists, and the moments of ε. The other methods follow from x = (z − loc)/σ and are
implemented here.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, OptionPerBlock
from gradmeter.estimators.families.standard import Standard
from gradmeter.estimators.families.support_and_tails import SupportAndTails, Tail
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class LocationScale(Standard):
    """The base of location-scale families.

    Parameters: `loc` [D] and `log_scale` [D], both unconstrained; σ = exp(log_scale).
    """

    blocks: ClassVar[tuple[str, ...]] = ("loc", "log_scale")

    @abstractmethod
    def standard_moment(self, order: int) -> float:
        """Return E εⁿ; raise NotApplicable if it does not exist."""

    def tails(self, inverse: Array) -> tuple[Tail, Tail]:
        """Return the lower and the upper tail, given 1/σ [D]; by default exponential tails on the whole line."""
        return Tail(1.0, inverse), Tail(1.0, inverse)

    def _x(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Array, Array]:
        """Return x and 1/σ."""
        inverse = backend.xp.exp(-parameters["log_scale"])
        return (z - parameters["loc"]) * inverse, inverse

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = loc + σ ε."""
        return parameters["loc"] + backend.xp.exp(parameters["log_scale"]) * self.standard(backend, noise)

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        x, _ = self._x(backend, parameters, z)
        return self.standard_log_density(backend, x) - parameters["log_scale"]

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        x, inverse = self._x(backend, parameters, z)
        return self.standard_slope(backend, x) * inverse

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        x, inverse = self._x(backend, parameters, z)
        return self.standard_curvature(backend, x) * inverse * inverse * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return −g'(x)/σ and −1 − x g'(x)."""
        x, inverse = self._x(backend, parameters, z)
        slope = self.standard_slope(backend, x)
        return {"loc": -slope * inverse, "log_scale": -1.0 - x * slope}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives from ∂z/∂loc = 1 and ∂z/∂log_scale = σ ε = z − loc."""
        return {"loc": cotangent, "log_scale": cotangent * (z - parameters["loc"])}

    def entropy_pathwise(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """Return 1 for every noise, since −log q(t(ε, λ)) = log σ − g(ε)."""
        return {"log_scale": 1.0}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of Σ log σ + const, which is 0 and 1."""
        xp = backend.xp
        return {"loc": xp.zeros_like(parameters["loc"]), "log_scale": xp.ones_like(parameters["log_scale"])}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        loc, scale = parameters["loc"], np.exp(parameters["log_scale"])
        return SupportAndTails(loc - np.inf, loc, loc + np.inf, scale, *self.tails(1.0 / scale))

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return Σ_k C(n, k) locⁿ⁻ᵏ σᵏ E εᵏ; ∂log σ multiplies every term by k."""
        loc, scale = parameters["loc"], np.exp(parameters["log_scale"])
        zero = np.zeros_like(loc)
        standard = [self.standard_moment(k) for k in range(order, -1, -1)][::-1]  # highest first: it may not exist
        terms = [math.comb(order, k) * loc ** (order - k) * scale**k * standard[k] for k in range(order + 1)]
        lower = [
            math.comb(order - 1, k) * loc ** (order - 1 - k) * scale**k * standard[k] for k in range(max(order, 0))
        ]
        gradient = {"loc": order * sum(lower, zero), "log_scale": sum((k * t for k, t in enumerate(terms)), zero)}
        return sum(terms, zero), gradient


@dataclass(frozen=True)
class LocationScalePoint(OptionPerBlock):
    """The options that most location-scale families share."""

    loc: Values = option(0.0, "location of every coordinate", per="coordinate")
    scale: Values = option(1.0, "scale of every coordinate", above=0.0, per="coordinate")


def moments_from_cumulants(cumulants: list[float]) -> list[float]:
    """Return E xⁿ for n = 0, 1, ... from κ₁, κ₂, ...: mₙ = Σ_k C(n − 1, k − 1) κ_k mₙ₋ₖ."""
    moments = [1.0]
    for n in range(1, len(cumulants) + 1):
        moments.append(sum(math.comb(n - 1, k - 1) * cumulants[k - 1] * moments[n - k] for k in range(1, n + 1)))
    return moments
