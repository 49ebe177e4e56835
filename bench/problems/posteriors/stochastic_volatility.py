"""Returns whose log variance is an autoregressive process."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.bench.problems.posteriors.densities import Addend, Addends, half_normal, normal
from gradmeter.bench.problems.posteriors.links import SOFTPLUS, TANH, TANH_SQUARED
from gradmeter.bench.problems.posteriors.log_joint import Group
from gradmeter.bench.problems.posteriors.posterior import LocalPosterior
from gradmeter.bench.problems.posteriors.predictor import Predictor, latents
from gradmeter.bench.problems.problem import LOG_2PI
from gradmeter.estimators.options import option

#: The true μ, σ and φ.
TRUTH = (-1.0, 0.3, 0.9)
SEED = 20263


@functools.cache
def generated(times: int) -> np.ndarray:
    """Return y [times]."""
    mean, scale, persistence = TRUTH
    stream = np.random.Generator(np.random.PCG64(SEED))
    moves, noise = stream.standard_normal((2, times))
    away = np.empty(times)
    away[0] = scale / math.sqrt(1.0 - persistence**2) * moves[0]
    for t in range(1, times):
        away[t] = persistence * away[t - 1] + scale * moves[t]
    found: np.ndarray = np.exp(0.5 * (mean + away)) * noise
    return found


@dataclass(frozen=True)
class StochasticVolatility(LocalPosterior):
    """ELBO of the model, exact by one-dimensional quadrature. z is μ, log σ, a, h_1, …, h_T.

    y_t ~ N(0, exp(h_t)), h_1 ~ N(μ, σ²/(1 − φ²)), h_t ~ N(μ + φ (h_{t−1} − μ), σ²), with μ ~ N(0, 2²), σ ~
    half-normal(0.5) and φ = tanh(a), a ~ N(1.5, 0.5²). Latent are μ, log σ, a and h_1, …, h_T.

    The data are generated with μ = −1, σ = 0.3 and φ = 0.9.

    A unit is a time from the second on: the step that leads to it and its return.

    Source: Kim, Shephard & Chib 1998, section 2; the priors are ours.
    """

    name: ClassVar[str] = "stochastic-volatility"
    summary: ClassVar[str] = "ELBO of returns with an autoregressive log variance (exact by 1-D quadrature)"

    times: int = option(20, "T, the number of returns", minimum=2, maximum=500)

    @property
    def dimension(self) -> int:
        return 3 + self.times

    @property
    def units(self) -> int:
        return self.times - 1

    def log_joint(self) -> Sequence[Group]:
        y = generated(self.times)
        mean, log_scale, a, h = latents(1, 1, 1, self.times)
        precision, twice = -2.0 * log_scale, 2.0 * a  # tanh(a) is the link `tanh` at 2a
        first, before, after = h[:1] - mean, h[:-1] - mean, h[1:] - mean
        shared = [
            *(*normal(mean, 2.0), *half_normal(log_scale, 0.5), *normal(a + -1.5, 0.5)),
            # log N(h_1; μ, σ²/(1 − φ²)), where ½ log(1 − φ²) = log 2 + a − log(1 + exp(2a)).
            Addend(-0.5, (first, first), precision),
            Addend(0.5, (first, first), precision, TANH_SQUARED, twice),
            Addend(1.0, (a,)),
            Addend(-1.0, link=SOFTPLUS, argument=twice),
            Addend(-1.0, (log_scale,)),
            Addend(math.log(2.0) - 0.5 * LOG_2PI),
            *_returns(y[:1], h[:1]),
        ]
        steps = [
            Addend(-0.5, (after, after), precision),
            Addend(1.0, (after, before), precision, TANH, twice),
            Addend(-0.5, (before, before), precision, TANH_SQUARED, twice),
            Addend(-1.0, (log_scale,)),
            Addend(np.full(self.times - 1, -0.5 * LOG_2PI)),
            *_returns(y[1:], h[1:]),
        ]
        return [Group(shared), Group(steps, local=True)]


def _returns(y: np.ndarray, h: Predictor) -> Addends:
    """Return log N(y; 0, exp(h))."""
    constant = np.full(len(y), -0.5 * LOG_2PI)
    return [Addend(-0.5 * y * y, exponent=-h), Addend(-0.5, (h,)), Addend(constant)]
