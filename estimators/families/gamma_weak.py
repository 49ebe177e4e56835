"""Weak derivatives of gamma variables g ~ Gamma(α, 1) with respect to α, and to their scale.

A Gamma(α + h, 1) variable times an independent Beta(α, h) variable has the distribution of g. As h → 0 this gives

    ∂_α E f(g) = ∫₀¹ E[f(g) − f(s g)] s^(α − 1)/(1 − s) ds.

With s = (1 − u²)^(1/α) and u uniform, this is ∂_{log α} E f(g) = E[2u/(1 − s) (f(g) − f(s g))]. The weight is random,
and large where the difference is small. If f is differentiable, the product is 2u times a mean of g f′ between s g and
g; if f is discontinuous, it grows as 1/u on an event of probability of order u². So the variance is finite for any α if
the variances of f(g) and f(s g) are.

The two parts with a constant weight (Hahn and Jordan's decomposition) are the distribution on either side of g =
exp(ψ(α)), weighted by |log g − ψ(α)|; no sampler for them from noise of fixed size is known here. If g and g′ in f(g) −
f(s g′) are independent, the product with the weight has infinite variance, so there is no form without coupling.
"""

from __future__ import annotations

from typing import Any

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.gamma_path import gamma_noise
from gradmeter.estimators.noise import Noise

Array = Any

#: Why the shape has no weak derivative with independent parts.
COUPLED = "in a concentration, parts drawn independently have no finite variance; leave coupling=true"
#: Prefix of the names of the gamma variables' noise.
WEAK = "weak_"


def weak_gamma_noise(shape: tuple[int, ...], prefix: str = "") -> dict[str, Noise]:
    """Return the noise of g, as `gamma_noise` does, under names that begin with `weak_` and `prefix`."""
    return gamma_noise(shape, f"{WEAK}{prefix}")


def shrink_noise(shape: tuple[int, ...], prefix: str = "") -> dict[str, Noise]:
    """Return the noise of s: −log(1 − u), which is neither 0 nor infinite."""
    return {f"{prefix}shrink": Noise("exponential", shape)}


def one_more_noise(shape: tuple[int, ...], prefix: str = "") -> dict[str, Noise]:
    """Return the noise of an exponential variable, which added to Gamma(α, 1) makes Gamma(α + 1, 1)."""
    return {f"{prefix}one_more": Noise("exponential", shape)}


def shrinkage(backend: Backend, concentration: Array, noise: dict[str, Array], prefix: str = "") -> tuple[Array, Array]:
    """Return the weight 2u/(1 − s) and log s, of the shape of the noise.

    Parameters
    ----------
    backend
        Array framework.
    concentration
        α, an array that broadcasts with the shape of the noise.
    noise
        {name: array}.
    prefix
        Prefix of the names of the noise.
    """
    xp, e = backend.xp, noise[f"{prefix}shrink"]
    u = -xp.expm1(-e)
    # log(1 − u²), to full precision at both ends
    log_power = xp.where(e < 1.0, xp.log1p(-xp.where(e < 1.0, u * u, xp.zeros_like(u))), xp.log1p(u) - e)
    log_s = log_power / concentration
    fallen = xp.expm1(log_s)
    moved = fallen < 0.0  # otherwise g and s g are the same number, and the difference is 0
    return xp.where(moved, -2.0 * u / xp.where(moved, fallen, fallen - 1.0), xp.zeros_like(u)), log_s
