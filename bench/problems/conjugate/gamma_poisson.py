"""Gamma-Poisson model: counts y_i ~ Poisson(20 z_i) with prior z_i ~ Gamma(a, b); the posterior is gamma.

The counts are deaths by horse kick in the 14 corps of the Prussian army over the 20 years 1875 to 1894 (von
Bortkiewicz 1898), so z_i is the rate of corps i per year. q may be gamma or one of its subfamilies; the ELBO is exact
for each of them.
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
from gradmeter.estimators.families.gamma import Erlang
from gradmeter.estimators.families.logs import Logs
from gradmeter.estimators.options import option

#: Deaths in the corps G, I to XI, XIV and XV, in that order.
DEATHS = (16, 16, 12, 12, 8, 11, 17, 12, 7, 13, 15, 25, 24, 8)
YEARS = 20


class GammaPoissonIntegrand(Separable):
    """log p(y_i, z_i) = (A − 1) log z − B z + constant, where the posterior has concentration A and rate B."""

    reads_logs: ClassVar[bool] = True

    def term(self, xp: Any, data: Arrays, z: Array, logs: Logs | None = None) -> Array:
        log_z = logs.low if logs else xp.log(z)
        return data["power"] * log_z - data["rate"] * z + data["constant"]

    def derivative(self, xp: Any, data: Arrays, z: Array, logs: Logs | None = None) -> Array:
        return data["power"] / z - data["rate"]

    def curvature(self, xp: Any, data: Arrays, z: Array) -> Array:
        return -data["power"] / (z * z)


@dataclass(frozen=True)
class GammaPoisson(Conjugate):
    """ELBO of the gamma-Poisson model; for a gamma q, λ is `log_concentration`, `log_rate` [D]."""

    name: ClassVar[str] = "gamma-poisson"
    summary: ClassVar[str] = "ELBO of Poisson counts with a gamma prior on each rate (conjugate; exact in closed form)"
    integrand = GammaPoissonIntegrand()
    known_for = ("gamma",)

    q: FamilyConfig = family_option("gamma", "erlang", "exponential", "chi-squared")
    dim: int = option(14, "number of rates D: the first of the 14 corps", minimum=1, maximum=len(DEATHS))
    prior_concentration: float = option(1.0, "shape a of the prior of every rate", above=0.0, maximum=1e6)
    prior_rate: float = option(1.0, "rate b of the prior of every rate", above=0.0, maximum=1e6)

    def _posterior(self) -> tuple[np.ndarray, float]:
        """Return A [D] and B."""
        return self.prior_concentration + np.asarray(DEATHS[: self.dim], dtype=float), self.prior_rate + YEARS

    def data(self) -> Vectors:
        from scipy.special import gammaln  # slow to import

        a, b = self._posterior()
        constant = self.log_evidence() + a * np.log(b) - gammaln(a)
        return {"power": a - 1.0, "rate": np.full(self.dim, b), "constant": constant}

    def maximiser(self) -> Vectors:
        a, b = self._posterior()
        return {"log_concentration": np.log(a), "log_rate": np.full(self.dim, np.log(b))}

    def log_evidence(self) -> np.ndarray:
        """Return the negative binomial log probability of each count: log Γ(A)/(Γ(a) y!) + a log(b/B) + y log(20/B)."""
        from scipy.special import gammaln  # slow to import

        a, b = self._posterior()
        counts = a - self.prior_concentration
        ways = gammaln(a) - gammaln(self.prior_concentration) - gammaln(counts + 1.0)
        return ways + self.prior_concentration * np.log(self.prior_rate / b) + counts * np.log(YEARS / b)

    def divergence(self, parameters: Vectors) -> tuple[np.ndarray, Vectors, np.ndarray]:
        """Return KL(q ‖ posterior), its gradient and the entropy of q; q = Gamma(α, β), posterior Gamma(A, B).

        The divergence is (α − A) ψ(α) − log Γ(α) + log Γ(A) + A log(β/B) + α (B − β)/β.
        """
        from scipy.special import digamma, gammaln, polygamma  # slow to import

        a, b = self._posterior()
        alpha, beta = self._as_gamma(parameters)
        apart = (alpha - a) * digamma(alpha) - gammaln(alpha) + gammaln(a) + a * np.log(beta / b)
        by_alpha = alpha * ((alpha - a) * polygamma(1, alpha) + b / beta - 1.0)  # derivative in log α, as all below
        by_beta = a - alpha * b / beta
        gradient = {"log_concentration": by_alpha, "log_degrees": by_alpha, "log_rate": by_beta}
        entropy = alpha - np.log(beta) + gammaln(alpha) + (1.0 - alpha) * digamma(alpha)
        return apart + alpha * (b / beta - 1.0), gradient, entropy

    def _as_gamma(self, parameters: Vectors) -> tuple[np.ndarray, np.ndarray]:
        """Return the concentration α and rate β of q [D]."""
        ones = np.ones(self.dim)
        if "log_degrees" in parameters:
            return 0.5 * np.exp(parameters["log_degrees"]), 0.5 * ones
        if "log_concentration" in parameters:
            return np.exp(parameters["log_concentration"]), np.exp(parameters["log_rate"])
        events = self.family.events if isinstance(self.family, Erlang) else 1
        return events * ones, np.exp(parameters["log_rate"])
