"""ARMS: antithetic REINFORCE of several samples, mutually negatively correlated by a copula.

Approximates   ∇_λ E_{q_λ}[f(z)],  z_i ~ Bernoulli(σ(l_i)) independent
with           Σ_s (f(z_s) − f̄)(z_s − p)/(S − 1) · 1/(1 − ρ) ∂l/∂λ,     f̄ the mean of f over the S samples,
               ρ_i the correlation of coordinate i of two samples
requires       binary coordinates, each with a logit; nothing of f; at least two samples.

For each coordinate, the uniform numbers of the S samples are v_s = (1 − d_s)^(S−1) with d ~ Dirichlet(1, …, 1), or
1 − v_s. Two of them are both below x with probability max(0, 2 x^(1/(S−1)) − 1)^(S−1), so with m = min(p, 1 − p) two
samples differ with probability 2 (m − max(0, 2 m^(1/(S−1)) − 1)^(S−1)) = 2 p (1 − p)(1 − ρ). Given that they differ in
coordinate i, the other coordinates of each have the distribution q, so leave-one-out over 1 − ρ is unbiased. For
S = 2 it is DisARM.

Source: Dimitriev & Zhou 2021 (ARMS with the Dirichlet copula).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, spread
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.families.capabilities import Capable
from gradmeter.estimators.families.relaxation import sigmoid
from gradmeter.estimators.noise import DrawnNoise, Noise


@dataclass(frozen=True)
class MutuallyAntithetic(Estimator):
    """The base of estimators whose samples come from the Dirichlet copula, in every coordinate apart."""

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        if num_samples < 2:
            raise NotApplicable(f"{self.name} needs at least 2 samples, not {num_samples}; use --samples 2")

    def smallest_num_samples(self) -> int:
        return 2

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        """Return the exponential numbers whose shares of their sum have the Dirichlet distribution."""
        return {"copula": Noise("exponential", (num_samples, dimension)), **expectation.noise_specs()}

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        raise NotApplicable(f"{self.name} jumps at values of ratios of its noise, not of single numbers")

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> Blocks:
        return self.estimate_and_samples(backend, expectation, parameters, noise, state)[0]


@dataclass(frozen=True)
class Arms(MutuallyAntithetic):
    """The ARMS estimator with the Dirichlet copula."""

    name: ClassVar[str] = "arms"
    summary: ClassVar[str] = "leave-one-out of mutually antithetic binary samples, over 1 − their correlation"
    requires: ClassVar[Requires] = Requires(("logits",))

    def estimate_and_samples(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> tuple[Blocks, Array, Array]:
        xp, family = backend.xp, expectation.family
        z = self._drawn(backend, family, parameters, noise["copula"])
        value, size = expectation.value(backend, parameters, z, noise), z.shape[1]
        logits = family.logits(backend, parameters)
        p, rest = sigmoid(xp, logits), sigmoid(xp, -logits)
        least = xp.where(p < rest, p, rest)
        away = value - xp.mean(value, axis=1, keepdims=True)
        covariance = xp.sum(spread(away, z) * (z - p), axis=1) / (size - 1.0)
        gradients = family.from_logits(backend, covariance * p * rest / differing(xp, least, size))
        return gradients, z, xp.zeros_like(value) + 1.0 / size

    def _drawn(self, backend: Backend, family: Capable, parameters: Blocks, exponential: Array) -> Array:
        """Return the samples [R, S, D], with the copula turned so that the rarer value is the antithetic one."""
        xp, log = backend.xp, log_copula(backend.xp, exponential)
        rare = family.logits(backend, parameters) <= 0.0
        return family.sample(backend, parameters, {"base": xp.where(rare, -xp.expm1(log), xp.exp(log))})


def log_copula(xp: Array, exponential: Array) -> Array:
    """Return the logarithms of mutually antithetic uniform numbers along axis 1, the samples."""
    share = exponential / xp.sum(exponential, axis=1, keepdims=True)
    return (exponential.shape[1] - 1.0) * xp.log1p(-share)


def differing(xp: Array, least: Array, size: int) -> Array:
    """Return the probability that of two mutually antithetic numbers the first is below `least`, the second above.

    Parameters
    ----------
    xp
        Array namespace.
    least
        Probabilities of at most ½.
    size
        S, on which the copula depends.
    """
    both = 2.0 * least ** (1.0 / (size - 1.0)) - 1.0
    return least - xp.where(both > 0.0, both, xp.zeros_like(both)) ** (size - 1.0)
