"""Thermodynamic variational objective: a Riemann sum of the thermodynamic integral of log p(x), by weighted samples.

Approximates   ∇ Σ_j (β_{j+1} − β_j) E_{π_j}[log w],     π_j ∝ q_λ w^{β_j},  w = p(x, z)/q_λ(z),  0 = β_0 < … < β_J = 1
with           Σ_j (β_{j+1} − β_j) Σ_k w̄_jk (∇ log w_k + (log w_k − m_j) ∇ log (q_λ w^{β_j})(z_k)),
               w̄_jk = w_k^{β_j}/Σ_i w_i^{β_j},  m_j = Σ_k w̄_jk log w_k,  z_1, …, z_K ~ q_λ
requires       log q_λ differentiable in λ; only values of p. Biased.

The objective is a lower bound of log p(x), the ELBO for J = 1. It is neither the ELBO nor L_K for J > 1, and weighting
K samples has a bias of order 1/K in addition: for J = 1 the expectation is (1 − 1/K) times the ELBO's gradient in λ.
The inner β are equally spaced in log β, from `smallest` to 1.

Source: Masrani, Le & Wood 2019, equations 5, 9 and 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.estimator import Blocks, Requires, spread
from gradmeter.estimators.expectation import Array, relative_weights
from gradmeter.estimators.importance_weighted import Groups, ImportanceWeighted
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class Thermodynamic(ImportanceWeighted):
    """The estimator of the thermodynamic objective with J = `partitions`, a left Riemann sum."""

    name: ClassVar[str] = "thermodynamic"
    summary: ClassVar[str] = "thermodynamic variational objective by the score function of weighted samples; biased"
    requires: ClassVar[Requires] = Requires(("score", "score_identity"))
    biased: ClassVar[str | None] = "differentiates another bound, by weights that sum to 1: biased of order 1/K besides"

    partitions: int = option(2, "J, the number of terms of the sum", minimum=1, maximum=1000)
    smallest: float = option(0.1, "β_1, the first one above 0", above=0.0, below=1.0)

    def family_gradient(self, groups: Groups) -> Blocks:
        score = groups.expectation.family.score(groups.backend, groups.parameters, groups.z, *groups.logs)
        signal = sum(
            width * weights * ((1.0 - beta) * away - 1.0) for width, beta, weights, away in self._terms(groups)
        )
        return groups.mean({name: spread(groups.flat(signal), s) * s for name, s in score.items()})

    def model_weights(self, groups: Groups) -> Array:
        terms = self._terms(groups)
        return groups.flat(sum(width * weights * (1.0 + beta * away) for width, beta, weights, away in terms))

    def _terms(self, groups: Groups) -> list[tuple[float, float, Array, Array]]:
        """Return β_{j+1} − β_j, β_j, and of all samples w̄_j and log w − m_j [R, S, K]."""
        xp, log_weights = groups.backend.xp, groups.log_weights
        inner = [self.smallest ** (1.0 - j / (self.partitions - 1)) for j in range(self.partitions - 1)]
        found, betas = [], [0.0, *inner, 1.0]
        for j, beta in enumerate(betas[:-1]):
            relative, _ = relative_weights(xp, beta * log_weights)
            weights = relative / xp.sum(relative, axis=-1, keepdims=True)
            away = log_weights - xp.sum(weights * log_weights, axis=-1, keepdims=True)
            found.append((betas[j + 1] - beta, beta, weights, away))
        return found
