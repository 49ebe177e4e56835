"""VIMCO: score function of the importance-weighted bound, with each sample's baseline from the K − 1 others.

Approximates   ∇_λ E[log (1/K) Σ_k w_k],     w_k = p(x, z_k)/q_λ(z_k)
with           Σ_k (L̂ − L̂_−k − w̃_k) ∇_λ log q_λ(z_k),     L̂ = log (1/K) Σ_k w_k,  w̃_k = w_k / Σ_j w_j
requires       log q_λ differentiable in λ; only values of p.

L̂_−k is L̂ with w_k replaced by a mean of the other weights, `geometric` or `arithmetic`, so it does not depend on z_k.
The term −w̃_k is the derivative of L̂ at fixed samples. For K = 1 there are no other samples, and no baseline.

Source: Mnih & Rezende 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gradmeter.estimators.estimator import Blocks, Requires, spread
from gradmeter.estimators.expectation import Array
from gradmeter.estimators.importance_weighted import Groups, ImportanceWeighted
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class Vimco(ImportanceWeighted):
    """The score-function estimator of the importance-weighted bound; `baseline` chooses the mean in L̂_−k."""

    name: ClassVar[str] = "vimco"
    summary: ClassVar[str] = "importance-weighted bound by the score function, baselines from the K − 1 other samples"
    requires: ClassVar[Requires] = Requires(("score", "score_identity"))

    baseline: str = option(
        "geometric", "the mean of the others that stands for a weight", choices=("geometric", "arithmetic", "none")
    )

    def family_gradient(self, groups: Groups) -> Blocks:
        score = groups.expectation.family.score(groups.backend, groups.parameters, groups.z, *groups.logs)
        signal = groups.flat(self._above_baseline(groups)) - groups.normalised
        return groups.mean({name: spread(signal, s) * s for name, s in score.items()})

    def _above_baseline(self, groups: Groups) -> Array:
        """Return L̂ − L̂_−k [R, S, K]."""
        xp, size = groups.backend.xp, groups.size
        if size == 1 or self.baseline == "none":
            return groups.bound()[..., None] + xp.zeros_like(groups.log_weights)
        weights, top = groups.relative()
        total = xp.log(xp.mean(weights, axis=-1, keepdims=True))
        others = others_sum(xp, weights)
        if self.baseline == "arithmetic":
            return total - xp.log(others / (size - 1.0))
        standardised = groups.log_weights - top
        geometric = xp.exp((xp.sum(standardised, axis=-1, keepdims=True) - standardised) / (size - 1.0))
        return total - xp.log((others + geometric) / size)


def others_sum(xp: Any, values: Array) -> Array:
    """Return Σ_{j ≠ k} values_j along the last axis [..., K], as the sum of the values before and after k.

    Subtracting values_k from the total would leave only rounding error if values_k is nearly all of it.
    """

    def before(ordered: Array) -> Array:
        sums = xp.cumulative_sum(ordered[..., :-1], axis=-1)
        return xp.concat([xp.zeros_like(ordered[..., :1]), sums], axis=-1)

    return before(values) + xp.flip(before(xp.flip(values, axis=-1)), axis=-1)
