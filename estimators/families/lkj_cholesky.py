"""The Cholesky factor of a random correlation matrix, with density ∝ det(R)^(η − 1): the LKJ distribution.

z holds the entries of L below the diagonal, row by row (L₂₁, L₃₁, L₃₂, L₄₁, …): D = K (K − 1)/2 numbers for R = L Lᵀ of
size K. The diagonal is L_ii = √(1 − Σ_j L_ij²).

L_ij = w_ij Π_{k<j} √(1 − w_ik²) with independent partial correlations w_ij, whose densities are ∝ (1 − w²)^(b_j − 1),
b_j = η + (K − 1 − j)/2 for column j from 1. With Student's t of 2b degrees, w = t/√(2b + t²); t by Bailey's polar
method is smooth in b, so the sample path is differentiable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig
from gradmeter.estimators.families.gamma_path import trigamma
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class LkjCholesky(Family):
    """The LKJ family of matrices of `size` K, a static field.

    Parameter: `log_concentration` [1], log η, unconstrained; η = 1 is uniform over R.

    Source: Lewandowski, Kurowicka & Joe 2009, section 2.
    """

    name: ClassVar[str] = "lkj-cholesky"
    summary: ClassVar[str] = "Cholesky factor of a correlation matrix, D = K(K − 1)/2; parameter log_concentration"
    blocks: ClassVar[tuple[str, ...]] = ("log_concentration",)
    unsupported: ClassVar[dict[str, str]] = {
        "weak_derivatives": "its concentration moves every coordinate",
        "log_density_replaced": "its coordinates depend on each other",
    }

    size: int = 3

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        size: int = option(3, "K, rows of the matrix, which has K(K − 1)/2 coordinates", minimum=2, maximum=50)
        concentration: float = option(2.0, "η; 1 is uniform over correlation matrices", minimum=0.5)

        @property
        def family(self) -> Family:
            return LkjCholesky(self.size)

        def parameters(self, dimension: int) -> Blocks:
            return {"log_concentration": np.full(1, math.log(self.concentration))}

        def check(self, dimension: int) -> None:
            wanted = self.size * (self.size - 1) // 2
            if dimension != wanted:
                raise UsageError(
                    f"family lkj-cholesky with size={self.size} needs {wanted} coordinates, K(K − 1)/2, not {dimension}"
                )
            super().check(dimension)

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return {"log_concentration": (1,)}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        shape = (*sample_shape, dimension)
        return {"base": Noise("exponential", shape), "angle": Noise("uniform", shape)}

    @property
    def _places(self) -> list[tuple[int, int]]:
        """The row and column of every coordinate, from 1."""
        return [(i, j) for i in range(2, self.size + 1) for j in range(1, i)]

    def _exponents(self, backend: Backend, parameters: Blocks) -> tuple[Array, Array]:
        """Return b_j of every coordinate, and η + (K − i)/2 − 1 of its row, half the exponent of L_ii [D]."""
        eta = backend.xp.exp(parameters["log_concentration"])
        columns = [0.5 * (self.size - 1 - j) for _, j in self._places]
        rows = [0.5 * (self.size - i) - 1.0 for i, _ in self._places]
        return eta + backend.asarray(columns, _dtype(eta)), eta + backend.asarray(rows, _dtype(eta))

    def _before(self, backend: Backend, values: Array) -> Array:
        """Return, for every coordinate, the sum of the values before it in its row [..., D]."""
        table = [[float(i == k and m < j) for i, j in self._places] for k, m in self._places]
        return backend.xp.matmul(values, backend.asarray(table, _dtype(values)))

    def _in_row(self, backend: Backend, values: Array) -> Array:
        """Return, for every coordinate, the sum of the values in its row [..., D]."""
        table = [[float(i == k) for i, _ in self._places] for k, _ in self._places]
        return backend.xp.matmul(values, backend.asarray(table, _dtype(values)))

    def _drawn(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> tuple[Array, ...]:
        """Return b, s² with t² = 2b s² cos², the cosine of the angle, and 1 − w²."""
        xp, e = backend.xp, noise["base"]
        b, _ = self._exponents(backend, parameters)
        square, cosine = xp.expm1(e / b), xp.cos(2.0 * math.pi * noise["angle"])
        return b, square, cosine, 1.0 / (1.0 + square * cosine * cosine)

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        xp = backend.xp
        _, square, cosine, rest = self._drawn(backend, parameters, noise)
        return xp.sqrt(square * rest) * cosine * xp.exp(0.5 * self._before(backend, xp.log(rest)))

    def log_density(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        """Return Σ_i (2η + K − i − 2) log L_ii − Σ_{i>j} log B(½, b_j)."""
        xp, gammaln = backend.xp, backend.special.gammaln
        b, half = self._exponents(backend, parameters)
        constant = xp.sum(gammaln(b) - gammaln(b + 0.5) + 0.5 * math.log(math.pi))
        return xp.sum(half * self._share(backend, z), axis=-1) - constant

    def _share(self, backend: Backend, z: Array) -> Array:
        """Return log L_ii² of every coordinate's row, divided among the coordinates of the row."""
        lengths = backend.asarray([i - 1.0 for i, _ in self._places], _dtype(z))
        return backend.xp.log1p(-self._in_row(backend, z * z)) / lengths

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        _, half = self._exponents(backend, parameters)
        return -2.0 * half * z / (1.0 - self._in_row(backend, z * z))

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        _, half = self._exponents(backend, parameters)
        rest, along = 1.0 - self._in_row(backend, z * z), self._in_row(backend, z * vector)
        return -2.0 * half * (vector + 2.0 * z * along / rest) / rest

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return η (Σ_i log L_ii² − Σ_{i>j} (ψ(b_j) − ψ(b_j + ½)))."""
        xp, digamma = backend.xp, backend.special.digamma
        b, _ = self._exponents(backend, parameters)
        away = self._share(backend, z) - (digamma(b) - digamma(b + 0.5))
        eta = xp.exp(parameters["log_concentration"])
        return {"log_concentration": eta * xp.sum(away, axis=-1, keepdims=True)}

    def pathwise(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array, cotangent: Array
    ) -> Blocks:
        """Return the derivative from ∂b/∂η = 1, through w and 1 − w² of the entries before in the row."""
        xp = backend.xp
        b, square, cosine, rest = self._drawn(backend, parameters, noise)
        moved = -(noise["base"] / (b * b)) * (square + 1.0)  # ∂s²/∂η
        logs = self._before(backend, xp.log(rest))
        by_others = self._before(backend, -moved * cosine * cosine * rest)  # ∂/∂η of these logs
        own = 0.5 * moved / xp.sqrt(square) * cosine * rest * xp.sqrt(rest)  # ∂w/∂η
        along = cotangent * (xp.exp(0.5 * logs) * own + 0.5 * z * by_others)
        eta = xp.exp(parameters["log_concentration"])
        return {"log_concentration": eta * xp.sum(along, axis=-1, keepdims=True)}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return −η Σ_{i>j} (η + (K − i)/2 − 1)(ψ′(b_j) − ψ′(b_j + ½))."""
        xp = backend.xp
        b, half = self._exponents(backend, parameters)
        curved = trigamma(backend, b) - trigamma(backend, b + 0.5)
        eta = xp.exp(parameters["log_concentration"])
        return {"log_concentration": -eta * xp.sum(half * curved, axis=-1, keepdims=True)}

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return E w_ijⁿ Π_{k<j} E (1 − w_ik²)^(n/2), 0 for odd n, of w² ~ Beta(½, b)."""
        from scipy.special import betaln, digamma  # slow to import

        places, half = self._places, 0.5 * order
        if order % 2:
            return np.zeros(len(places)), {"log_concentration": np.zeros(1)}
        eta = float(np.exp(parameters["log_concentration"][0]))
        b = np.asarray([eta + 0.5 * (self.size - 1 - j) for j in range(1, self.size)])
        power = betaln(0.5 + half, b) - betaln(0.5, b)
        power_slope = digamma(b + 0.5) - digamma(b + 0.5 + half)
        rest = betaln(0.5, b + half) - betaln(0.5, b)
        rest_slope = digamma(b + half) - digamma(b) + power_slope
        log = np.asarray([power[j - 1] + rest[: j - 1].sum() for _, j in places])
        slope = np.asarray([power_slope[j - 1] + rest_slope[: j - 1].sum() for _, j in places])
        return np.exp(log), {"log_concentration": np.asarray([eta * float(np.exp(log) @ slope)])}


def _dtype(array: Array) -> str:
    return str(array.dtype).rpartition(".")[2]
