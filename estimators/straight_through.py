"""Straight-through: the derivative of the sample is replaced by that of its mean.

Approximates   ∇_λ E_{q_λ}[f(z)]
with           (1/S) Σ_s ∇f(z_s) · ∂μ/∂λ,     z_s ~ q_λ, μ = E z
requires       ∇f at the states of z; μ differentiable in λ. Biased: for z = 0 or 1 the estimate with respect to the
               logit is f′(z) p (1 − p), where (f(1) − f(0)) p (1 − p) would be exact; for f = (z − t)² the bias is
               (2p − 1) p (1 − p).

Source: Bengio, Léonard & Courville 2013.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, mean_over_samples
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families.capabilities import Capable
from gradmeter.estimators.gumbel_softmax import less_score


@dataclass(frozen=True)
class HardSlope(Estimator):
    """The base of estimators that multiply ∇f at a sample with a derivative that stands for that of the sample."""

    requires: ClassVar[Requires] = Requires(("relaxation", "score"), ("gradient",))

    @abstractmethod
    def through(
        self, backend: Backend, family: Capable, parameters: Blocks, noise: dict[str, Array], z: Array, slope: Array
    ) -> Blocks:
        """Return the slope ∇f(z) [R, S, D] times the derivative that stands for ∂z/∂λ, by block, per sample."""

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        family = expectation.family
        z = family.sample(backend, parameters, noise)
        slope = expectation.gradient(backend, parameters, z, noise)
        gradients = self.through(backend, family, parameters, noise, z, slope)
        gradients = less_score(backend, expectation, parameters, z, gradients)
        return {name: mean_over_samples(backend.xp, gradient) for name, gradient in gradients.items()}


@dataclass(frozen=True)
class StraightThrough(HardSlope):
    """The straight-through estimator: ∇f at the sample times the derivative of its mean."""

    name: ClassVar[str] = "straight-through"
    summary: ClassVar[str] = "∇f at a sample times the derivative of the mean; biased"
    requires: ClassVar[Requires] = Requires(("expected", "score"), ("gradient",))
    biased: ClassVar[str | None] = "f(1) − f(0) is replaced with a slope of f: biased unless f is linear"

    def through(
        self, backend: Backend, family: Capable, parameters: Blocks, noise: dict[str, Array], z: Array, slope: Array
    ) -> Blocks:
        return family.expected_pathwise(backend, parameters, slope)
