"""Beta-Bernoulli model: successes in trials with a beta prior on the success probability; the posterior is beta.

The data are the hits of 18 players in their first 45 at-bats of the 1970 season (Efron & Morris 1975), so z_i is the
batting average of player i.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors
from gradmeter.bench.problems.conjugate.conjugate import Conjugate
from gradmeter.bench.problems.options import family_option
from gradmeter.bench.problems.separable import Separable
from gradmeter.estimators import FamilyConfig
from gradmeter.estimators.families.logs import Logs, above_zero
from gradmeter.estimators.options import option

HITS = (18, 17, 16, 15, 14, 14, 13, 12, 11, 11, 10, 10, 10, 10, 10, 9, 8, 7)
TRIALS = 45


class BetaBernoulliIntegrand(Separable):
    """log p(y_i, z_i) = (A − 1) log z + (B − 1) log(1 − z) + constant, where the posterior is Beta(A, B)."""

    reads_logs: ClassVar[bool] = True

    def term(self, xp: Any, data: Arrays, z: Array, logs: Logs | None = None) -> Array:
        low, high = logs or (xp.log(z), xp.log1p(-z))
        return data["power"] * low + data["other_power"] * high + data["constant"]

    def derivative(self, xp: Any, data: Arrays, z: Array, logs: Logs | None = None) -> Array:
        rest = above_zero(xp, xp.exp(logs.high)) if logs else 1.0 - z
        return data["power"] / z - data["other_power"] / rest

    def curvature(self, xp: Any, data: Arrays, z: Array) -> Array:
        rest = 1.0 - z
        return -data["power"] / (z * z) - data["other_power"] / (rest * rest)


@dataclass(frozen=True)
class BetaBernoulli(Conjugate):
    """ELBO of the beta-Bernoulli model with q = Π Beta(α_i, β_i); λ is `log_alpha`, `log_beta` [D]."""

    name: ClassVar[str] = "beta-bernoulli"
    summary: ClassVar[str] = "ELBO of successes in trials with a beta prior (conjugate; exact in closed form)"
    integrand = BetaBernoulliIntegrand()
    known_for = ("beta",)

    q: FamilyConfig = family_option("beta")
    dim: int = option(18, "number of probabilities D: the first of the 18 players", minimum=1, maximum=len(HITS))
    prior_alpha: float = option(1.0, "α of the prior of every probability", above=0.0, maximum=1e6)
    prior_beta: float = option(1.0, "β of the prior of every probability", above=0.0, maximum=1e6)

    def _posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Return A and B [D]."""
        hits = np.asarray(HITS[: self.dim], dtype=float)
        return self.prior_alpha + hits, self.prior_beta + TRIALS - hits

    def data(self) -> Vectors:
        from scipy.special import betaln  # slow to import

        a, b = self._posterior()
        constant = np.full(self.dim, -betaln(self.prior_alpha, self.prior_beta))
        return {"power": a - 1.0, "other_power": b - 1.0, "constant": constant}

    def maximiser(self) -> Vectors:
        a, b = self._posterior()
        return {"log_alpha": np.log(a), "log_beta": np.log(b)}

    def log_evidence(self) -> np.ndarray:
        """Return log B(A, B)/B(α, β) of each coordinate, the evidence of the ordered sequence of trials."""
        from scipy.special import betaln  # slow to import

        return np.asarray(betaln(*self._posterior()) - betaln(self.prior_alpha, self.prior_beta))

    def divergence(self, parameters: Vectors) -> tuple[np.ndarray, Vectors, np.ndarray]:
        """Return KL(q ‖ posterior), its gradient and the entropy of q; q = Beta(α, β), posterior Beta(A, B).

        The divergence is log B(A, B)/B(α, β) + (α − A) ψ(α) + (β − B) ψ(β) + (A + B − α − β) ψ(α + β).
        """
        from scipy.special import betaln, digamma, polygamma  # slow to import

        a, b = self._posterior()
        alpha, beta = np.exp(parameters["log_alpha"]), np.exp(parameters["log_beta"])
        left, right, both = alpha - a, beta - b, alpha + beta
        apart = betaln(a, b) - betaln(alpha, beta)
        apart = apart + left * digamma(alpha) + right * digamma(beta) - (left + right) * digamma(both)
        shared = (left + right) * polygamma(1, both)
        gradient = {
            "log_alpha": alpha * (left * polygamma(1, alpha) - shared),
            "log_beta": beta * (right * polygamma(1, beta) - shared),
        }
        entropy = betaln(alpha, beta) - (alpha - 1.0) * digamma(alpha) - (beta - 1.0) * digamma(beta)
        return apart, gradient, entropy + (both - 2.0) * digamma(both)
