"""Gaussian mixture with its likelihood as the objective: model parameters θ, and q over the components of the points.

    ELBO(λ, θ) = E_{q_λ(z)}[Σ_i log π_{z_i} N(x_i | μ_{z_i}, diag σ_{z_i}²) − log q_λ(z)] ≤ log p(x; θ)

If q is the posterior, the two sides are equal, and so are their gradients in θ (Fisher's identity): EM's E-step yields
the exact gradient of the likelihood. z is one-hot and f is linear in z, so the exact values are in closed form for any
q.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors, log_softmax
from gradmeter.bench.problems.minibatch import OfRows
from gradmeter.bench.problems.mixtures.em import ExpectationMaximisation
from gradmeter.bench.problems.mixtures.joint import row_weights
from gradmeter.bench.problems.mixtures.mixture import Mixture, reached
from gradmeter.bench.problems.options import batch_option, differentiate_option, entropy_option
from gradmeter.bench.problems.problem import LOG_2PI, Exact
from gradmeter.estimators import FamilyConfig
from gradmeter.estimators.families.categorical import Categorical
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class CompleteData(OfRows):
    """log p(x, z; θ), with z [..., N K] one-hot for each point.

    `data` holds points [N, P], and `batch` [B] if minibatches are drawn. θ is `means`, `log_scales` [K, P] and
    `weight_logits` [K].
    """

    rows_of: ClassVar[str] = "points"

    components: int
    dimension: int

    def width(self, data: Arrays, dimension: int) -> int:
        size = data["points"].shape[0]
        return max(dimension, size * data["batch"].shape[0] if "batch" in data else 1)

    def model_shapes(self) -> dict[str, tuple[int, ...]]:
        each = (self.components, self.dimension)
        return {"means": each, "log_scales": each, "weight_logits": (self.components,)}

    def _log_joint(self, xp: Any, data: Arrays) -> Array:
        """Return log π_k N(x_i | μ_k, σ_k²) [N, K]."""
        away = (data["points"][:, None, :] - data["means"]) * xp.exp(-data["log_scales"])
        log_densities = -0.5 * away * away - data["log_scales"] - 0.5 * LOG_2PI
        return xp.sum(log_densities, axis=-1) + log_softmax(xp, data["weight_logits"])

    def _weighted(self, xp: Any, noise: Arrays, per_point: Array) -> Array:
        """Return `per_point` [N, K], or for minibatches N/B times its rows and 0 for others [R, N, K]."""
        if "rows" not in noise:
            return per_point
        return row_weights(xp, noise["rows"], per_point[:, 0])[..., None] * per_point

    def value(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        return xp.sum(z * self.gradient(xp, data, z, noise), axis=-1)

    def gradient(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        """Return the log joints, which do not depend on z."""
        each = self._weighted(xp, noise, self._log_joint(xp, data))
        return xp.zeros_like(z) + xp.reshape(each, (-1, 1, z.shape[-1]))

    def hessian_product(self, xp: Any, data: Arrays, z: Array, vector: Array, noise: Arrays) -> Array:
        return xp.zeros_like(vector)

    def model_pullback(self, xp: Any, data: Arrays, z: Array, cotangent: Array, noise: Arrays) -> Arrays:
        """Return the cotangent times the model gradients, summed over samples.

        They are Σ z_ik (x_i − μ_k)/σ_k², Σ z_ik ((x_i − μ_k)²/σ_k² − 1) and Σ z_ik − π_k Σ_k Σ z_ik.
        """
        points, means = data["points"], data["means"]
        chosen = xp.reshape(cotangent[..., None] * z, (*z.shape[:-1], points.shape[0], self.components))
        chosen = xp.sum(chosen, axis=1)
        chosen = self._weighted(xp, noise, xp.ones_like(chosen[0, ...])) * chosen
        across = xp.matrix_transpose(chosen)  # [R, K, N]
        count = xp.sum(across, axis=-1)
        total, square = xp.matmul(across, points), xp.matmul(across, points * points)
        precision = xp.exp(-2.0 * data["log_scales"])
        first = total - count[..., None] * means
        second = square - 2.0 * means * total + count[..., None] * means * means
        weights = xp.exp(log_softmax(xp, data["weight_logits"]))
        return {
            "means": precision * first,
            "log_scales": precision * second - count[..., None],
            "weight_logits": count - weights * xp.sum(count, axis=-1, keepdims=True),
        }


@dataclass(frozen=True)
class GaussianMixture(Mixture):
    """ELBO with λ = `logits` [N, K] and θ = `means`, `log_scales` [K, P], `weight_logits` [K], in closed form."""

    name: ClassVar[str] = "gaussian-mixture"
    summary: ClassVar[str] = "likelihood of a Gaussian mixture's parameters, and the ELBO of a free categorical q(z)"

    dataset: str = option("iris", "synthetic, iris, wine or digits, or an .npy or .csv file of points")
    dim: int = option(2, "P, principal components kept (coordinates drawn, if synthetic)", minimum=1, maximum=1000)
    components: int = option(3, "K", minimum=2, maximum=1000)
    size: int = option(500, "points, if synthetic", minimum=1, maximum=10_000_000)
    at: str = option("start", "means, scales and weights: where EM starts, or ends", choices=("start", "em"))
    responsibilities: str = option(
        "posterior",
        "q(z): the posterior, so that the ELBO is the likelihood, or uniform",
        choices=("posterior", "uniform"),
    )
    start: int = option(0, "a seed that chooses where EM starts", minimum=0)
    batch: int | None = batch_option("points")
    entropy: str = entropy_option()
    differentiate: str = differentiate_option()

    @property
    def q(self) -> FamilyConfig:  # type: ignore[override]
        return Categorical.Config(categories=self.components)

    @property
    def dimension(self) -> int:
        return self.rows * self.components

    @property
    def integrand(self) -> CompleteData:
        return CompleteData(self.components, self.dim)

    def parameters(self) -> Vectors:
        model = by_em(self.points().tobytes(), self.dim, self.components, self.start, self.at)
        return self.with_posterior(model) if self.responsibilities == "posterior" else {**super().parameters(), **model}

    def with_posterior(self, model: Vectors) -> Vectors:
        """Return θ with the λ for which q(z) is the posterior."""
        logits = self.integrand._log_joint(np, {"points": self.points(), **model})
        return {"logits": logits - logits.max(axis=1, keepdims=True), **model}

    def exact_at(self, parameters: Vectors) -> Exact:
        """Return the exact values: f is linear in z, whose mean is softmax(logits)."""
        bound, own = self.expectation().at(parameters)
        log_q = log_softmax(np, own["logits"])
        q, joint = np.exp(log_q), self.integrand._log_joint(np, bound.data)
        away = joint - log_q
        inner = (q * away).sum(axis=1, keepdims=True)
        one = np.ones((1, 1))
        model = bound.integrand.model_pullback(np, bound.data, q.reshape(1, 1, -1), one, {})
        return Exact(
            {"logits": q * (away - inner), **{name: found[0] for name, found in model.items()}},
            "closed-form",
            float(inner.sum() if self.entropy == "sampled" else (q * joint).sum()),
        )


@functools.lru_cache(maxsize=8)
def by_em(points: bytes, dimension: int, components: int, seed: int, where: str) -> Vectors:
    """Return θ at EM's starting point or fixed point."""
    method = ExpectationMaximisation(np.frombuffer(points).reshape(-1, dimension), components, seed)
    return reached(method, where)
