"""Logarithms of distances from the ends of a support, which stay precise where z is rounded to an end.

Samples of `beta` or `relaxed-bernoulli` lie nearer to 1 than any floating-point number, and of `gamma` with a small
concentration nearer to 0: log(1 − z) and log z are then of the size of one over the concentration, while z itself is
rounded. Scores and densities are made of these logarithms, so a family with such ends computes them from the noise
(`Family.logs`) and estimators hand them on beside z. z is kept strictly inside the support.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any


class Logs(NamedTuple):
    """Of samples z [..., D].

    Attributes
    ----------
    low : log of the distance from the lower end, log z [..., D].
    high : log of the distance from the upper end, log(1 − z) [..., D]; None where there is no such end, and on a
        simplex, where z_i is near 1 only if all others are near 0.
    """

    low: Array
    high: Array = None


def smallest(xp: Any, z: Array) -> float:
    """The least positive number of z's dtype that has full precision."""
    return float(xp.finfo(z.dtype).smallest_normal)


def above_zero(xp: Any, z: Array) -> Array:
    """z, or the least positive number where it has underflowed."""
    least = smallest(xp, z)
    return xp.where(z > least, z, xp.full_like(z, least))


def below_one(xp: Any, z: Array) -> Array:
    """z, or the last number below 1."""
    last = 1.0 - 0.5 * float(xp.finfo(z.dtype).eps)
    return xp.where(z < last, z, xp.full_like(z, last))


def from_logit(xp: Any, logit: Array) -> tuple[Array, Logs]:
    """z = 1/(1 + exp(−logit)) inside (0, 1), and its logarithms."""
    away = xp.abs(logit)
    small = xp.exp(-away)
    nearer = small / (1.0 + small)
    z = xp.where(logit >= 0.0, 1.0 - nearer, nearer)
    more, zero = xp.log1p(small), xp.zeros_like(logit)
    logs = Logs(xp.minimum(logit, zero) - more, -xp.maximum(logit, zero) - more)
    return below_one(xp, above_zero(xp, z)), logs


def log_softmax(xp: Any, x: Array) -> Array:
    """log z of z ∝ exp(x), along the last axis."""
    away = x - xp.max(x, axis=-1, keepdims=True)
    return away - xp.log(xp.sum(xp.exp(away), axis=-1, keepdims=True))


def log_from_zero(xp: Any, z: Array, power: Array) -> Array:
    """log z from z alone; of a z that has underflowed its mean, for a density ∝ z^(power − 1) there."""
    least = xp.full_like(z, smallest(xp, z))
    return xp.log(xp.where(z > least, z, least)) - xp.where(z > least, xp.zeros_like(z), 1.0 / power + 0.0 * z)


def log_from_one(xp: Any, z: Array, power: Array) -> Array:
    """log(1 − z) from z alone; of the last number below 1, to which all above 1 − ¾ε are rounded, its mean, for a
    density ∝ (1 − z)^(power − 1) there."""
    eps = float(xp.finfo(z.dtype).eps)
    inside = z < 1.0 - 0.5 * eps
    rest = xp.where(inside, 1.0 - z, xp.full_like(z, 0.75 * eps))
    return xp.log(rest) - xp.where(inside, xp.zeros_like(z), 1.0 / power + 0.0 * z)
