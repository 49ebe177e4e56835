"""The mean-field Normal: z_i ~ N(loc_i, exp(log_scale_i)²), coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from estimators.noise import Noise

Array = Any
Blocks = dict[str, Array]


@dataclass(frozen=True)
class Normal:
    """Parameters: `loc` [D] and `log_scale` [D], both unconstrained; σ = exp(log_scale).

    Samples z are [..., D]; everything "per sample" returned here is [..., D] by parameter block, the
    derivative of coordinate i concerning λ_i alone.
    """

    name: ClassVar[str] = "normal"
    summary: ClassVar[str] = "mean-field Normal; parameters loc, log_scale (σ = exp(log_scale))"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "log_scale")

    def base_noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("normal", (*sample_shape, dimension))}

    def sample(self, xp: Any, parameters: Blocks, base: Array) -> Array:
        """z = loc + σ ε."""
        return parameters["loc"] + xp.exp(parameters["log_scale"]) * base

    def log_density(self, xp: Any, parameters: Blocks, z: Array) -> Array:
        """log q(z) [...]."""
        return xp.sum(self._log_densities(xp, parameters, z), axis=-1)

    def log_density_replaced(self, xp: Any, parameters: Blocks, z: Array, replacement: Array) -> Array:
        """log q of z with coordinate i replaced by replacement_i, for every i [..., D]."""
        terms = self._log_densities(xp, parameters, z)
        return xp.sum(terms, axis=-1, keepdims=True) - terms + self._log_densities(xp, parameters, replacement)

    def _log_densities(self, xp: Any, parameters: Blocks, z: Array) -> Array:
        standard = (z - parameters["loc"]) * xp.exp(-parameters["log_scale"])
        return -0.5 * standard * standard - parameters["log_scale"] - 0.5 * math.log(2.0 * math.pi)

    def log_density_gradient(self, xp: Any, parameters: Blocks, z: Array) -> Array:
        """∇_z log q(z) [..., D]."""
        return (parameters["loc"] - z) * xp.exp(-2.0 * parameters["log_scale"])

    def score(self, xp: Any, parameters: Blocks, z: Array) -> Blocks:
        """∇_λ log q_λ(z) at fixed z: (z − loc)/σ² and ((z − loc)/σ)² − 1."""
        precision = xp.exp(-parameters["log_scale"])
        standard = (z - parameters["loc"]) * precision
        return {"loc": standard * precision, "log_scale": standard * standard - 1.0}

    def pathwise(self, xp: Any, parameters: Blocks, base: Array, cotangent: Array) -> Blocks:
        """cotangent · ∂z/∂λ at fixed noise: ∂z/∂loc = 1, ∂z/∂log_scale = σ ε."""
        return {"loc": cotangent, "log_scale": cotangent * (xp.exp(parameters["log_scale"]) * base)}

    def entropy_gradient(self, xp: Any, parameters: Blocks) -> Blocks:
        """∇_λ of the entropy Σ log σ + const: 0 and 1."""
        return {
            "loc": xp.zeros_like(parameters["loc"]),
            "log_scale": xp.ones_like(parameters["log_scale"]),
        }

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        """The noise of the weak derivatives, by parameter block."""
        shape = (*sample_shape, dimension)
        if coupling:
            return {
                "loc": {"rayleigh": Noise("rayleigh", shape)},
                "log_scale": {"maxwell": Noise("maxwell", shape), "uniform": Noise("uniform", shape)},
            }
        return {
            "loc": {"rayleigh": Noise("rayleigh", shape), "rayleigh_negative": Noise("rayleigh", shape)},
            "log_scale": {"maxwell": Noise("maxwell", shape), "normal_negative": Noise("normal", shape)},
        }

    def weak_derivatives(
        self, xp: Any, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """∂q/∂λ_i = c (q⁺ − q⁻): the constant c [D], and draws from q⁺ and q⁻ [..., D].

        loc: c = 1/(σ√(2π)), loc ± σW with W Rayleigh; coupled, both use one W.
        log_scale: c = 1, loc + σM with M double-sided Maxwell against the Normal itself; coupled, the
        Normal is loc + σMU with U uniform (Mohamed et al. 2020, section 6 and table 1; here for log σ).
        """
        loc, scale = parameters["loc"], xp.exp(parameters["log_scale"])
        wide = noise["maxwell"]
        if coupling:
            down, narrow = noise["rayleigh"], wide * noise["uniform"]
        else:
            down, narrow = noise["rayleigh_negative"], noise["normal_negative"]
        constant = 1.0 / (scale * math.sqrt(2.0 * math.pi))
        return {
            "loc": (constant, loc + scale * noise["rayleigh"], loc - scale * down),
            "log_scale": (xp.ones_like(loc), loc + scale * wide, loc + scale * narrow),
        }
