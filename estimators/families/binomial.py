"""The binomial distribution: z = 0, …, n successes of n trials, coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig, MeanField
from gradmeter.estimators.families.poisson import DISCRETE, reached, stirling
from gradmeter.estimators.families.relaxation import logit, sigmoid
from gradmeter.estimators.families.states import States
from gradmeter.estimators.families.support_and_tails import SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option


@dataclass(frozen=True)
class Binomial(MeanField):
    """The binomial family of n = `trials`, a static field, sampled by the inverse CDF.

    Parameter: `logits` [D], log p/(1 − p) of success.
    """

    name: ClassVar[str] = "binomial"
    summary: ClassVar[str] = "binomial distribution of a fixed number of trials; parameter logits (of success)"
    blocks: ClassVar[tuple[str, ...]] = ("logits",)
    unsupported: ClassVar[dict[str, str]] = {
        "pathwise": DISCRETE,
        "log_density_gradient": DISCRETE,
        "entropy_gradient": "its entropy has no closed form",
    }

    trials: int = 5

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        trials: int = option(5, "n, the number of trials", minimum=1, maximum=200)
        probability: Values = option(0.5, "of success, for every coordinate", above=0.0, below=1.0, per="coordinate")

        @property
        def family(self) -> Family:
            return Binomial(self.trials)

        def parameters(self, dimension: int) -> Blocks:
            return {"logits": self.each(dimension, logit, "probability")}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("uniform", (*sample_shape, dimension))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        return _successes(backend, parameters["logits"], noise["base"], self.trials)

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        """Return F(0), …, F(n − 1), and those of n − 1 trials for weak derivatives."""
        all_trials, fewer = (_cumulative(get("numpy"), parameters["logits"], n) for n in (self.trials, self.trials - 1))
        return {"base": all_trials, "negative": fewer, "positive": fewer}

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp, special, logits, n = backend.xp, backend.special, parameters["logits"], float(self.trials)
        choose = math.lgamma(n + 1.0) - special.gammaln(z + 1.0) - special.gammaln(n - z + 1.0)
        return choose + z * logits - n * xp.logaddexp(xp.zeros_like(logits), logits)

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return z − n p."""
        return {"logits": z - self.trials * sigmoid(backend.xp, parameters["logits"])}

    def dispersed(self, backend: Backend, parameters: Blocks, dispersion: float) -> Blocks:
        return {"logits": parameters["logits"] / dispersion}

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        names = ("negative",) if coupling else ("negative", "positive")
        return {"logits": {name: Noise("uniform", (*sample_shape, dimension)) for name in names}}

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return c = n p (1 − p), with N + 1 and N, where N has n − 1 trials; coupled, N is the same."""
        xp, logits, fewer = backend.xp, parameters["logits"], self.trials - 1
        negative = _successes(backend, logits, noise["negative"], fewer)
        positive = negative if coupling else _successes(backend, logits, noise["positive"], fewer)
        constant = self.trials * sigmoid(xp, logits) * sigmoid(xp, -logits)
        return {"logits": (constant, positive + 1.0, negative)}

    def states(self, dimension: int) -> States:
        return States(tuple((float(k),) for k in range(self.trials + 1)), dimension)

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        p = sigmoid(np, parameters["logits"])
        width = np.sqrt(self.trials * p * (1.0 - p)) + 0.1
        return SupportAndTails(0.0 * p, self.trials * p, 0.0 * p + self.trials, width, discrete=True)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return Σ_k S(order, k) n!/(n − k)! pᵏ with Stirling numbers; ∂logits multiplies terms by k (1 − p)."""
        p = sigmoid(np, parameters["logits"])
        rest, nothing = sigmoid(np, -parameters["logits"]), np.zeros_like(p)
        terms = [s * math.perm(self.trials, k) * p**k for k, s in enumerate(stirling(order))]
        return sum(terms, nothing), {"logits": sum((k * rest * term for k, term in enumerate(terms)), nothing)}


def _cumulative(backend: Backend, logits: Array, trials: int) -> Array:
    """Return F(0), …, F(n − 1) for n trials [..., D, n]."""
    xp = backend.xp
    of = range(trials + 1)
    choose = [math.lgamma(trials + 1.0) - math.lgamma(k + 1.0) - math.lgamma(trials - k + 1.0) for k in of]
    k, log = (xp.astype(backend.asarray(values, None), logits.dtype) for values in (of, choose))
    each = logits[..., None]
    passed = xp.cumulative_sum(xp.exp(log + k * each - trials * xp.logaddexp(xp.zeros_like(each), each)), axis=-1)
    return passed[..., :-1] / passed[..., -1:]  # otherwise rounding may leave the sum below 1, and u above it


def _successes(backend: Backend, logits: Array, uniform: Array, trials: int) -> Array:
    """Return how many of F(0), …, F(n − 1) are at most u."""
    return reached(backend.xp, _cumulative(backend, logits, trials), uniform)
