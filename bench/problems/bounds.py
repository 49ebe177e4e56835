"""Expectations of normalised importance weights and of the logarithm of their mean, by quadrature for any K.

The weights w_k are i.i.d., so that expectations of powers of their sum factorise under a Laplace transform:

    log y = ∫_0^∞ (e^{−t} − e^{−t y}) dt/t         E log (1/K) Σ w = ∫ (e^{−t} − M(t/K)^K) dt/t
    y^{−p} = ∫_0^∞ t^{p−1} e^{−t y} dt / Γ(p)      E Σ_k w̃_k^p ψ_k = K/Γ(p) ∫ t^{p−1} M(t)^{K−1} E[w^p ψ e^{−t w}] dt

with M(t) = E e^{−t w}. The integral over t uses the trapezoidal rule in log t. There the integrand is analytic and
decays exponentially on the left and doubly exponentially on the right, so that the rule converges geometrically.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

#: Step of the rule in log t; the probability below which a weight is ignored; lower limit on the smallest weight.
LAPLACE_STEP, NEGLIGIBLE, LEAST = 0.2, 1e-18, 1e-290
#: Maximal number of elements of an array (128 MB in float64).
MOST_NUMBERS = 2**24
#: Tolerance on integrals of the weights with known values (`Weights.error`).
MOST_ERROR = 1e-10


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The distribution of one importance weight w, as a quadrature of N nodes.

    Attributes
    ----------
    count : int
        K.
    probability : [N]
        Probabilities of the nodes.
    weight : [N]
        w/E w.
    log_mean : float
        log E w.
    """

    count: int
    probability: np.ndarray
    weight: np.ndarray
    log_mean: float

    @functools.cached_property
    def t(self) -> np.ndarray:
        """The nodes in t [T], equally spaced in log t."""
        least = float(self.weight[self.probability > NEGLIGIBLE].min())
        high = 5.0 - math.log(max(least, LEAST))  # at the upper end, e^{−t w} is 0 for every w that is not ignored
        return np.exp(np.arange(-40.0 - math.log(self.count), high, LAPLACE_STEP))

    def _exponents(self, t: np.ndarray) -> Iterator[np.ndarray]:
        """Yield −t w [t, N] in blocks of t, since [T, N] may take gigabytes; the caller may overwrite a block."""
        at_once = max(1, MOST_NUMBERS // len(self.weight))
        return (np.multiply.outer(t[i : i + at_once], -self.weight) for i in range(0, len(t), at_once))

    @functools.cached_property
    def _falling_whole(self) -> np.ndarray:
        [exponents] = self._exponents(self.t)
        return np.exp(exponents, out=exponents)

    def _falling(self) -> Iterator[np.ndarray]:
        """Yield e^{−t w} in blocks of t; a single block is cached, so the caller must not overwrite it."""
        if len(self.t) * len(self.weight) <= MOST_NUMBERS:
            return iter([self._falling_whole])
        return (np.exp(exponents, out=exponents) for exponents in self._exponents(self.t))

    @functools.cached_property
    def transform(self) -> np.ndarray:
        """The Laplace transform M(t) = E e^{−t w} at the nodes [T]."""
        return np.concatenate([block @ self.probability for block in self._falling()])

    def integral(self, values: np.ndarray) -> np.ndarray:
        """Return ∫ values dt for values [..., T]."""
        return np.asarray(LAPLACE_STEP * (values @ self.t))

    @functools.cached_property
    def log_transform(self) -> np.ndarray:
        """log M(t) [T], by `expm1` and `log1p` where M is near 1, since the power K would magnify rounding there."""
        near = self.transform > 0.5
        with np.errstate(divide="ignore"):
            found = np.log(self.transform)
        blocks = self._exponents(self.t[near])
        found[near] = np.log1p(np.concatenate([np.expm1(block, out=block) @ self.probability for block in blocks]))
        return found

    def tilted(self, power: float, values: np.ndarray) -> np.ndarray:
        """Return E[w^p ψ e^{−t w}] [..., T] for ψ [..., N]."""
        weighed = (self.probability * self.weight**power * values).T
        return np.concatenate([block @ weighed for block in self._falling()]).T

    def normalised(self, power: int, values: np.ndarray) -> np.ndarray:
        """Return E Σ_k w̃_k^p ψ_k [...] for ψ [..., N]."""
        inside = self.t ** (power - 1) * self.transform ** (self.count - 1) * self.tilted(power, values)
        return self.count / math.gamma(power) * self.integral(inside)

    def mean_logarithm(self, count: int) -> float:
        """Return E log (1/K) Σ w/E w for a K = `count` of at most `self.count`, for which the nodes were chosen."""
        inside = np.exp(-count * self.t) - np.exp(count * self.log_transform)  # with t K substituted for t
        return float(self.integral(inside / self.t))

    def shares(self) -> np.ndarray:
        """Return K E[w̃_1 | w_1 = w] [N].

        This is E Σ_k w̃_k ψ_k for the ψ that is 1 at one node and 0 elsewhere, divided by that node's probability.
        """
        steps = LAPLACE_STEP * self.t
        rows, ends = steps * self.transform ** (self.count - 1), 0
        found = np.zeros_like(self.weight)
        for block in self._falling():
            found += rows[ends : ends + len(block)] @ block
            ends += len(block)
        return self.count * self.weight * found

    def gains(self) -> np.ndarray:
        """Return K E[log Σ_k w_k − log Σ_{k>1} w_k | w_1 = w] [N], for K > 1: ∫ M(t)^{K−1} (1 − e^{−t w}) dt/t."""
        rows, ends = LAPLACE_STEP * self.transform ** (self.count - 1), 0
        found = np.zeros_like(self.weight)
        for exponents in self._exponents(self.t):
            found -= rows[ends : ends + len(exponents)] @ np.expm1(exponents, out=exponents)
            ends += len(exponents)
        return self.count * found

    def bound(self) -> float:
        """Return the bound E log (1/K) Σ_k w_k."""
        return self.log_mean + self.mean_logarithm(self.count)

    def error(self) -> float:
        """Return the quadrature's error on two known values, Σ_k E w̃_k = 1 and E log w; NaN where the rule fails."""
        weights = abs(float(self.normalised(1, np.ones_like(self.weight))) - 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            logarithm = abs(self.mean_logarithm(1) - float(self.probability @ np.log(self.weight)))
        return float(np.max([weights, logarithm]))


def weights_at(count: int, probability: np.ndarray, log_weight: np.ndarray) -> Weights:
    """Return the distribution of the weights from their values at the nodes of a quadrature.

    Parameters
    ----------
    count
        K, the number of importance samples.
    probability
        Probability of every node [N].
    log_weight
        log w at every node [N].
    """
    top = float(log_weight.max())
    weight = np.exp(log_weight - top)
    mean = float(probability @ weight)
    return Weights(count=count, probability=probability, weight=weight / mean, log_mean=top + math.log(mean))
