"""Expectations of normalised importance weights, and of the logarithm of their mean, exact for every K.

The weights w_k are independent and alike, so powers of their sum come apart under Laplace's transform:

    log y = ∫_0^∞ (e^{−t} − e^{−t y}) dt/t         E log (1/K) Σ w = ∫ (e^{−t} − M(t/K)^K) dt/t
    y^{−p} = ∫_0^∞ t^{p−1} e^{−t y} dt / Γ(p)      E Σ_k w̃_k^p ψ_k = K/Γ(p) ∫ t^{p−1} M(t)^{K−1} E[w^p ψ e^{−t w}] dt

with M(t) = E e^{−t w}. The rule for t is a trapezoid in log t, where the integrand is analytic and falls off
exponentially on the left, doubly so on the right: geometric convergence.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

#: Step of the rule for log t; the probability below which no weight counts, and the weight.
LAPLACE_STEP, NEGLIGIBLE, LEAST = 0.2, 1e-18, 1e-290
#: Numbers in the largest array: 128 MB.
MOST_NUMBERS = 2**24


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The law of one weight w, as a quadrature.

    Attributes
    ----------
    count : K.
    probability : [N], of the nodes.
    weight : w/E w [N].
    log_mean : log E w.
    """

    count: int
    probability: np.ndarray
    weight: np.ndarray
    log_mean: float

    @functools.cached_property
    def t(self) -> np.ndarray:
        """The nodes of t [T], even in log t."""
        least = float(self.weight[self.probability > NEGLIGIBLE].min())
        high = 5.0 - math.log(max(least, LEAST))  # where e^{−t w} is 0 for every w that counts
        return np.exp(np.arange(-40.0 - math.log(self.count), high, LAPLACE_STEP))

    def _exponents(self, t: np.ndarray) -> Iterator[np.ndarray]:
        """−t w [t, N], some t after others, for T N numbers may be gigabytes; whoever takes a block may write to it."""
        at_once = max(1, MOST_NUMBERS // len(self.weight))
        return (np.multiply.outer(t[i : i + at_once], -self.weight) for i in range(0, len(t), at_once))

    @functools.cached_property
    def _falling_whole(self) -> np.ndarray:
        [exponents] = self._exponents(self.t)
        return np.exp(exponents, out=exponents)

    def _falling(self) -> Iterator[np.ndarray]:
        """e^{−t w}, likewise; kept where it is one block."""
        if len(self.t) * len(self.weight) <= MOST_NUMBERS:
            return iter([self._falling_whole])
        return (np.exp(exponents, out=exponents) for exponents in self._exponents(self.t))

    @functools.cached_property
    def transform(self) -> np.ndarray:
        """M(t) [T]."""
        return np.concatenate([block @ self.probability for block in self._falling()])

    def integral(self, values: np.ndarray) -> np.ndarray:
        """∫ of values [..., T] dt."""
        return np.asarray(LAPLACE_STEP * (values @ self.t))

    @functools.cached_property
    def log_transform(self) -> np.ndarray:
        """log M(t) [T]; near 0 where t is small, which a power K would magnify the rounding of."""
        near = self.transform > 0.5
        with np.errstate(divide="ignore"):
            found = np.log(self.transform)
        blocks = self._exponents(self.t[near])
        found[near] = np.log1p(np.concatenate([np.expm1(block, out=block) @ self.probability for block in blocks]))
        return found

    def tilted(self, power: float, values: np.ndarray) -> np.ndarray:
        """E[w^p ψ e^{−t w}] [..., T], of ψ [..., N]."""
        weighed = (self.probability * self.weight**power * values).T
        return np.concatenate([block @ weighed for block in self._falling()]).T

    def normalised(self, power: int, values: np.ndarray) -> np.ndarray:
        """E Σ_k w̃_k^p ψ_k [...], of ψ [..., N]."""
        inside = self.t ** (power - 1) * self.transform ** (self.count - 1) * self.tilted(power, values)
        return self.count / math.gamma(power) * self.integral(inside)

    def mean_logarithm(self, count: int) -> float:
        """E log (1/K) Σ w/E w, for any K up to that of the rule."""
        inside = np.exp(-count * self.t) - np.exp(count * self.log_transform)  # at t K in place of t
        return float(self.integral(inside / self.t))

    def shares(self) -> np.ndarray:
        """K E[w̃_1 | w_1 = w] [N]: the E Σ_k w̃_k ψ_k of a ψ that is 1 at one node, over that node's probability."""
        steps = LAPLACE_STEP * self.t
        rows, ends = steps * self.transform ** (self.count - 1), 0
        found = np.zeros_like(self.weight)
        for block in self._falling():
            found += rows[ends : ends + len(block)] @ block
            ends += len(block)
        return self.count * self.weight * found

    def bound(self) -> float:
        """E log (1/K) Σ_k w_k."""
        return self.log_mean + self.mean_logarithm(self.count)

    def error(self) -> float:
        """By how much the rule misses Σ_k E w̃_k = 1, or E log w, which needs no transform; NaN where it fails."""
        weights = abs(float(self.normalised(1, np.ones_like(self.weight))) - 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithm = abs(self.mean_logarithm(1) - float(self.probability @ np.log(self.weight)))
        return float(np.max([weights, logarithm]))


def weights_at(count: int, probability: np.ndarray, log_weight: np.ndarray) -> Weights:
    """From log w [N] at the nodes of a quadrature."""
    top = float(log_weight.max())
    weight = np.exp(log_weight - top)
    mean = float(probability @ weight)
    return Weights(count=count, probability=probability, weight=weight / mean, log_mean=top + math.log(mean))
