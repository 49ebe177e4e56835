"""ReinMax: straight-through of second order, by Heun's method between the states.

Approximates   ∇_λ E_{q_λ}[f(z)],  z one-hot with probabilities π = softmax(ℓ)
with           (1/S) Σ_s ∇f(z_s) · (2 J(π_s) − ½ J(π)) ∂ℓ/∂λ,     π_s = ½ (z_s + softmax(ℓ/T)), J(p) = diag(p) − p pᵀ
requires       ∇f at the states of z; choices with logits ℓ. Biased.

For T = 1 the expectation has (f(z) − f(z′)) replaced with ½ (∇f(z) + ∇f(z′)) · (z − z′), so it is exact if f is
quadratic in each choice. For z = 0 or 1 the estimate with respect to the logit is then ½ f′(z) (1 − p) if z = 1 and
½ f′(z) p if z = 0.

Source: Liu, Dong, Liu, Yu & Gao 2023, algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks
from gradmeter.estimators.expectation import Array
from gradmeter.estimators.families.capabilities import Capable
from gradmeter.estimators.options import option
from gradmeter.estimators.straight_through import HardSlope


@dataclass(frozen=True)
class ReinMax(HardSlope):
    """The ReinMax estimator."""

    name: ClassVar[str] = "reinmax"
    summary: ClassVar[str] = "straight-through of second order: exact for quadratic f at temperature=1; biased"
    biased: ClassVar[str | None] = "f(z) − f(z′) is replaced with the mean of two slopes: biased unless f is quadratic"

    temperature: float = option(1.0, "T of the probabilities that are averaged with the sample", above=0.0)

    def through(
        self, backend: Backend, family: Capable, parameters: Blocks, noise: dict[str, Array], z: Array, slope: Array
    ) -> Blocks:
        relaxation = family.relaxation()
        location = relaxation.location(backend, parameters)
        mean, softened = (relaxation.soft(backend, location, t) for t in (1.0, self.temperature))
        middle = 0.5 * (z + softened)
        along = 2.0 * relaxation.soft_pullback(backend, middle, 1.0, slope)
        along = along - 0.5 * relaxation.soft_pullback(backend, mean, 1.0, slope)
        return relaxation.pathwise(backend, parameters, along)
