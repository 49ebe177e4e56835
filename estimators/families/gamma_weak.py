"""Weak derivatives of gamma numbers g ~ Gamma(α, 1) in α, and in their scale.

A number of Gamma(α + h, 1) times an independent one of Beta(α, h) has the law of g. As h → 0 this gives

    ∂_α E f(g) = ∫₀¹ E[f(g) − f(s g)] s^(α − 1)/(1 − s) ds,

which s = (1 − u²)^(1/α) with u uniform turns into ∂_{log α} E f(g) = E[2u/(1 − s) (f(g) − f(s g))]. The weight is
random, and large where the difference is small: with f differentiable, the product is 2u times a mean of g f′ between
s g and g; where f jumps it grows as 1/u on an event of probability of order u². So the variance is finite for any α
wherever f(g) and f(s g) have theirs.

The two parts with a constant weight (Hahn and Jordan's) are the law on either side of g = exp(ψ(α)), weighted by
|log g − ψ(α)|: no sampler from noise of fixed size is known for them here. Drawn independently, g and g′ in
f(g) − f(s g′) leave the weight's variance infinite: there is no form without coupling.
"""

from __future__ import annotations

from typing import Any

from gradmeter.estimators.families.gamma_path import gamma_noise
from gradmeter.estimators.noise import Noise

Array = Any

#: Why a concentration has no weak derivative of independent parts.
COUPLED = "in a concentration, parts drawn independently have no finite variance; leave coupling=true"
#: What the names of the gamma numbers' noise begin with.
WEAK = "weak_"


def weak_gamma_noise(shape: tuple[int, ...], prefix: str = "") -> dict[str, Noise]:
    """The noise of g, as `gamma_noise` has it under names that begin with `weak_` and `prefix`."""
    return gamma_noise(shape, f"{WEAK}{prefix}")


def shrink_noise(shape: tuple[int, ...], prefix: str = "") -> dict[str, Noise]:
    """That of s: −log(1 − u), which is neither 0 nor infinite."""
    return {f"{prefix}shrink": Noise("exponential", shape)}


def one_more_noise(shape: tuple[int, ...], prefix: str = "") -> dict[str, Noise]:
    """That of an exponential number, which makes Gamma(α, 1) into Gamma(α + 1, 1)."""
    return {f"{prefix}one_more": Noise("exponential", shape)}


def shrinkage(backend: Any, concentration: Array, noise: dict[str, Array], prefix: str = "") -> tuple[Array, Array]:
    """The weight 2u/(1 − s) and log s, of the shape of the noise, for α that broadcasts with it."""
    xp, e = backend.xp, noise[f"{prefix}shrink"]
    u = -xp.expm1(-e)
    # log(1 − u²), to full precision at either end
    log_power = xp.where(e < 1.0, xp.log1p(-xp.where(e < 1.0, u * u, xp.zeros_like(u))), xp.log1p(u) - e)
    log_s = log_power / concentration
    fallen = xp.expm1(log_s)
    moved = fallen < 0.0  # else g and s g are the same number, and so is f of either
    return xp.where(moved, -2.0 * u / xp.where(moved, fallen, fallen - 1.0), xp.zeros_like(u)), log_s
