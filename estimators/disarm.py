"""DisARM, also called U2G: ARM with the uniform numbers integrated out.

Approximates   ∇_λ E_{q_λ}[f(z)],  z_i ~ Bernoulli(σ(l_i)) independent
with           mean over pairs of ½ (f(z) − f(z′)) (z − z′) σ(|l|) ∂l/∂λ,     z = z(u) and z′ = z(1 − u)
requires       binary coordinates, each with a logit; nothing of f. Each pair is S = 2.

It is the conditional expectation of ARM given z and z′, so its variance is no greater.

Sources: Dong, Mnih & Tucker 2020; Yin, Ho, Yan, Qian & Zhou 2020 (U2G).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.arm import AntitheticPairs
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.expectation import Array
from gradmeter.estimators.families.relaxation import sigmoid


@dataclass(frozen=True)
class DisArm(AntitheticPairs):
    """The DisARM estimator, which weights the difference of a pair with ½ (z − z′) σ(|l|)."""

    name: ClassVar[str] = "disarm"
    summary: ClassVar[str] = "ARM with its uniform numbers integrated out; also known as U2G"

    def weight(self, backend: Backend, logits: Array, uniform: Array, difference: Array) -> Array:
        return 0.5 * difference * sigmoid(backend.xp, backend.xp.abs(logits))
