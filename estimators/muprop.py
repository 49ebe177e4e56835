"""MuProp: a score function whose baseline is a first-order Taylor expansion of f about the mean.

Approximates   ∇_λ E_{q_λ}[f(z)]
with           (1/S) Σ_s (f(z_s) − h(z_s)) ∇_λ log q_λ(z_s) + ∇f(μ) · ∂μ/∂λ,     h(z) = f(μ) + ∇f(μ) · (z − μ), μ = E z
               or, with `baseline=leave-one-out`, f − h minus its mean over the other samples
requires       ∇f at the mean of z, between its states; μ differentiable in λ. Costs S + 2 evaluations.

With the coefficients of h held fixed, ∇_λ E h(z) = ∇f(μ) · ∂μ/∂λ, so the term that h removes is known exactly.

Source: Gu, Levine, Sutskever & Mnih 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, mean_over_samples
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.options import option
from gradmeter.estimators.score_function import FROM_OTHERS, check_baseline, combine


@dataclass(frozen=True)
class MuProp(Estimator):
    """The MuProp estimator; `baseline=leave-one-out` subtracts the mean of f − h over the other samples too."""

    name: ClassVar[str] = "muprop"
    summary: ClassVar[str] = "score function less a linear model of f about E z, whose part is exact"
    requires: ClassVar[Requires] = Requires(("score", "score_identity", "expected"), ("gradient",))

    baseline: str = option("none", "what is subtracted besides", choices=("none", "leave-one-out"))

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        check_baseline(self.baseline, num_samples)

    def smallest_num_samples(self) -> int:
        return FROM_OTHERS.get(self.baseline, 1)

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return num_samples + 2

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp, family = backend.xp, expectation.family
        z = family.sample(backend, parameters, noise)
        mean = xp.zeros_like(z[:, :1, :]) + family.expected(backend, parameters)  # shared by all samples of an estimate
        slope = expectation.gradient(backend, parameters, mean, noise)
        model = expectation.value(backend, parameters, mean, noise) + xp.sum(slope * (z - mean), axis=-1)
        value = expectation.value(backend, parameters, z, noise) - model
        score = family.score(backend, parameters, z)
        sampled = combine(backend, self.baseline, value, score, state)
        exact = family.expected_pathwise(backend, parameters, slope)
        return {name: gradient + mean_over_samples(xp, exact[name]) for name, gradient in sampled.items()}
