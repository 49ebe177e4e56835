"""The Normal with a full covariance, by its Cholesky factor: z = loc + L ε, Σ = L Lᵀ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig
from gradmeter.estimators.families.normal import Normal, normal_power_moment
from gradmeter.estimators.families.support_and_tails import Marginals
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

#: Largest dimension: beyond it, D(D + 1)/2 numbers a sample are gigabytes in a block of replicates.
LARGEST = 1000


@dataclass(frozen=True)
class MultivariateNormal(Family):
    """The full-rank Normal family. Parameters: `loc` [D] and `cholesky` [D(D + 1)/2], both unconstrained.

    `cholesky` holds the lower triangle of L row by row (L₁₁, L₂₁, L₂₂, L₃₁, …), with the logarithms of the diagonal, so
    L is never singular.
    """

    name: ClassVar[str] = "multivariate-normal"
    summary: ClassVar[str] = "full-rank Normal; parameters loc, cholesky (lower triangle by rows, log diagonal)"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "cholesky")
    unsupported: ClassVar[dict[str, str]] = {
        "weak_derivatives": "its coordinates depend on each other, so none moves alone",
        "log_density_replaced": "its coordinates depend on each other",
    }

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        loc: Values = option(0.0, "mean of every coordinate", per="coordinate")
        scale: Values = option(1.0, "standard deviation of every coordinate", above=0.0, per="coordinate")
        correlation: float = option(0.0, "correlation of every pair of coordinates", above=-1.0, below=1.0)

        @property
        def family(self) -> Family:
            return MultivariateNormal()

        def parameters(self, dimension: int) -> Blocks:
            identity, ones = np.eye(dimension), np.ones((dimension, dimension))
            factor = np.linalg.cholesky((1.0 - self.correlation) * identity + self.correlation * ones)
            scale = self.each(dimension, float, "scale")[:, None]
            return {"loc": self.each(dimension, float, "loc"), "cholesky": pack(scale * factor)}

        def check(self, dimension: int) -> None:
            super().check(dimension)
            if dimension > LARGEST:
                raise UsageError(f"family {self.family.name} takes at most {LARGEST} coordinates, not {dimension}")
            if dimension > 1 and self.correlation * (dimension - 1) <= -1.0:
                raise UsageError(
                    f"family {self.family.name} with correlation={self.correlation:g} has a singular covariance for "
                    f"{dimension} coordinates; correlation must be above −1/(D − 1) = {-1.0 / (dimension - 1):g}"
                )

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return {"loc": (dimension,), "cholesky": (dimension * (dimension + 1) // 2,)}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("normal", (*sample_shape, dimension))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return z = loc + L ε."""
        return parameters["loc"] + _times_transposed(backend.xp, noise["base"], factor(backend, parameters))

    def log_density(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp = backend.xp
        standard, _ = self._standardised(backend, parameters, z)
        logarithms = xp.sum(parameters["cholesky"] * self._diagonal(backend, parameters))
        constant = 0.5 * z.shape[-1] * math.log(2.0 * math.pi)
        return -0.5 * xp.sum(standard * standard, axis=-1) - logarithms - constant

    def dispersed(self, backend: Backend, parameters: Blocks, dispersion: float) -> Blocks:
        """Return the parameters with the covariance dispersion Σ."""
        logarithms, cholesky = self._diagonal(backend, parameters), parameters["cholesky"]
        wider = cholesky * (logarithms + (1.0 - logarithms) * math.sqrt(dispersion))
        return {**parameters, "cholesky": wider + logarithms * (0.5 * math.log(dispersion))}

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        return -self._standardised(backend, parameters, z)[1]

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        return -self._standardised(backend, parameters, vector + parameters["loc"])[1]

    def _standardised(self, backend: Backend, parameters: Blocks, z: Array) -> tuple[Array, Array]:
        """Return ε = L⁻¹(z − loc) and L⁻ᵀ ε = Σ⁻¹(z − loc), both [..., D]."""
        xp = backend.xp
        inverse = xp.linalg.inv(factor(backend, parameters))
        standard = _times_transposed(xp, z - parameters["loc"], inverse)
        return standard, _times_transposed(xp, standard, xp.matrix_transpose(inverse))

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return w = Σ⁻¹(z − loc), and the lower triangle of w εᵀ, on the log diagonal times L_ii and minus 1."""
        standard, pull = self._standardised(backend, parameters, z)
        outer = self._pulled(backend, parameters, pull, standard)
        return {"loc": pull, "cholesky": outer - self._diagonal(backend, parameters)}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return cotangent, and the lower triangle of cotangent εᵀ, times L_ii on the log diagonal."""
        return {"loc": cotangent, "cholesky": self._pulled(backend, parameters, cotangent, noise["base"])}

    def bonnet_price(self, backend: Backend, parameters: Blocks, slope: Array, hessian: Array) -> Blocks:
        """Return ∂L as the lower triangle of E ∇²f L, times L_ii on the log diagonal, from ∂Σ = ½ E ∇²f."""
        xp, packed, cholesky = backend.xp, _Packed(backend, slope.shape[-1]), parameters["cholesky"]
        moved = xp.matmul(hessian, factor(backend, parameters))
        flat = xp.reshape(moved, (*slope.shape[:-1], -1))
        chain = xp.where(packed.diagonal, xp.exp(cholesky), xp.ones_like(cholesky))
        lower = xp.take(flat, packed.rows * slope.shape[-1] + packed.columns, axis=-1)
        return {"loc": slope, "cholesky": lower * chain}

    def covariance(self, backend: Backend, parameters: Blocks) -> Array:
        lower = factor(backend, parameters)
        return backend.xp.matmul(lower, backend.xp.matrix_transpose(lower))

    def _pulled(self, backend: Backend, parameters: Blocks, cotangent: Array, base: Array) -> Array:
        """Return cotangent · ∂(L base)/∂cholesky [..., D(D + 1)/2]."""
        xp = backend.xp
        packed = _Packed(backend, cotangent.shape[-1])
        cholesky = parameters["cholesky"]
        chain = xp.where(packed.diagonal, xp.exp(cholesky), xp.ones_like(cholesky))
        return xp.take(cotangent, packed.rows, axis=-1) * xp.take(base, packed.columns, axis=-1) * chain

    def entropy_pathwise(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> Blocks:
        """Return 1 on the log diagonal for every noise, because log |∂t/∂ε| = Σ log L_ii."""
        return {"cholesky": self._diagonal(backend, parameters)}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return ∇ of Σ log L_ii + const, which is 1 on the log diagonal."""
        return {"loc": backend.xp.zeros_like(parameters["loc"]), "cholesky": self._diagonal(backend, parameters)}

    def _diagonal(self, backend: Backend, parameters: Blocks) -> Array:
        """Return 1 where `cholesky` holds a logarithm, else 0."""
        xp, cholesky = backend.xp, parameters["cholesky"]
        diagonal = _Packed(backend, parameters["loc"].shape[0]).diagonal
        return xp.where(diagonal, xp.ones_like(cholesky), xp.zeros_like(cholesky))

    def marginals(self, parameters: Blocks) -> Marginals:
        """Return N(loc_i, s_i²) with s_i² = Σ_j L_ij²."""
        rows, lower, moved = _rows(parameters)
        scale = np.sqrt(np.bincount(rows, lower**2))

        def collect(values: Array, gradient: Blocks) -> tuple[float, Blocks]:
            by_factor = (gradient["log_scale"] / scale**2)[rows] * lower * moved
            return float(values.sum()), {"loc": gradient["loc"], "cholesky": by_factor}

        return Marginals(Normal(), {"loc": parameters["loc"], "log_scale": np.log(scale)}, collect)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return the moments of N(loc_i, s_i²), s_i² = Σ_j L_ij², with ∂E zⁿ/∂s² = ½ ∂²E zⁿ/∂loc²."""
        rows, lower, moved = _rows(parameters)
        scale = np.sqrt(np.bincount(rows, lower**2))
        value, slope, curvature = normal_power_moment(parameters["loc"], scale, order)
        return value, {"loc": slope, "cholesky": curvature[rows] * lower * moved}


def _rows(parameters: Blocks) -> tuple[Array, Array, Array]:
    """Return the rows of the packed numbers, the L_ij, and the derivative of each L_ij with respect to its number."""
    rows, columns = np.tril_indices(len(parameters["loc"]))
    on_diagonal, logarithms = rows == columns, parameters["cholesky"]
    lower = np.where(on_diagonal, np.exp(np.where(on_diagonal, logarithms, 0.0)), logarithms)
    return rows, lower, np.where(on_diagonal, lower, 1.0)


class _Packed:
    """The positions of the numbers of a packed lower triangle: rows, columns, and a mask of the diagonal."""

    def __init__(self, backend: Backend, dimension: int) -> None:
        self.rows = backend.asarray([i for i in range(dimension) for _ in range(i + 1)], None)
        self.columns = backend.asarray([j for i in range(dimension) for j in range(i + 1)], None)
        self.diagonal = self.rows == self.columns


def pack(factor: np.ndarray) -> np.ndarray:
    """Return the block `cholesky` of a lower-triangular factor with a positive diagonal."""
    rows, columns = np.tril_indices(len(factor))
    lower = factor[rows, columns]
    return np.where(rows == columns, np.log(np.where(rows == columns, lower, 1.0)), lower)


def factor(backend: Backend, parameters: Blocks) -> Array:
    """Return L [D, D]."""
    return unpacked(backend.xp, parameters["cholesky"], backend.asarray(range(parameters["loc"].shape[0]), None))


def unpacked(xp: Any, packed: Array, places: Array) -> Array:
    """Return L [D, D].

    Parameters
    ----------
    xp
        Array API namespace.
    packed
        The block `cholesky` [D(D + 1)/2].
    places
        The numbers 0, …, D − 1, an array of integers.
    """
    lower = triangle(xp, packed, places)
    return xp.where(places[:, None] == places, xp.exp(lower), lower)


def triangle(xp: Any, packed: Array, places: Array) -> Array:
    """Return the lower triangle [D, D] whose rows are given one after another.

    Parameters
    ----------
    xp
        Array API namespace.
    packed
        The rows [D(D + 1)/2].
    places
        The numbers 0, …, D − 1, an array of integers.
    """
    rows, columns = places[:, None], places[None, :]
    inside = xp.where(columns <= rows, rows * (rows + 1) // 2 + columns, xp.zeros_like(rows * columns))
    values = xp.reshape(xp.take(packed, xp.reshape(inside, (-1,)), axis=0), inside.shape)
    return xp.where(columns <= rows, values, xp.zeros_like(values))


def _times_transposed(xp: Any, left: Array, matrix: Array) -> Array:
    """Return left [..., D] times matrixᵀ, as a single large product over all batch axes."""
    flat = xp.matmul(xp.reshape(left, (-1, left.shape[-1])), xp.matrix_transpose(matrix))
    return xp.reshape(flat, (*left.shape[:-1], matrix.shape[0]))
