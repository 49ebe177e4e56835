"""ELBO of a banana-shaped density: pairs of coordinates, the first Gaussian and the second bent around its square.

log p = Σ over pairs (a, c) of −a²/(2 s²) − ½ (c − b (a² − s²))², not normalised: a ~ N(0, s²) and
c | a ~ N(b (a² − s²), 1), so log ∫ p = log(2πs) per pair. log p is a polynomial of degree 4, whose expectation under a
Gaussian is available in closed form.

Source: the twisted Gaussian of Haario et al. 1999.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors
from gradmeter.bench.problems.gaussian_elbo import Expected, exact_gaussian_elbo, square_root
from gradmeter.bench.problems.options import differentiate_option, entropy_option, family_option
from gradmeter.bench.problems.problem import Exact, Problem
from gradmeter.estimators import FamilyConfig, Integrand, UsageError
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.options import option


class BananaIntegrand(Integrand):
    """The unnormalised log p. `data` holds the numbers `bend` (b) and `width` (s)."""

    def pairs(self, data: Arrays, z: Array) -> tuple[Array, Array, Array]:
        """Return a, c − b (a² − s²) and the log p of each pair, all [..., D/2]."""
        a, width = z[..., 0::2], data["width"]
        rest = z[..., 1::2] - data["bend"] * (a * a - width * width)
        return a, rest, -0.5 * (a * a / (width * width) + rest * rest)

    def value(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        return xp.sum(self.pairs(data, z)[2], axis=-1)

    def gradient(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        a, rest, _ = self.pairs(data, z)
        bend, width = data["bend"], data["width"]
        return _interleave(xp, 2.0 * bend * a * rest - a / (width * width), -rest)

    def hessian_product(self, xp: Any, data: Arrays, z: Array, vector: Array, noise: Arrays) -> Array:
        a, rest, _ = self.pairs(data, z)
        bend, width = data["bend"], data["width"]
        first, second = vector[..., 0::2], vector[..., 1::2]
        curved = 2.0 * bend * rest - 4.0 * bend * bend * a * a - 1.0 / (width * width)
        mixed = 2.0 * bend * a
        return _interleave(xp, curved * first + mixed * second, mixed * first - second)

    def local_terms(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        """Return the term of each coordinate's pair [..., D]."""
        term = self.pairs(data, z)[2]
        return _interleave(xp, term, term)

    def replaced(self, backend: Backend, data: Arrays, z: Array, replacement: Array, noise: Arrays) -> Array:
        """Recompute only the term of each coordinate's pair, which needs two further evaluations per pair."""
        xp = backend.xp
        term = self.pairs(data, z)[2]
        first = self.pairs(data, _interleave(xp, replacement[..., 0::2], z[..., 1::2]))[2]
        second = self.pairs(data, _interleave(xp, z[..., 0::2], replacement[..., 1::2]))[2]
        others = xp.sum(term, axis=-1, keepdims=True) - term
        return _interleave(xp, others + first, others + second)


def _interleave(xp: Any, first: Array, second: Array) -> Array:
    """Interleave two arrays [..., D/2] as [..., D]."""
    both = xp.stack([first, second], axis=-1)
    return xp.reshape(both, (*first.shape[:-1], 2 * first.shape[-1]))


@dataclass(frozen=True)
class Banana(Problem):
    """ELBO of a banana-shaped density under a Gaussian q, exact in closed form."""

    name: ClassVar[str] = "banana"
    summary: ClassVar[str] = "ELBO of a banana-shaped density, in pairs of coordinates (closed form)"
    integrand = BananaIntegrand()

    bend: float = option(0.5, "b: how strongly the second of a pair follows the square of the first")
    width: float = option(2.0, "s: standard deviation of the first of a pair", above=0.0)
    q: FamilyConfig = family_option("normal", "multivariate-normal", "low-rank-normal")
    dim: int = option(2, "number of coordinates D, even", minimum=2, maximum=1000)
    entropy: str = entropy_option()
    differentiate: str = differentiate_option()

    @property
    def dimension(self) -> int:
        return self.dim

    def check(self) -> None:
        super().check()
        if self.dim % 2:
            raise UsageError(f"problem banana with dim={self.dim}: dim must be even, since coordinates come in pairs")
        with np.errstate(over="ignore", invalid="ignore"):
            size = self.dim if self.q.unequal else 2
            found = self.expected(self.q.each(size, float, "loc"), np.diag(self.q.each(size, float, "scale")))
        if not all(np.all(np.isfinite(part)) for part in found):
            raise UsageError("problem banana overflows; give less extreme options")

    def data(self) -> Vectors:
        return {"bend": np.asarray(self.bend), "width": np.asarray(self.width)}

    def expected(self, loc: np.ndarray, root: np.ndarray) -> Expected:
        """Return the expectations of log p and its derivatives under N(loc, rootᵀ root), root [K, D]."""
        b, s2 = self.bend, self.width**2
        (m, n), (first, second) = (loc[0::2], loc[1::2]), (root[:, 0::2], root[:, 1::2])
        v, w, cross = (np.sum(x * y, axis=0) for x, y in ((first, first), (second, second), (first, second)))
        square, cube, fourth = m**2 + v, m**3 + 3.0 * m * v, m**4 + 6.0 * m**2 * v + 3.0 * v**2  # E a², E a³, E a⁴
        rest = n - b * (square - s2)
        along = m * n + cross - b * cube + b * s2 * m  # E a rest
        squared_along = n * square + 2.0 * m * cross  # E a² c
        size = n**2 + w - 2.0 * b * (squared_along - s2 * n) + b**2 * (fourth - 2.0 * s2 * square + s2**2)
        places = np.arange(0, len(loc), 2)
        hessian = -np.eye(len(loc))
        hessian[places, places] = 2.0 * b * rest - 4.0 * b**2 * square - 1.0 / s2
        hessian[places, places + 1] = hessian[places + 1, places] = 2.0 * b * m
        return Expected(
            objective=float(-0.5 * np.sum(square / s2 + size)),
            slope=_interleave(np, 2.0 * b * along - m / s2, -rest),
            hessian=hessian,
            fourth=_interleave(np, np.full_like(m, -12.0 * b**2), np.zeros_like(m)),
        )

    def exact_at(self, parameters: Vectors) -> Exact:
        found = self.expected(parameters["loc"], square_root(self.family, parameters))
        return exact_gaussian_elbo(self.family, parameters, self.entropy, found, "closed-form")
