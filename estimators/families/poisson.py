"""The Poisson distribution: z = 0, 1, 2, … with probability rateᶻ exp(−rate)/z!, coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family, MeanField, OptionPerBlock
from gradmeter.estimators.families.support_and_tails import SupportAndTails, Tail
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

#: The largest rate, and the largest count: the probability of larger counts is below 1e-25.
LARGEST_RATE, MOST = 30.0, 100
DISCRETE = "it is discrete: a sample jumps from one whole number to the next"


@dataclass(frozen=True)
class Poisson(MeanField):
    """The Poisson family, sampled by the inverse CDF up to `MOST`. Parameter: `log_rate` [D], unconstrained."""

    name: ClassVar[str] = "poisson"
    summary: ClassVar[str] = "Poisson distribution by its inverse CDF; parameter log_rate"
    blocks: ClassVar[tuple[str, ...]] = ("log_rate",)
    unsupported: ClassVar[dict[str, str]] = {
        "pathwise": DISCRETE,
        "log_density_gradient": DISCRETE,
        "entropy_gradient": "its entropy has no closed form",
    }

    @dataclass(frozen=True)
    class Config(OptionPerBlock):
        rate: Values = option(1.0, "mean of every coordinate", above=0.0, maximum=LARGEST_RATE, per="coordinate")

        @property
        def family(self) -> Family:
            return Poisson()

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("uniform", (*sample_shape, dimension))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        return _count(backend, parameters["log_rate"], noise["base"])

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        """Return F(0), F(1), … up to the largest tabulated count."""
        k, log_rate = np.arange(MOST), parameters["log_rate"][:, None]
        log_factorial = np.asarray([math.lgamma(each + 1.0) for each in range(MOST)])
        cumulative = np.cumsum(np.exp(k * log_rate - np.exp(log_rate) - log_factorial), axis=-1)
        return dict.fromkeys(("base", "negative", "positive"), cumulative / cumulative[:, -1:])

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        log_rate = parameters["log_rate"]
        return z * log_rate - backend.xp.exp(log_rate) - backend.special.gammaln(z + 1.0)

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return z − rate."""
        return {"log_rate": z - backend.xp.exp(parameters["log_rate"])}

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        names = ("negative",) if coupling else ("negative", "positive")
        return {"log_rate": {name: Noise("uniform", (*sample_shape, dimension)) for name in names}}

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return c = rate, with N + 1 and N; coupled, N is the same (Mohamed et al. 2020, table 1; for log rate)."""
        negative = _count(backend, parameters["log_rate"], noise["negative"])
        positive = negative if coupling else _count(backend, parameters["log_rate"], noise["positive"])
        return {"log_rate": (backend.xp.exp(parameters["log_rate"]), positive + 1.0, negative)}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        rate = np.exp(parameters["log_rate"])
        return SupportAndTails(0.0 * rate, rate, 0.0 * rate + 10 * MOST, np.sqrt(rate), above=Tail(1.0), discrete=True)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return Σ_k S(n, k) rateᵏ with Stirling numbers of the second kind; ∂log_rate multiplies terms by k."""
        rate, numbers = np.exp(parameters["log_rate"]), stirling(order)
        moment = sum((s * rate**k for k, s in enumerate(numbers)), np.zeros_like(rate))
        return moment, {"log_rate": sum((k * s * rate**k for k, s in enumerate(numbers)), np.zeros_like(rate))}


def _count(backend: Backend, log_rate: Array, uniform: Array) -> Array:
    """Return how many of F(0), F(1), … are at most u."""
    xp = backend.xp
    k = xp.astype(backend.asarray(range(MOST), None), log_rate.dtype)
    rate = log_rate[..., None]
    cumulative = xp.cumulative_sum(xp.exp(k * rate - xp.exp(rate) - backend.special.gammaln(k + 1.0)), axis=-1)
    cumulative = cumulative / cumulative[..., -1:]  # otherwise rounding may leave it below 1, and u above it
    return reached(xp, cumulative, uniform)


def reached(xp: Any, cumulative: Array, uniform: Array) -> Array:
    """Return how many of F(0), F(1), … are at most u.

    A mirrored number 1 − u may be rounded to 1, which every F rounded to 1 equals: these are not counted, so the sample
    is that of the last number below 1 rather than the end of the table.

    Parameters
    ----------
    xp
        Array namespace.
    cumulative
        F(0), F(1), … [..., D, K].
    uniform
        u [..., D].
    """
    counted = (cumulative <= uniform[..., None]) & (cumulative < 1.0)
    return xp.sum(xp.astype(counted, uniform.dtype), axis=-1)


def stirling(order: int) -> list[int]:
    """Return S(n, 0), …, S(n, n)."""
    numbers = [1]
    for _ in range(order):
        numbers = [
            (k * numbers[k] if k < len(numbers) else 0) + (numbers[k - 1] if k else 0) for k in range(len(numbers) + 1)
        ]
    return numbers
