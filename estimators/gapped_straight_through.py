"""Gapped straight-through: the derivative of a softmax whose logits agree with the sample.

Approximates   ∇_λ E_{q_λ}[f(z)],  z one-hot with probabilities softmax(ℓ)
with           (1/S) Σ_s ∇f(z_s) · ∂softmax(ℓ′_s/T)/∂λ,     ℓ′_s = ℓ + m(z_s, ℓ) with m held fixed
requires       ∇f at the states of z; choices with logits ℓ. Biased.

m raises the chosen logit to max ℓ and lowers each other logit to at most max ℓ − κ, where κ is the gap: so the sample
is the largest entry of the softmax, without the noise of a Gumbel-softmax. For z = 0 or 1 the estimate with respect to
the logit l is f′(z) σ(l′/T) σ(−l′/T)/T with |l′| = max(κ, (2z − 1) l).

Source: Fan, Chi, Rudnicky & Ramadge 2022, section 3.
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
class GappedStraightThrough(HardSlope):
    """The gapped straight-through estimator."""

    name: ClassVar[str] = "gapped-straight-through"
    summary: ClassVar[str] = "∇f at a sample times the derivative of a softmax that agrees with it; biased"
    biased: ClassVar[str | None] = "a jump is replaced with a slope: biased, at any temperature and gap"

    temperature: float = option(1.0, "T of the softmax that is differentiated", above=0.0)
    gap: float = option(1.0, "κ, by how much the chosen logit exceeds the others at least", minimum=0.0)

    def through(
        self, backend: Backend, family: Capable, parameters: Blocks, noise: dict[str, Array], z: Array, slope: Array
    ) -> Blocks:
        relaxation = family.relaxation()
        soft = relaxation.soft(backend, relaxation.gapped(backend, parameters, z, self.gap), self.temperature)
        along = relaxation.soft_pullback(backend, soft, self.temperature, slope)
        return relaxation.pathwise(backend, parameters, along)
