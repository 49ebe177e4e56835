"""The negative-binomial distribution: failures before the r-th success, for any r > 0, coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig, MeanField
from gradmeter.estimators.families.gamma import rising_factorial
from gradmeter.estimators.families.poisson import DISCRETE, reached, stirling
from gradmeter.estimators.families.relaxation import logit, sigmoid
from gradmeter.estimators.families.support_and_tails import SupportAndTails, Tail
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

#: The largest r, the smallest p, and the largest count: the probability of larger counts is below 1e-22.
LARGEST, SMALLEST, MOST = 10.0, 0.3, 256


@dataclass(frozen=True)
class NegativeBinomial(MeanField):
    """The negative-binomial family, with probability Γ(z + r)/(Γ(r) z!) pʳ (1 − p)ᶻ, by the inverse CDF up to `MOST`.

    Parameters: `log_successes` [D], log r, and `logits` [D], log p/(1 − p) of success, both unconstrained. It is a
    Poisson distribution whose rate has a gamma distribution of shape r and rate p/(1 − p).
    """

    name: ClassVar[str] = "negative-binomial"
    summary: ClassVar[str] = "failures before the r-th success, for real r; parameters log_successes, logits"
    blocks: ClassVar[tuple[str, ...]] = ("log_successes", "logits")
    unsupported: ClassVar[dict[str, str]] = {
        "pathwise": DISCRETE,
        "log_density_gradient": DISCRETE,
        "entropy_gradient": "its entropy has no closed form",
    }

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        successes: Values = option(2.0, "r of every coordinate", above=0.0, maximum=LARGEST, per="coordinate")
        probability: Values = option(
            0.5, "of success, for every coordinate", minimum=SMALLEST, below=1.0, per="coordinate"
        )

        @property
        def family(self) -> Family:
            return NegativeBinomial()

        def parameters(self, dimension: int) -> Blocks:
            return {
                "log_successes": self.each(dimension, math.log, "successes"),
                "logits": self.each(dimension, logit, "probability"),
            }

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("uniform", (*sample_shape, dimension))}

    def _cumulative(self, backend: Backend, parameters: Blocks) -> Array:
        """Return F(0), F(1), … up to the largest tabulated count [..., D, MOST]."""
        k = backend.xp.astype(backend.asarray(range(MOST), None), parameters["logits"].dtype)
        expanded = {name: values[..., None] for name, values in parameters.items()}
        passed = backend.xp.cumulative_sum(backend.xp.exp(self.log_densities(backend, expanded, k)), axis=-1)
        return passed / passed[..., -1:]  # otherwise rounding may leave it below 1, and u above it

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        return reached(backend.xp, self._cumulative(backend, parameters), noise["base"])

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        return {"base": self._cumulative(get("numpy"), parameters)}

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp, special, logits = backend.xp, backend.special, parameters["logits"]
        r, nothing = xp.exp(parameters["log_successes"]), xp.zeros_like(logits)
        ways = special.gammaln(z + r) - special.gammaln(r) - special.gammaln(z + 1.0)
        return ways - r * xp.logaddexp(nothing, -logits) - z * xp.logaddexp(nothing, logits)

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return r (ψ(z + r) − ψ(r) + log p) and r (1 − p) − z p."""
        xp, digamma, logits = backend.xp, backend.special.digamma, parameters["logits"]
        r, p = xp.exp(parameters["log_successes"]), sigmoid(xp, logits)
        log_p = -xp.logaddexp(xp.zeros_like(logits), -logits)
        by_r = r * (digamma(z + r) - digamma(r) + log_p)
        return {"log_successes": by_r, "logits": r * sigmoid(xp, -logits) - z * p}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        r, logits = np.exp(parameters["log_successes"]), parameters["logits"]
        mean = r * np.exp(-logits)
        width = np.sqrt(mean * (1.0 + np.exp(-logits))) + 0.1
        tail = Tail(1.0, np.logaddexp(0.0, logits))
        return SupportAndTails(0.0 * mean, mean, 0.0 * mean + 10 * MOST, width, above=tail, discrete=True)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return Σ_k S(n, k) r (r + 1) … (r + k − 1) ((1 − p)/p)ᵏ with Stirling numbers of the second kind."""
        r, ratio = np.exp(parameters["log_successes"]), np.exp(-parameters["logits"])
        moment, by_r, by_logit = np.zeros_like(r), np.zeros_like(r), np.zeros_like(r)
        for k, s in enumerate(stirling(order)):
            rising, slope = rising_factorial(r, k)
            term = s * rising * ratio**k
            moment, by_r, by_logit = moment + term, by_r + r * slope * term, by_logit - k * term
        return moment, {"log_successes": by_r, "logits": by_logit}
