"""Integrands of the Bayesian mixture: z summed out, averaged over q(z), or sampled.

z starts with the means [..., K P]. All forms are f = log p(μ) + Σ_i (…), with derivatives that are linear in statistics
of the responsibilities:

`Collapsed`   Σ_i log Σ_k π_k N(x_i | μ_k, σ² I), with the responsibilities at μ;
`Averaged`    Σ_i Σ_k r_ik log [π_k N(x_i | μ_k, σ² I)/r_ik], with the r_ik that are optimal for q(μ): quadratic in μ;
`Joint`       Σ_i log π_{z_i} N(x_i | μ_{z_i}, σ² I), with one-hot z_i [..., N K] after the means.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from gradmeter.bench.problems.arrays import Array, Arrays, gathered, log_softmax, log_sum_exp, times
from gradmeter.bench.problems.minibatch import OfRows
from gradmeter.bench.problems.problem import LOG_2PI
from gradmeter.estimators.backends.backend import Backend


@dataclass(frozen=True)
class Statistics:
    """Sums over points of the responsibilities, each point weighted by N/B: Σ r_ik, Σ r_ik x_i and Σ_ik r_ik |x_i|².

    The shapes are [..., K], [..., K, P] and [...]. Statistics that do not depend on z may lack the batch axes, or have
    them with length 1.
    """

    count: Array
    total: Array
    square: Array


@dataclass(frozen=True)
class MixtureOfMeans(OfRows):
    """Base class of the mixture's integrands.

    `data` holds points [N, P], `log_tau` and `log_sigma` [1], `weight_logits` [K], and `batch` [B] if minibatches are
    drawn. With `learned`, τ, σ and π (the softmax of the logits) are model parameters.
    """

    rows_of: ClassVar[str] = "points"

    components: int
    learned: bool = False

    def width(self, data: Arrays, dimension: int) -> int:
        rows = data["batch" if "batch" in data else "points"].shape[0]
        return max(dimension, rows * max(self.components, data["points"].shape[1] if "batch" in data else 1))

    def model_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"log_tau": (1,), "log_sigma": (1,), "weight_logits": (self.components,)} if self.learned else {}

    def rows(self, xp: Any, data: Arrays, noise: Arrays) -> tuple[Array, float]:
        """Return the points and N/B.

        Points are [rows, P], or [R, 1, rows, P] for minibatches.
        """
        points = data["points"]
        if "rows" not in noise:
            return points, 1.0
        return gathered(xp, points, noise["rows"])[:, None, :, :], points.shape[0] / noise["rows"].shape[1]

    def means(self, xp: Any, z: Array) -> Array:
        """Reshape [..., K P] to [..., K, P]."""
        return xp.reshape(z, (*z.shape[:-1], self.components, -1))

    def log_joint(self, xp: Any, data: Arrays, points: Array, means: Array, more: Any = 0.0) -> Array:
        """Return log π_k N(x | μ_k, σ² I) [..., K, rows], with `more` [K, 1] added to |x − μ_k|²."""
        across = xp.matrix_transpose(points)
        product = times(xp, means, across) if points.ndim == 2 else xp.matmul(means, across)
        squares = xp.sum(points * points, axis=-1)[..., None, :]
        distance = squares - 2.0 * product + xp.sum(means * means, axis=-1)[..., None] + more
        constant = log_softmax(xp, data["weight_logits"]) - points.shape[-1] * (data["log_sigma"] + 0.5 * LOG_2PI)
        return constant[:, None] - 0.5 * xp.exp(-2.0 * data["log_sigma"]) * distance

    def statistics(self, xp: Any, points: Array, scale: float, share: Array) -> Statistics:
        """Return the statistics of the responsibilities `share` [..., K, rows]."""
        total = times(xp, share, points) if points.ndim == 2 else xp.matmul(share, points)
        squares = xp.sum(points * points, axis=-1)
        return Statistics(
            scale * xp.sum(share, axis=-1), scale * total, scale * xp.sum(xp.sum(share, axis=-2) * squares, axis=-1)
        )

    @abstractmethod
    def likelihood(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> tuple[Array, Statistics]:
        """Return f without log p(μ) [...], and the statistics in which its derivatives are linear."""

    def log_prior(self, xp: Any, data: Arrays, z: Array) -> Array:
        """Return log p of every coordinate of the means [..., D]."""
        return -0.5 * z * z * xp.exp(-2.0 * data["log_tau"]) - data["log_tau"] - 0.5 * LOG_2PI

    def value(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        return self.likelihood(xp, data, z, noise)[0] + xp.sum(self.log_prior(xp, data, z), axis=-1)

    def gradient(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        """Return Σ_i r_ik (x_i − μ_k)/σ² − μ_k/τ²."""
        found = self.likelihood(xp, data, z, noise)[1]
        slope = found.total - found.count[..., None] * self.means(xp, z)
        likelihood = xp.exp(-2.0 * data["log_sigma"]) * xp.reshape(slope, z.shape)
        return likelihood - z * xp.exp(-2.0 * data["log_tau"])

    def model_pullback(self, xp: Any, data: Arrays, z: Array, cotangent: Array, noise: Arrays) -> Arrays:
        return self.pullback_of(xp, data, z, self.likelihood(xp, data, z, noise)[1], cotangent)

    def pullback_of(self, xp: Any, data: Arrays, z: Array, found: Statistics, cotangent: Array) -> Arrays:
        """Return the cotangent times the model gradients, summed over samples.

        The gradients of one sample are |μ|²/τ² − K P for log τ, Σ r_ik |x_i − μ_k|²/σ² − N P for log σ, and
        Σ_i r_ik − N π_k for the weight logits.
        """
        means, points = self.means(xp, z), data["points"]
        size, dimension = points.shape
        distance = found.square - xp.sum((2.0 * found.total - found.count[..., None] * means) * means, axis=(-2, -1))
        squares = xp.sum(means * means, axis=(-2, -1)) * xp.exp(-2.0 * data["log_tau"])
        tau = squares - means.shape[-2] * means.shape[-1]
        sigma = distance * xp.exp(-2.0 * data["log_sigma"]) - size * dimension
        logits = found.count - size * xp.exp(log_softmax(xp, data["weight_logits"]))
        return {
            "log_tau": xp.sum(cotangent * tau, axis=1)[:, None],
            "log_sigma": xp.sum(cotangent * sigma, axis=1)[:, None],
            "weight_logits": xp.sum(cotangent[..., None] * logits, axis=1),
        }


@dataclass(frozen=True)
class Collapsed(MixtureOfMeans):
    """f with z_i summed out."""

    def _joint(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> tuple[Array, float, Array]:
        points, scale = self.rows(xp, data, noise)
        return points, scale, self.log_joint(xp, data, points, self.means(xp, z))

    def likelihood(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> tuple[Array, Statistics]:
        points, scale, joint = self._joint(xp, data, z, noise)
        log_likelihood, share = log_sum_exp(xp, joint)
        return scale * xp.sum(log_likelihood, axis=-1), self.statistics(xp, points, scale, share)

    def hessian_product(self, xp: Any, data: Arrays, z: Array, vector: Array, noise: Arrays) -> Array:
        """Return the Hessian-vector product.

        Along v, log joints change by (x_i − μ_k)·v_k/σ², and the responsibilities with them.
        """
        points, scale, joint = self._joint(xp, data, z, noise)
        share = log_sum_exp(xp, joint)[1]
        precision = xp.exp(-2.0 * data["log_sigma"])
        means, along = self.means(xp, z), self.means(xp, vector)
        moved = precision * (xp.matmul(along, xp.matrix_transpose(points)) - xp.sum(along * means, axis=-1)[..., None])
        bent = share * (moved - xp.sum(share * moved, axis=-2, keepdims=True))
        change, fixed = self.statistics(xp, points, scale, bent), self.statistics(xp, points, scale, share)
        slope = change.total - change.count[..., None] * means - fixed.count[..., None] * along
        return precision * xp.reshape(slope, z.shape) - vector * xp.exp(-2.0 * data["log_tau"])


@dataclass(frozen=True)
class Averaged(MixtureOfMeans):
    """f averaged over the q(z) that is optimal for the mean-field Normal q(μ) at λ.

    E ∂f/∂r = 0 at the optimum, so that r is treated as a constant.
    """

    reads = ("loc", "log_scale")
    explicit_term_is_zero = True

    def likelihood(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> tuple[Array, Statistics]:
        points, scale = self.rows(xp, data, noise)
        variance = xp.sum(self.means(xp, xp.exp(2.0 * data["log_scale"])), axis=-1)
        best = self.log_joint(xp, data, points, self.means(xp, data["loc"]), variance[:, None])
        log_likelihood, share = log_sum_exp(xp, best)
        found, means = self.statistics(xp, points, scale, share), self.means(xp, z)
        # At loc, the log joint minus log r is `log_likelihood` for every k. From there, f is quadratic.
        there = found.square - xp.sum(self._cross(xp, found, self.means(xp, data["loc"])), axis=(-2, -1))
        here = found.square - xp.sum(self._cross(xp, found, means), axis=(-2, -1))
        moved = here - there - xp.sum(found.count * variance, axis=-1)
        value = scale * xp.sum(log_likelihood, axis=-1) - 0.5 * xp.exp(-2.0 * data["log_sigma"]) * moved
        return value, found

    def _cross(self, xp: Any, found: Statistics, means: Array) -> Array:
        """Return the terms of Σ r |x − μ|² that depend on μ, negated, for each coordinate [..., K, P]."""
        return (2.0 * found.total - found.count[..., None] * means) * means

    def hessian_product(self, xp: Any, data: Arrays, z: Array, vector: Array, noise: Arrays) -> Array:
        count = self.likelihood(xp, data, z, noise)[1].count
        bent = xp.reshape(count[..., None] * self.means(xp, vector), vector.shape)
        return -xp.exp(-2.0 * data["log_sigma"]) * bent - vector * xp.exp(-2.0 * data["log_tau"])

    def local_terms(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        """Return the terms of f by coordinate, without the terms that contain no coordinate."""
        return self._terms(xp, data, z, self.likelihood(xp, data, z, noise)[1])

    def _terms(self, xp: Any, data: Arrays, z: Array, found: Statistics) -> Array:
        cross = xp.reshape(self._cross(xp, found, self.means(xp, z)), z.shape)
        return 0.5 * xp.exp(-2.0 * data["log_sigma"]) * cross + self.log_prior(xp, data, z)

    def replaced(self, backend: Backend, data: Arrays, z: Array, replacement: Array, noise: Arrays) -> Array:
        xp = backend.xp
        value, found = self.likelihood(xp, data, z, noise)
        whole = value + xp.sum(self.log_prior(xp, data, z), axis=-1)
        return whole[..., None] - self._terms(xp, data, z, found) + self._terms(xp, data, replacement, found)


@dataclass(frozen=True)
class Joint(MixtureOfMeans):
    """f with z_i sampled along with the means, so that responsibilities are 0 or 1. It provides only values of f.

    For a minibatch, the log joints of all points are computed, and those of its rows weighted by N/B.
    """

    gradient = None  # type: ignore[assignment]

    def split(self, data: Arrays, z: Array) -> tuple[Array, Array]:
        """Split z into the means [..., K P] and the one-hot choices [..., N K]."""
        numbers = self.components * data["points"].shape[1]
        return z[..., :numbers], z[..., numbers:]

    def width(self, data: Arrays, dimension: int) -> int:
        size = data["points"].shape[0]
        return max(dimension, size * data["batch"].shape[0] if "batch" in data else 1)

    def value(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        means = self.split(data, z)[0]
        return self.likelihood(xp, data, z, noise)[0] + xp.sum(self.log_prior(xp, data, means), axis=-1)

    def likelihood(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> tuple[Array, Statistics]:
        points = data["points"]
        means, choices = self.split(data, z)
        share = xp.matrix_transpose(xp.reshape(choices, (*choices.shape[:-1], points.shape[0], self.components)))
        if "rows" in noise:
            weight = row_weights(xp, noise["rows"], points[:, 0])
            share = share * weight[:, None, None, :]
        joint = self.log_joint(xp, data, points, self.means(xp, means))
        return xp.sum(share * joint, axis=(-2, -1)), self.statistics(xp, points, 1.0, share)

    def model_pullback(self, xp: Any, data: Arrays, z: Array, cotangent: Array, noise: Arrays) -> Arrays:
        found, means = self.likelihood(xp, data, z, noise)[1], self.split(data, z)[0]
        return self.pullback_of(xp, data, means, found, cotangent)


def row_weights(xp: Any, rows: Array, like: Array) -> Array:
    """Return the weight of every row of the data: N/B for the rows of a minibatch, else 0.

    Parameters
    ----------
    xp
        Array API namespace.
    rows
        Row numbers [R, B].
    like
        Array [N] that gives size and dtype.
    """
    everyone = xp.cumulative_sum(xp.ones_like(like)) - 1.0
    found = xp.sum(xp.astype(rows[:, :, None] == everyone, like.dtype), axis=1)
    return found * (like.shape[0] / rows.shape[1])
