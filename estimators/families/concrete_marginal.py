"""The marginal distribution of one number of a Concrete choice of three categories, in terms of its logit.

With exponential e_k, z_i = (w_i/e_i)^(1/T)/Σ_k (w_k/e_k)^(1/T), w = exp(logits). For the other two, b and c, the sum S
= (w_b/e_b)^(1/T) + (w_c/e_c)^(1/T) has S^(−T) = (e_b/w_b + e_c/w_c) m(p), where p is the share of e_b/w_b in that sum
and m(p) = (p^(−1/T) + (1 − p)^(−1/T))^(−T). Given p the sum is a gamma variable, and P(z_i ≤ t) = P(e_i ≥ w_i …)
becomes

    T logit z_i = log Q + ξ,    P(ξ ≤ x) = (1 + exp(−x))^(−2),
    log Q = l_i − l_c − softplus(η) − T softplus(−v/T),    v = l_c − l_b + η,

with η logistic and independent of ξ: η = logit p minus its location. So the density of s = logit z_i is a smooth
integral over one variable, and its derivatives in λ are means over that variable given s.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks
from gradmeter.estimators.families.support_and_tails import SupportAndTails

#: The trapezoid rule for η covers [−REACH, REACH]. Its step is STEP times π min(1, T), which is the distance of the
#: nearest singularities of softplus(η) and softplus(−v/T).
REACH, STEP = 40.0, 0.1
#: If T s is farther than this from its middle, the density is less than the smallest positive number.
FARTHEST = 800.0
#: Elements of the largest array.
CHUNK = 2**20


@dataclass(frozen=True)
class ConcreteLogit:
    """The distribution of the logit s of single numbers of relaxed choices; float64 NumPy arrays only.

    Parameters: `own`, `first`, `second` [M], the logits of the number's own category and of the other two; and
    `log_temperature` [M].
    """

    blocks: ClassVar[tuple[str, ...]] = ("own", "first", "second", "log_temperature")
    unsupported: ClassVar[Mapping[str, str]] = {}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        """Return the support of s; the tails are those of z, which is bounded."""
        temperature = np.exp(parameters["log_temperature"])
        middle = (parameters["own"] - np.maximum(parameters["first"], parameters["second"])) / temperature
        return SupportAndTails(middle - np.inf, middle, middle + np.inf, 1.0 / temperature)

    def log_densities(self, backend: Backend, parameters: Blocks, s: Array) -> Array:
        """Return the log-density of s [N, 1] for a single number, with parameters [1]."""
        return self._law(parameters, s)[:, :1]

    def score(self, backend: Backend, parameters: Blocks, s: Array) -> Blocks:
        """Return ∇_λ of the log-density, by block [N, 1]."""
        found = self._law(parameters, s)
        return {name: found[:, i : i + 1] for i, name in enumerate(self.blocks, 1)}

    def _law(self, parameters: Blocks, s: Array) -> Array:
        """Return the log-density and the score at s [N, 1], as [N, 5]."""
        values, place = np.unique(s[:, 0], return_inverse=True)  # many nodes near an end are equal
        return _law(*(float(parameters[name][0]) for name in self.blocks), values.tobytes())[np.ravel(place)]


@functools.lru_cache(maxsize=8)
def _law(own: float, first: float, second: float, log_temperature: float, at: bytes) -> Array:
    """Return the log-density and its derivatives, which are means of −(log g)′(r) ∂log Q.

    r = T s − log Q, and g is the density of ξ.
    """
    s, temperature = np.frombuffer(at), math.exp(log_temperature)
    half = math.ceil(REACH / (STEP * math.pi * min(1.0, temperature)))
    eta = np.linspace(-REACH, REACH, 2 * half + 1)
    v = second - first + eta
    softplus = np.logaddexp(0.0, -v / temperature)
    log_q = own - second - np.logaddexp(0.0, eta) - temperature * softplus
    law = math.log(2.0 * REACH / half) + log_temperature - np.abs(eta) - 2.0 * np.log1p(np.exp(-np.abs(eta)))
    share, rest = _sigmoid(-v / temperature), _sigmoid(v / temperature)  # ∂log Q/∂v is −share; rest is 1 − share
    by_temperature = -temperature * softplus - share * v
    moved = np.stack([np.ones_like(v), -share, -rest, by_temperature], axis=-1)
    found = np.zeros((len(s), 5))
    found[:, 0] = -np.inf
    inside = np.flatnonzero(np.abs(temperature * s - own + max(first, second)) < FARTHEST)
    for places in np.array_split(inside, max(1, math.ceil(len(inside) * len(eta) / CHUNK))):
        r = temperature * s[places, None] - log_q
        small = np.exp(-np.abs(r))
        log_weights = law - r - 3.0 * (np.log1p(small) + np.maximum(-r, 0.0))
        largest = np.max(log_weights, axis=1, keepdims=True)
        weights = np.exp(log_weights - largest)
        total = np.sum(weights, axis=1)
        weights *= 1.0 - 3.0 * np.where(r >= 0.0, small, 1.0) / (1.0 + small)
        found[places, 0] = largest[:, 0] + np.log(total)
        found[places, 1:] = weights @ moved / total[:, None]
        found[places, 4] += 1.0 - temperature * s[places] * found[places, 1]
    return found


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0.0, 1.0, small) / (1.0 + small)
