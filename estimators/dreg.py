"""Doubly reparameterised gradient (DReG) of the importance-weighted bound.

Approximates   ∇_λ E[log (1/K) Σ_k w_k],     w_k = p(x, z_k)/q_λ(z_k)
with           Σ_k w̃_k² ∂ log w_k/∂z_k · ∂t(ε_k, λ)/∂λ,     ε_k ~ s(ε),  z_k = t(ε_k, λ),  w̃_k = w_k / Σ_j w_j
requires       log p differentiable in z; a differentiable sample path t; E of a smooth g times the score = E of its
               path derivative, so a density that is 0 at the ends of its support.

The score term of `iwae` has the weight w̃_k, a function of z_k. Reparameterising that term once more subtracts w̃_k −
w̃_k² from the weight w̃_k of the path derivative. The signal-to-noise ratio rises as K^½. For K = 1 this is sticking
the landing. The identity is about q, so it does not apply to a model's θ, whose gradient keeps the weights w̃_k.

Source: Tucker, Lawson, Gu & Maddison 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.estimator import Blocks, Requires
from gradmeter.estimators.importance_weighted import Groups, ImportanceWeighted, along_paths


@dataclass(frozen=True)
class Dreg(ImportanceWeighted):
    """The doubly reparameterised estimator of the importance-weighted bound."""

    name: ClassVar[str] = "dreg"
    summary: ClassVar[str] = "importance-weighted bound, doubly reparameterised: squared weights, no score"
    requires: ClassVar[Requires] = Requires(("pathwise", "score_identity"), ("gradient",))

    def family_gradient(self, groups: Groups) -> Blocks:
        return along_paths(groups, groups.normalised * groups.normalised)
