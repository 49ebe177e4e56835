"""The models whose objectives the libraries differentiate, and the exact gradients of those objectives.

All are small enough for a closed form, or for Gauss-Hermite rules with an error below 1e-6. Derivatives are
imaginary parts at λ + ih over h, which have no error of differences at h = 1e-30 (Squire and Trapp 1998, "Using complex
variables to estimate derivatives of real functions").
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

#: x_n ~ N(z, 1) with z ~ N(0, 1); of the model with a z_n for each datum, x_n ~ N(z_n, 1).
DATA = (1.2, 2.0, 1.5, 1.7)
#: q = N(LOC, SCALE²), for each z_n the same.
LOC, SCALE = 0.5, 0.5
#: Rows of a minibatch of `DATA`.
BATCH = 2
#: q(z = 1) = 1 / (1 + e^-LOGIT) of the model z ~ Bernoulli(PRIOR), x ~ N(2z − 1, 1), with the datum X.
LOGIT, PRIOR, X = 0.4, 0.3, 0.8
#: Nodes of the rule in one dimension.
NODES = 60
STEP = 1e-30

ONE = "z ~ N(0, 1), x_n ~ N(z, 1)"
LOCAL = f"z_n ~ N(0, 1), x_n ~ N(z_n, 1), {BATCH} of {len(DATA)} rows at a time"
BINARY = f"z ~ Bernoulli({PRIOR}), x ~ N(2z − 1, 1)"


def log_weight(z: Any, loc: Any, log_scale: Any) -> Any:
    """Return log p(x, z) − log q(z) of the model with one z."""
    x = np.reshape(DATA, (-1, *(1,) * np.ndim(z)))
    log_joint = _log_normal(z, 0.0, 0.0) + _log_normal(x, z, 0.0).sum(axis=0)
    return log_joint - _log_normal(z, loc, log_scale)


def global_elbo() -> dict[str, float]:
    """Return ∇ of E_q[log p(x, z) − log q(z)] in loc and log σ for the model with one z."""
    n, total = len(DATA), sum(DATA)
    return {"loc": total - (n + 1) * LOC, "scale": 1.0 - (n + 1) * SCALE**2}


def local_elbo() -> dict[str, float]:
    """Return ∇ of the ELBO in loc and log σ, which all z_n share, for the model with a z_n for each datum."""
    n, total = len(DATA), sum(DATA)
    return {"loc": total - 2 * n * LOC, "scale": n * (1.0 - 2 * SCALE**2)}


def binary_elbo() -> dict[str, float]:
    """Return ∇ of the ELBO in the logit of q for the model with one binary z."""
    q = 1.0 / (1.0 + math.exp(-LOGIT))
    values = [math.log(p) - 0.5 * (X - mean) ** 2 for p, mean in ((1.0 - PRIOR, -1.0), (PRIOR, 1.0))]
    return {"logit": q * (1.0 - q) * (values[1] - values[0] - LOGIT)}


def divergence(f: Callable[[Any], Any]) -> dict[str, float]:
    """Return −∇ of E_q f(log w(z)), w = p(x, z) / q(z), in loc and log σ: an f-divergence of Csiszár."""
    return _expected(lambda log_w: -f(log_w[0]), 1)


def renyi(alpha: float, particles: int) -> dict[str, float]:
    """Return ∇ of E log((1/K) Σ w_k^(1 − α)) / (1 − α) (Li and Turner 2016, equation 4.3); at α = 0 of IWAE's bound."""

    def bound(log_w: list[Any]) -> Any:
        return np.log(sum(np.exp((1.0 - alpha) * each) for each in log_w) / particles) / (1.0 - alpha)

    return _expected(bound, particles)


def _expected(bound: Callable[[list[Any]], Any], particles: int) -> dict[str, float]:
    """Return ∇ of E bound(log w_1, …, log w_K) over independent z_k ~ q."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = weights / weights.sum()
    noise = np.array(list(itertools.product(nodes, repeat=particles))).T
    weight = np.prod(np.array(list(itertools.product(weights, repeat=particles))), axis=1)

    def value(loc: Any, log_scale: Any) -> Any:
        log_w = [log_weight(loc + np.exp(log_scale) * e, loc, log_scale) for e in noise]
        return (weight * bound(log_w)).sum()

    at = LOC, math.log(SCALE)
    return {
        "loc": float(value(at[0] + 1j * STEP, at[1]).imag / STEP),
        "scale": float(value(at[0], at[1] + 1j * STEP).imag / STEP),
    }


def _log_normal(z: Any, loc: Any, log_scale: Any) -> Any:
    return -0.5 * ((z - loc) / np.exp(log_scale)) ** 2 - log_scale - 0.5 * math.log(2.0 * math.pi)
