"""The mean-field Normal: z_i ~ N(loc_i, exp(log_scale_i)²), coordinates independent."""

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
class Normal(MeanField):
    """The mean-field Normal family.

    Parameters: `loc` [D] and `log_scale` [D], both unconstrained; σ = exp(log_scale).
    """

    name: ClassVar[str] = "normal"
    summary: ClassVar[str] = "mean-field Normal; parameters loc, log_scale (σ = exp(log_scale))"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "log_scale")

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        loc: Values = option(0.0, "mean of every coordinate", per="coordinate")
        scale: Values = option(1.0, "σ of every coordinate", above=0.0, per="coordinate")

        @property
        def family(self) -> Family:
            return Normal()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("normal", (*sample_shape, dimension))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = loc + σ ε."""
        return parameters["loc"] + backend.xp.exp(parameters["log_scale"]) * noise["base"]

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        standard = (z - parameters["loc"]) * backend.xp.exp(-parameters["log_scale"])
        return -0.5 * standard * standard - parameters["log_scale"] - 0.5 * math.log(2.0 * math.pi)

    def dispersed(self, backend: Backend, parameters: Blocks, dispersion: float) -> Blocks:
        return {**parameters, "log_scale": parameters["log_scale"] + 0.5 * math.log(dispersion)}

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        return (parameters["loc"] - z) * backend.xp.exp(-2.0 * parameters["log_scale"])

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        return -vector * backend.xp.exp(-2.0 * parameters["log_scale"])

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return (z − loc)/σ² and ((z − loc)/σ)² − 1."""
        precision = backend.xp.exp(-parameters["log_scale"])
        standard = (z - parameters["loc"]) * precision
        return {"loc": standard * precision, "log_scale": standard * standard - 1.0}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives from ∂z/∂loc = 1 and ∂z/∂log_scale = σ ε."""
        moved = backend.xp.exp(parameters["log_scale"]) * noise["base"]
        return {"loc": cotangent, "log_scale": cotangent * moved}

    def bonnet_price(self, backend: Backend, parameters: Blocks, slope: Array, hessian: Array) -> Blocks:
        """Return E ∇f for loc and σ_i² E ∂²f/∂z_i² for log σ_i."""
        return {"loc": slope, "log_scale": diagonal(backend, hessian) * backend.xp.exp(2.0 * parameters["log_scale"])}

    def entropy_pathwise(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """Return 1 for every noise, because log |∂t/∂ε| = Σ log σ."""
        return {"log_scale": 1.0}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of Σ log σ + const, which is 0 and 1."""
        xp = backend.xp
        return {"loc": xp.zeros_like(parameters["loc"]), "log_scale": xp.ones_like(parameters["log_scale"])}

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
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
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return the weak derivatives by block (Mohamed et al. 2020, section 6 and table 1; here for log σ).

        loc: c = 1/(σ√(2π)), loc ± σW with W Rayleigh; coupled, both use one W.

        log_scale: c = 1, loc + σM with M double-sided Maxwell as the positive part and the Normal itself as the
        negative part; coupled, the Normal is loc + σMU with U uniform.
        """
        xp = backend.xp
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

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        loc, scale = parameters["loc"], np.exp(parameters["log_scale"])
        tail = Tail(2.0, 0.5 / scale**2)
        return SupportAndTails(loc - np.inf, loc, loc + np.inf, scale, tail, tail)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return the moments, with ∂loc = n E zⁿ⁻¹ and ∂log σ = σ² n (n − 1) E zⁿ⁻² (Bonnet, Price)."""
        loc, scale = parameters["loc"], np.exp(parameters["log_scale"])
        value, slope, curvature = normal_power_moment(loc, scale, order)
        return value, {"loc": slope, "log_scale": scale**2 * curvature}


def normal_power_moment(loc: Array, scale: Array, order: int) -> tuple[Array, Array, Array]:
    """Return E zⁿ under N(loc, scale²), and its first and second derivative with respect to loc.

    E zⁿ = Σ_k C(n, 2k) (2k − 1)!! σ²ᵏ locⁿ⁻²ᵏ.

    Parameters
    ----------
    loc
        [D].
    scale
        σ [D].
    order
        n, a whole number.
    """

    def moment(n: int) -> Array:
        odd = [math.prod(range(2 * k - 1, 0, -2)) for k in range(n // 2 + 1)]
        return sum(math.comb(n, 2 * k) * odd[k] * scale ** (2 * k) * loc ** (n - 2 * k) for k in range(n // 2 + 1))

    zero = np.zeros_like(loc)
    first = order * moment(order - 1) if order > 0 else zero
    second = order * (order - 1) * moment(order - 2) if order > 1 else zero
    return moment(order) + zero, first + zero, second + zero


def diagonal(backend: Backend, matrix: Array) -> Array:
    """Return the diagonals of matrices [..., D, D]."""
    xp, dimension = backend.xp, matrix.shape[-1]
    flat = xp.reshape(matrix, (*matrix.shape[:-2], dimension * dimension))
    return xp.take(flat, backend.asarray(range(0, dimension * dimension, dimension + 1), None), axis=-1)
