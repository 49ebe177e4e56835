"""Importance-weighted bound of z ~ N(μ, I), x ~ N(z, I), q(z | x) = N(A x + b, ⅔ I), for one data point x.

The posterior is N((x + μ)/2, I/2). For one x, the mean A x + b of q is one vector, `loc`; ∇_b is ∇_loc and ∇_A is
∇_loc xᵀ, with the same signal-to-noise ratio. μ is the model's parameter θ, `prior_mean`. L_K ≤ log p(x), with equality
for every K if q is the posterior; the bound becomes tighter as K grows.

Source: Rainforth, Kosiorek, Le, Maddison, Igl, Wood & Teh 2018, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors
from gradmeter.bench.problems.linear_gaussian.exact import exact_bound
from gradmeter.bench.problems.options import differentiate_option
from gradmeter.bench.problems.problem import LOG_2PI, Exact, Problem, exact_normal
from gradmeter.estimators import Integrand
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.options import option

#: The variance of q.
VARIANCE = 2.0 / 3.0


@dataclass(frozen=True)
class JointDensity(Integrand):
    """log N(z; μ, I) + log N(x; z, I), with x as `observed` [D] and the model's parameter θ = μ as `prior_mean` [D]."""

    dimension: int

    def model_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"prior_mean": (self.dimension,)}

    def _terms(self, data: Arrays, z: Array) -> Array:
        """Return the terms of all coordinates [..., D]."""
        away, left = z - data["prior_mean"], data["observed"] - z
        return -0.5 * (away * away + left * left) - LOG_2PI

    def value(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        return xp.sum(self._terms(data, z), axis=-1)

    def gradient(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        return data["prior_mean"] + data["observed"] - 2.0 * z

    def hessian_product(self, xp: Any, data: Arrays, z: Array, vector: Array, noise: Arrays) -> Array:
        return -2.0 * vector

    def replaced(self, backend: Backend, data: Arrays, z: Array, replacement: Array, noise: Arrays) -> Array:
        terms = self._terms(data, z)
        return backend.xp.sum(terms, axis=-1, keepdims=True) - terms + self._terms(data, replacement)

    def local_terms(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        return self._terms(data, z)

    def model_pullback(self, xp: Any, data: Arrays, z: Array, cotangent: Array, noise: Arrays) -> Arrays:
        moved = cotangent[..., None] * (z - data["prior_mean"])
        return {"prior_mean": xp.sum(moved, axis=1)}


@dataclass(frozen=True)
class LinearGaussian(Problem):
    """Importance-weighted bound with λ = `loc`, `log_scale` (log σ) and θ = `prior_mean` (μ), all [D]."""

    name: ClassVar[str] = "linear-gaussian"
    summary: ClassVar[str] = "importance-weighted bound of z ~ N(μ, I), x ~ N(z, I): Rainforth et al. 2018"
    entropy = "sampled"

    importance_samples: int = option(
        1, "K, the importance samples of the bound; 1 is the ELBO", minimum=1, maximum=100_000
    )
    dim: int = option(20, "D, coordinates of x and of z", minimum=1, maximum=1_000_000)
    perturbation: float = option(
        0.01, "standard deviation of loc about the posterior's mean", minimum=0.0, maximum=1000.0
    )
    start: int = option(0, "a seed that chooses μ, x and loc", minimum=0)
    differentiate: str = differentiate_option()

    @property
    def dimension(self) -> int:
        return self.dim

    @property
    def integrand(self) -> JointDensity:
        return JointDensity(self.dim)

    def drawn(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw μ, x and loc [D]."""
        stream = np.random.Generator(np.random.PCG64(self.start))
        prior, moved, left = stream.standard_normal((3, self.dim))
        observed = prior + math.sqrt(2.0) * moved
        return prior, observed, 0.5 * (prior + observed) + self.perturbation * left

    def data(self) -> Vectors:
        return {"observed": self.drawn()[1]}

    def parameters(self) -> Vectors:
        prior, _, loc = self.drawn()
        return {"loc": loc, "log_scale": np.full(self.dim, 0.5 * math.log(VARIANCE)), "prior_mean": prior}

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Return the exact values, or None for K > 1 if σ differs between coordinates.

        They are in closed form for K = 1, and by quadrature for K > 1.
        """
        loc, scale, prior = parameters["loc"], np.exp(parameters["log_scale"]), parameters["prior_mean"]
        _, observed, _ = self.drawn()
        if self.importance_samples > 1:
            if np.ptp(scale) > 1e-15 * scale.max():
                return None
            return exact_bound(self.importance_samples, loc, float(scale[0]), prior, observed)
        # log p − log q is a quadratic in each ε: Hermite moments E f = m_0, E f ε = m_1, E f (ε² − 1) = m_2.
        away, left = loc - prior, observed - loc
        constant = -0.5 * (away**2 + left**2) - LOG_2PI - scale**2 + parameters["log_scale"] + 0.5 * LOG_2PI + 0.5
        zero = np.zeros_like(loc)
        hermite = {0: float(constant.sum()), 1: scale * (left - away), 2: 1.0 - 2.0 * scale**2, 4: zero}
        exact = exact_normal(scale, hermite, "closed-form")
        return Exact({**exact.gradient, "prior_mean": away}, exact.source, exact.objective, exact.optimal_baseline)

    def optimum(self) -> Vectors:
        """Return the λ at which q is the posterior and the μ that maximises log p(x)."""
        _, observed, _ = self.drawn()
        return {
            "loc": observed,
            "log_scale": np.full(self.dim, 0.5 * math.log(0.5)),
            "prior_mean": observed.copy(),
        }
