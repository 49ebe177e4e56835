"""Student's t: z_i = loc_i + σ_i T with df_i degrees of freedom, coordinates independent.

T comes from the polar method (Bailey 1994) without its rejection: T = √(ν(U^(−2/ν) − 1)) cos 2πV for independent
uniforms U and V, which is exact for any real ν and differentiable in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig, MeanField
from gradmeter.estimators.families.gamma_path import digamma_step, trigamma
from gradmeter.estimators.families.support_and_tails import HEAVY, SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class StudentT(MeanField):
    """The Student-t family.

    Parameters: `loc` [D], `log_scale` [D] and `log_df` [D], all unconstrained; ν = exp(log_df) need not be an integer.
    E zⁿ exists for n below ν.
    """

    name: ClassVar[str] = "student-t"
    summary: ClassVar[str] = "Student's t by Bailey's polar method; parameters loc, log_scale, log_df"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "log_scale", "log_df")

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        loc: Values = option(0.0, "location of every coordinate", per="coordinate")
        scale: Values = option(1.0, "scale of every coordinate", above=0.0, per="coordinate")
        df: Values = option(5.0, "degrees of freedom ν of every coordinate", above=0.0, maximum=1e12, per="coordinate")

        @property
        def family(self) -> Family:
            return StudentT()

        def parameters(self, dimension: int) -> Blocks:
            logarithms = {f"log_{name}": self.each(dimension, math.log, name) for name in ("scale", "df")}
            return {"loc": self.each(dimension, float, "loc"), **logarithms}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        shape = (*sample_shape, dimension)
        return {"base": Noise("exponential", shape), "angle": Noise("uniform", shape)}

    def mirrored(self, backend: Backend, noise: dict[str, Array]) -> dict[str, Array]:
        """Reflect T to −T by half a turn of the angle."""
        xp, angle = backend.xp, noise["angle"]
        return {"base": noise["base"], "angle": xp.where(angle < 0.5, angle + 0.5, angle - 0.5)}

    def _path(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Array, Array]:
        """Return T and ∂T/∂log ν, with e = −log U and radius √(ν(exp(2e/ν) − 1))."""
        xp = backend.xp
        df = xp.exp(parameters["log_df"])
        a = 2.0 * noise["base"] / df
        grown = xp.expm1(a)
        radius, turn = xp.sqrt(df * grown), xp.cos(2.0 * math.pi * noise["angle"])
        return radius * turn, 0.5 * df * (grown - a * (1.0 + grown)) / radius * turn

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = loc + σ T."""
        standard, _ = self._path(backend, parameters, noise)
        return parameters["loc"] + backend.xp.exp(parameters["log_scale"]) * standard

    def _x(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Array, Array, Array]:
        """Return x = (z − loc)/σ, 1/σ and ν."""
        xp = backend.xp
        inverse = xp.exp(-parameters["log_scale"])
        return (z - parameters["loc"]) * inverse, inverse, xp.exp(parameters["log_df"])

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp, gammaln = backend.xp, backend.special.gammaln
        x, _, df = self._x(backend, parameters, z)
        constant = gammaln(0.5 * (df + 1.0)) - gammaln(0.5 * df) - 0.5 * (parameters["log_df"] + math.log(math.pi))
        return constant - parameters["log_scale"] - 0.5 * (df + 1.0) * xp.log1p(x * x / df)

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        x, inverse, df = self._x(backend, parameters, z)
        return -(df + 1.0) * x / (df + x * x) * inverse

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        x, inverse, df = self._x(backend, parameters, z)
        part = 1.0 / (df + x * x)  # (ν − x²)/(ν + x²)² = (2ν part − 1) part
        return -(df + 1.0) * (2.0 * df * part - 1.0) * part * inverse * inverse * vector

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return wx/σ, wx² − 1 and ½(ν ψ((ν + 1)/2) − ν ψ(ν/2) − 1 − ν log(1 + x²/ν) + wx²), w = (ν + 1)/(ν + x²)."""
        xp = backend.xp
        x, inverse, df = self._x(backend, parameters, z)
        pull = (df + 1.0) * x / (df + x * x)
        constant = df * digamma_step(backend, 0.5 * df, 0.5) - 1.0
        return {
            "loc": pull * inverse,
            "log_scale": pull * x - 1.0,
            "log_df": 0.5 * (constant - df * xp.log1p(x * x / df) + pull * x),
        }

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivatives from ∂z/∂loc = 1, ∂z/∂log_scale = z − loc and ∂z/∂log_df = σ ∂T/∂log ν."""
        _, moved = self._path(backend, parameters, noise)
        pulled = cotangent * backend.xp.exp(parameters["log_scale"])
        return {"loc": cotangent, "log_scale": cotangent * (z - parameters["loc"]), "log_df": pulled * moved}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return 0, 1 and ½ + ν(ν + 1)/4 (ψ'((ν + 1)/2) − ψ'(ν/2)), with ψ' the trigamma function."""
        xp = backend.xp
        df = xp.exp(parameters["log_df"])
        difference = trigamma(backend, 0.5 * (df + 1.0)) - trigamma(backend, 0.5 * df)
        zero = xp.zeros_like(parameters["loc"])
        return {"loc": zero, "log_scale": xp.ones_like(zero), "log_df": 0.5 + 0.25 * df * (df + 1.0) * difference}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        loc, scale = parameters["loc"], np.exp(parameters["log_scale"])
        return SupportAndTails(loc - np.inf, loc, loc + np.inf, scale, HEAVY, HEAVY)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return the moments from E T²ᵏ = νᵏ Π_{i ≤ k} (2i − 1)/(ν − 2i), by the binomial theorem."""
        loc, scale, df = parameters["loc"], np.exp(parameters["log_scale"]), np.exp(parameters["log_df"])
        if order > 0 and np.any(order >= df * (1.0 - 1e-12)):  # df is rounded by exp(log df)
            least = float(np.min(df))
            raise NotApplicable(f"family student-t with df={least:g} has E z^n for n below {least:g} only, not {order}")
        zero = np.zeros_like(loc)
        value, gradient = zero, {"loc": zero, "log_scale": zero, "log_df": zero}
        standard, by_log_df = zero + 1.0, zero  # E T²ᵏ and ν times the derivative of its logarithm
        for k in range(order // 2 + 1):
            if k > 0:
                standard = standard * df * (2 * k - 1) / (df - 2 * k)
                by_log_df = by_log_df + 1.0 - df / (df - 2 * k)
            rest = order - 2 * k
            factor = math.comb(order, 2 * k) * scale ** (2 * k) * standard
            term = factor * loc**rest
            value = value + term
            slope = factor * rest * loc ** (rest - 1) if rest > 0 else zero
            gradient = {
                "loc": gradient["loc"] + slope,
                "log_scale": gradient["log_scale"] + 2 * k * term,
                "log_df": gradient["log_df"] + by_log_df * term,
            }
        return value, gradient
