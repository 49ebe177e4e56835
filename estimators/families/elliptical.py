"""The multivariate Student-t, as the elliptical family: a full-rank Normal scaled by a random radius.

z = loc + √(ν/(2 g)) L ε with g ~ Gamma(ν/2, 1), so the level sets of the density are the ellipses of the Normal. Of all
elliptical distributions (a random radius times a uniform direction, mapped by L) it is the one in common use as a
robust q.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.families.family import Array, Blocks, Family
from gradmeter.estimators.families.gamma import SMALLEST
from gradmeter.estimators.families.gamma_path import (
    digamma_step,
    gamma_noise,
    log_gamma_slope,
    log_standard_gamma,
    trigamma,
)
from gradmeter.estimators.families.multivariate_normal import MultivariateNormal
from gradmeter.estimators.families.student_t import StudentT
from gradmeter.estimators.families.support_and_tails import Marginals
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import option

#: The Normal with the same loc and L; only the radial shape of the density differs.
NORMAL = MultivariateNormal()


@dataclass(frozen=True)
class Elliptical(Family):
    """The multivariate Student-t family.

    Parameters: `loc` [D], `cholesky` [D(D + 1)/2] as in `MultivariateNormal`, and `log_degrees` [1], ν =
    exp(log_degrees), all unconstrained. The covariance is L Lᵀ ν/(ν − 2); moments of order below ν exist.
    """

    name: ClassVar[str] = "elliptical"
    summary: ClassVar[str] = "multivariate Student-t; parameters loc, cholesky (as multivariate-normal), log_degrees"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "cholesky", "log_degrees")
    unsupported: ClassVar[dict[str, str]] = {
        "mirrored": "its radius is made by rejection, which a mirror image would accept elsewhere",
        "weak_derivatives": "its coordinates depend on each other, so none moves alone",
        "log_density_replaced": "its coordinates depend on each other",
    }

    @dataclass(frozen=True)
    class Config(MultivariateNormal.Config):
        degrees: float = option(30.0, "degrees of freedom ν", minimum=2.0 * SMALLEST, maximum=1e12)

        @property
        def family(self) -> Family:
            return Elliptical()

        def parameters(self, dimension: int) -> Blocks:
            return super().parameters(dimension) | {"log_degrees": np.full(1, math.log(self.degrees))}

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return NORMAL.shapes(dimension) | {"log_degrees": (1,)}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return NORMAL.noise(sample_shape, dimension) | gamma_noise((*sample_shape, 1))

    def gamma_numbers(self, parameters: Blocks) -> dict[str, np.ndarray]:
        return {"": 0.5 * np.exp(parameters["log_degrees"])}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        half = 0.5 * backend.xp.exp(parameters["log_degrees"])
        return self.sample_at(backend, parameters, noise["base"], log_standard_gamma(backend, half, noise))

    def sample_at(self, backend: Backend, parameters: Blocks, base: Array, log_g: Array) -> Array:
        """Return z [..., D] from ε [..., D] and log g [..., 1]."""
        return NORMAL.sample(backend, parameters, {"base": base * self._stretch(backend, parameters, log_g)})

    def _stretch(self, backend: Backend, parameters: Blocks, log_g: Array) -> Array:
        """Return √(ν/(2 g)) [..., 1]."""
        return backend.xp.exp(0.5 * (parameters["log_degrees"] - math.log(2.0) - log_g))

    def _pulled(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Array, Array, Array]:
        """Return ν [1], the squared length r² of L⁻¹(z − loc) [..., 1], and the weight (ν + D)/(ν + r²) [..., 1].

        ∇ log q is the weight times that of the Normal.
        """
        xp, degrees = backend.xp, backend.xp.exp(parameters["log_degrees"])
        standard, _ = NORMAL._standardised(backend, parameters, z)
        square = xp.sum(standard * standard, axis=-1, keepdims=True)
        return degrees, square, (degrees + z.shape[-1]) / (degrees + square)

    def log_density(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp, gammaln, size = backend.xp, backend.special.gammaln, z.shape[-1]
        degrees, square, _ = self._pulled(backend, parameters, z)
        constant = gammaln(0.5 * (degrees + size)) - gammaln(0.5 * degrees) - 0.5 * size * xp.log(math.pi * degrees)
        logarithms = xp.sum(parameters["cholesky"] * NORMAL._diagonal(backend, parameters))
        return (constant - 0.5 * (degrees + size) * xp.log1p(square / degrees))[..., 0] - logarithms

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        weight = self._pulled(backend, parameters, z)[2]
        return weight * NORMAL.log_density_gradient(backend, parameters, z)

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        """Return the weighted product of the Normal plus 2 w (w · vector) (ν + D)/(ν + r²)², with w = Σ⁻¹(z − loc)."""
        degrees, square, weight = self._pulled(backend, parameters, z)
        pull = NORMAL.log_density_gradient(backend, parameters, z)
        along = backend.xp.sum(pull * vector, axis=-1, keepdims=True)
        straight = NORMAL.log_density_hessian_product(backend, parameters, z, vector)
        return weight * (straight + 2.0 / (degrees + square) * pull * along)

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return the score: the Normal's, weighted except for the −1 of the log diagonal, and that of ν."""
        xp, size = backend.xp, z.shape[-1]
        degrees, square, weight = self._pulled(backend, parameters, z)
        normal, diagonal = NORMAL.score(backend, parameters, z), NORMAL._diagonal(backend, parameters)
        constant = digamma_step(backend, 0.5 * degrees, 0.5 * size)
        by_degrees = constant - xp.log1p(square / degrees) + (weight * square - size) / degrees
        return {
            "loc": weight * normal["loc"],
            "cholesky": weight * (normal["cholesky"] + diagonal) - diagonal,
            "log_degrees": 0.5 * degrees * by_degrees,
        }

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        half = 0.5 * backend.xp.exp(parameters["log_degrees"])
        log_g = log_standard_gamma(backend, half, noise)
        return self.pathwise_at(backend, parameters, noise["base"], log_g, z, cotangent)

    def pathwise_at(
        self, backend: Backend, parameters: Blocks, base: Array, log_g: Array, z: Array, cotangent: Array
    ) -> Blocks:
        """Return the Normal's derivatives at ε √(ν/(2 g)), and the implicit derivative for log ν.

        The latter is (z − loc) (1 − α ∂ log g/∂α)/2, with α = ν/2.
        """
        xp = backend.xp
        half = 0.5 * xp.exp(parameters["log_degrees"])
        stretched = base * self._stretch(backend, parameters, log_g)
        along = xp.sum(cotangent * (z - parameters["loc"]), axis=-1, keepdims=True)
        relative = 0.5 * (1.0 - half * log_gamma_slope(backend, half, log_g))
        normal = NORMAL.pathwise(backend, parameters, {"base": stretched}, z, cotangent)
        return {**normal, "log_degrees": along * relative}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of Σ log L_ii + log Γ(α) − log Γ(β) + β (ψ(β) − ψ(α)) + ½ D log ν, α = ν/2, β = (ν + D)/2."""
        size = parameters["loc"].shape[0]
        half = 0.5 * backend.xp.exp(parameters["log_degrees"])
        more = half + 0.5 * size
        slope = half * more * (trigamma(backend, more) - trigamma(backend, half)) + 0.5 * size
        return {**NORMAL.entropy_gradient(backend, parameters), "log_degrees": slope}

    def marginals(self, parameters: Blocks) -> Marginals:
        """Return Student's t with ν degrees of freedom, and the loc and scale of the Normal's marginals."""
        degrees = float(parameters["log_degrees"][0])
        normal = NORMAL.marginals({name: parameters[name] for name in NORMAL.blocks})

        def collect(values: Array, gradient: Blocks) -> tuple[float, Blocks]:
            total, moved = normal.collect(values, {name: gradient[name] for name in normal.parameters})
            return total, {**moved, "log_degrees": np.sum(gradient["log_df"], keepdims=True)}

        freedom = {"log_df": np.full(len(parameters["loc"]), degrees)}
        return Marginals(StudentT(), {**normal.parameters, **freedom}, collect)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return the moments from those of the Normal given the radius.

        E zⁿ = Σ_k c_k s²ᵏ locⁿ⁻²ᵏ E (ν/(2 g))ᵏ, where the last factor is αᵏ/((α − 1) … (α − k)), α = ν/2.
        """
        degrees = float(np.exp(parameters["log_degrees"])[0])
        if order >= degrees * (1.0 - 1e-12):  # ν is rounded by exp(log ν)
            raise NotApplicable(f"family elliptical has a moment of order {order} only where degrees is above {order}")
        loc, half = parameters["loc"], 0.5 * degrees
        unit = {"loc": np.zeros_like(loc), "cholesky": parameters["cholesky"]}
        value, slope, by_scale = np.zeros_like(loc), np.zeros_like(loc), np.zeros_like(parameters["cholesky"])
        by_degrees = 0.0
        for k in range(order // 2 + 1):
            factors = half - np.arange(1, k + 1)
            radius = half**k / np.prod(factors)
            spread, gradient = NORMAL.power_moment(unit, 2 * k)  # (2k − 1)!! s²ᵏ
            chosen, power = math.comb(order, 2 * k) * radius, order - 2 * k
            term = chosen * spread * loc**power
            value = value + term
            slope = slope + (chosen * power * spread * loc ** (power - 1) if power else 0.0)
            by_degrees += float(np.sum(term)) * (k - half * float(np.sum(1.0 / factors)))
            weights = chosen * loc**power
            by_scale = by_scale + _spread_rows(weights) * gradient["cholesky"]
        return value, {"loc": slope, "cholesky": by_scale, "log_degrees": np.full(1, by_degrees)}


def _spread_rows(per_row: Array) -> Array:
    """Map [D] to the packed lower triangle, by row: the moment of coordinate i depends only on row i of L."""
    return per_row[np.tril_indices(len(per_row))[0]]
