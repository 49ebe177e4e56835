"""The Normal whose covariance is diagonal plus low rank: z = loc + F ε + d δ, Σ = F Fᵀ + diag(d²)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig
from gradmeter.estimators.families.normal import Normal, diagonal, normal_power_moment
from gradmeter.estimators.families.support_and_tails import Marginals
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class LowRankNormal(Family):
    """The low-rank Normal family.

    Parameters: `loc` [D], `factor` F [D, rank] and `log_diagonal` [D], all unconstrained; d = exp(log_diagonal).

    Σ is never singular. All computations cost O(D rank²), by Woodbury's identity with the small matrix M = I + Fᵀ
    diag(d⁻²) F: Σ⁻¹ = d⁻² − d⁻² F M⁻¹ Fᵀ d⁻², and |Σ| = |M| Π d².
    """

    name: ClassVar[str] = "low-rank-normal"
    summary: ClassVar[str] = "Normal with covariance F Fᵀ + diag(d²); parameters loc, factor, log_diagonal"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "factor", "log_diagonal")
    unsupported: ClassVar[dict[str, str]] = {
        "weak_derivatives": "its coordinates depend on each other, so none moves alone",
        "log_density_replaced": "its coordinates depend on each other",
    }

    rank: int = 1

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        rank: int = option(1, "columns of the factor", minimum=1, maximum=100)
        loc: Values = option(0.0, "mean of every coordinate", per="coordinate")
        scale: Values = option(1.0, "standard deviation of every coordinate", above=0.0, per="coordinate")
        correlation: Values = option(
            0.5,
            "correlation of coordinates that share a column: √ of the product of theirs",
            minimum=0.0,
            below=1.0,
            per="coordinate",
        )

        @property
        def family(self) -> Family:
            return LowRankNormal(self.rank)

        def parameters(self, dimension: int) -> Blocks:
            """Return λ where coordinate i loads on column i mod rank only."""
            shared = np.arange(dimension)[:, None] % self.rank == np.arange(self.rank)
            return {
                "loc": self.each(dimension, float, "loc"),
                "factor": self.each(dimension, lambda s, c: s * math.sqrt(c), "scale", "correlation")[:, None] * shared,
                "log_diagonal": self.each(
                    dimension, lambda s, c: math.log(s * math.sqrt(1.0 - c)), "scale", "correlation"
                ),
            }

        def check(self, dimension: int) -> None:
            super().check(dimension)
            if self.rank > dimension:
                raise UsageError(
                    f"family low-rank-normal with rank={self.rank} needs at least as many coordinates, not {dimension}"
                )

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return {"loc": (dimension,), "factor": (dimension, self.rank), "log_diagonal": (dimension,)}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {
            "base": Noise("normal", (*sample_shape, dimension)),
            "common": Noise("normal", (*sample_shape, self.rank)),
        }

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        xp = backend.xp
        spread = _matmul(xp, noise["common"], xp.matrix_transpose(parameters["factor"]))
        return parameters["loc"] + spread + xp.exp(parameters["log_diagonal"]) * noise["base"]

    def _inverse(self, backend: Backend, parameters: Blocks) -> tuple[Array, Array, Array]:
        """Return d⁻² [D], d⁻² F [D, rank] and M⁻¹ [rank, rank]."""
        xp, factor = backend.xp, parameters["factor"]
        precision = xp.exp(-2.0 * parameters["log_diagonal"])
        scaled = precision[:, None] * factor
        places = backend.asarray(range(self.rank), None)
        identity = xp.astype(places[:, None] == places[None, :], factor.dtype)
        return precision, scaled, xp.linalg.inv(identity + xp.matmul(xp.matrix_transpose(factor), scaled))

    def _pulled(self, backend: Backend, parameters: Blocks, away: Array) -> Array:
        """Return Σ⁻¹ away [..., D]."""
        xp = backend.xp
        precision, scaled, inverse = self._inverse(backend, parameters)
        inner = _matmul(xp, _matmul(xp, away, scaled), inverse)
        return precision * away - _matmul(xp, inner, xp.matrix_transpose(scaled))

    def log_density(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp, away = backend.xp, z - parameters["loc"]
        inverse = self._inverse(backend, parameters)[2]
        logarithm = xp.sum(parameters["log_diagonal"]) - 0.5 * xp.linalg.slogdet(inverse)[1]
        square = xp.sum(away * self._pulled(backend, parameters, away), axis=-1)
        return -0.5 * square - logarithm - 0.5 * z.shape[-1] * math.log(2.0 * math.pi)

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        return -self._pulled(backend, parameters, z - parameters["loc"])

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        return -self._pulled(backend, parameters, vector)

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return w, w wᵀF − Σ⁻¹F, and d² (w² − diag Σ⁻¹), with w = Σ⁻¹(z − loc)."""
        xp = backend.xp
        w = self._pulled(backend, parameters, z - parameters["loc"])
        constant = self.entropy_gradient(backend, parameters)
        along = _matmul(xp, w, parameters["factor"])
        square = xp.exp(2.0 * parameters["log_diagonal"]) * w * w
        return {
            "loc": w,
            "factor": w[..., :, None] * along[..., None, :] - constant["factor"],
            "log_diagonal": square - constant["log_diagonal"],
        }

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return cotangent, cotangent εᵀ and cotangent d δ."""
        moved = backend.xp.exp(parameters["log_diagonal"]) * noise["base"]
        return {
            "loc": cotangent,
            "factor": cotangent[..., :, None] * noise["common"][..., None, :],
            "log_diagonal": cotangent * moved,
        }

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of ½ log |Σ|: 0, Σ⁻¹F = d⁻² F M⁻¹, and d² diag Σ⁻¹."""
        xp = backend.xp
        _, scaled, inverse = self._inverse(backend, parameters)
        factor = xp.matmul(scaled, inverse)
        return {
            "loc": xp.zeros_like(parameters["loc"]),
            "factor": factor,
            "log_diagonal": 1.0 - xp.sum(factor * parameters["factor"], axis=-1),
        }

    def bonnet_price(self, backend: Backend, parameters: Blocks, slope: Array, hessian: Array) -> Blocks:
        """Return ∂F = E ∇²f F and ∂log d = d² diag E ∇²f, from ∂Σ = ½ E ∇²f."""
        xp = backend.xp
        return {
            "loc": slope,
            "factor": xp.matmul(hessian, parameters["factor"]),
            "log_diagonal": diagonal(backend, hessian) * xp.exp(2.0 * parameters["log_diagonal"]),
        }

    def covariance(self, backend: Backend, parameters: Blocks) -> Array:
        xp, f = backend.xp, parameters["factor"]
        places = backend.asarray(range(f.shape[0]), None)
        identity = xp.astype(places[:, None] == places, f.dtype)
        return xp.matmul(f, xp.matrix_transpose(f)) + identity * xp.exp(2.0 * parameters["log_diagonal"])

    def marginals(self, parameters: Blocks) -> Marginals:
        """Return N(loc_i, s_i²) with s_i² = Σ_j F_ij² + d_i²."""
        factor, square = parameters["factor"], np.exp(2.0 * parameters["log_diagonal"])
        variance = np.sum(factor**2, axis=-1) + square

        def collect(values: Array, gradient: Blocks) -> tuple[float, Blocks]:
            each = gradient["log_scale"] / variance
            moved = {"factor": each[:, None] * factor, "log_diagonal": each * square}
            return float(values.sum()), {"loc": gradient["loc"], **moved}

        return Marginals(Normal(), {"loc": parameters["loc"], "log_scale": 0.5 * np.log(variance)}, collect)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return the moments of N(loc_i, s_i²), s_i² = Σ_j F_ij² + d_i², with ∂E zⁿ/∂s² = ½ ∂²E zⁿ/∂loc²."""
        factor, square = parameters["factor"], np.exp(2.0 * parameters["log_diagonal"])
        scale = np.sqrt(np.sum(factor**2, axis=-1) + square)
        value, slope, curvature = normal_power_moment(parameters["loc"], scale, order)
        return value, {"loc": slope, "factor": curvature[:, None] * factor, "log_diagonal": curvature * square}


def _matmul(xp: Any, left: Array, matrix: Array) -> Array:
    """Return left [..., m] times matrix [m, n], as a single large product over all batch axes."""
    flat = xp.matmul(xp.reshape(left, (-1, left.shape[-1])), matrix)
    return xp.reshape(flat, (*left.shape[:-1], matrix.shape[1]))
