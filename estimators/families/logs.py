"""Logarithms of distances from the ends of a support, which stay precise where z is rounded to an end.

Samples of `beta` or `relaxed-bernoulli` can be nearer to 1 than any floating-point number, and those of `gamma` with a
small shape nearer to 0. log(1 − z) and log z are then of order 1/concentration, while z itself is rounded. Scores and
densities depend on these logarithms. So a family with such ends computes them from the noise (`Family.logs`), and
estimators pass them on together with z. z is kept strictly inside the support.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any


class Logs(NamedTuple):
    """The logs of samples z [..., D].

    Attributes
    ----------
    low
        Log of the distance from the lower end, log z [..., D].
    high
        Log of the distance from the upper end, log(1 − z) [..., D]. None if there is no such end, and on a simplex,
        where z_i is near 1 only if all others are near 0.
    """

    low: Array
    high: Array = None


def smallest(xp: Any, z: Array) -> float:
    """Return the smallest positive number of z's dtype that has full precision."""
    return float(xp.finfo(z.dtype).smallest_normal)


def above_zero(xp: Any, z: Array) -> Array:
    """Return z, or the smallest positive number where z has underflowed."""
    least = smallest(xp, z)
    return xp.where(z > least, z, xp.full_like(z, least))


def below_one(xp: Any, z: Array) -> Array:
    """Return z, or the last number below 1 where z has been rounded to 1."""
    last = 1.0 - 0.5 * float(xp.finfo(z.dtype).eps)
    return xp.where(z < last, z, xp.full_like(z, last))


def from_logit(xp: Any, logit: Array) -> tuple[Array, Logs]:
    """Return z = 1/(1 + exp(−logit)) inside (0, 1), and its logarithms."""
    away = xp.abs(logit)
    small = xp.exp(-away)
    nearer = small / (1.0 + small)
    z = xp.where(logit >= 0.0, 1.0 - nearer, nearer)
    more, zero = xp.log1p(small), xp.zeros_like(logit)
    logs = Logs(xp.minimum(logit, zero) - more, -xp.maximum(logit, zero) - more)
    return below_one(xp, above_zero(xp, z)), logs


def softmax(xp: Any, x: Array, axis: int = -1) -> Array:
    """Return z ∝ exp(x) that sums to 1 along an axis.

    Parameters
    ----------
    xp
        Array API namespace.
    x
        Array.
    axis
        The axis.
    """
    raised = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return raised / xp.sum(raised, axis=axis, keepdims=True)


def log_softmax(xp: Any, x: Array) -> Array:
    """Return log z for z ∝ exp(x), along the last axis."""
    away = x - xp.max(x, axis=-1, keepdims=True)
    return away - xp.log(xp.sum(xp.exp(away), axis=-1, keepdims=True))


def log_from_zero(xp: Any, z: Array, power: Array) -> Array:
    """Return log z computed from z; for an underflowed z, its mean under a density ∝ z^(power − 1).

    Parameters
    ----------
    xp
        Array API namespace.
    z
        Samples in [0, 1].
    power
        Exponent of the density near the end, an array that broadcasts with z.
    """
    least = xp.full_like(z, smallest(xp, z))
    return xp.log(xp.where(z > least, z, least)) - xp.where(z > least, xp.zeros_like(z), 1.0 / power + 0.0 * z)


def log_from_one(xp: Any, z: Array, power: Array) -> Array:
    """Return log(1 − z) computed from z.

    All numbers above 1 − ¾ε are rounded to the last number below 1; there the result is the mean of log(1 − z) under a
    density ∝ (1 − z)^(power − 1).

    Parameters
    ----------
    xp
        Array API namespace.
    z
        Samples in [0, 1].
    power
        Exponent of the density near the end, an array that broadcasts with z.
    """
    eps = float(xp.finfo(z.dtype).eps)
    inside = z < 1.0 - 0.5 * eps
    rest = xp.where(inside, 1.0 - z, xp.full_like(z, 0.75 * eps))
    return xp.log(rest) - xp.where(inside, xp.zeros_like(z), 1.0 / power + 0.0 * z)
