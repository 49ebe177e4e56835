"""Bounds on the bias ‖E ĝ − g‖₂, and its estimate with an interval.

U = ‖ȳ‖² − v is an unbiased estimate of ‖E ĝ − g‖², with ȳ = ḡ − g and v the summed variances of the coordinates' means.
The bound inverts U for the worst direction of the bias; where the bias is concentrated in few coordinates, the
intervals of the coordinates give a smaller bound.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.measurement.bias import Difference, decidable, hall_inverse, normal_quantile, t_quantile
from gradmeter.bench.measurement.moments import GROUPS

BOUND_LEVEL = 1e-3
#: A gradient below this may rest on events 17 standard deviations out, which no draw meets, not even a defensive one.
FAINT = 1e-60


@dataclass(frozen=True)
class Scale:
    """The size that a bias is compared with.

    Attributes
    ----------
    size
        ‖g‖, or the standard deviation of an estimate.
    name
        `gradient`, or `deviation` where ‖g‖ is within rounding.
    lost
        Whether even the deviation is within rounding.
    rounding
        ‖τ‖.
    """

    size: float
    name: str
    lost: bool
    rounding: float = 0.0

    def hides(self, bias: np.ndarray) -> bool:
        """Return whether there is no scale to compare a bias with and the bias may itself be rounding."""
        return self.lost and float(np.linalg.norm(bias)) <= max(self.rounding, FAINT)

    def of(self, bias: float) -> float:
        """Return a bias relative to the scale; infinite where there is nothing to compare it with."""
        return bias / self.size if bias < self.size * sys.float_info.max else math.inf


def scale_of(exact: np.ndarray, variance: float, tolerance: np.ndarray) -> Scale:
    """Return ‖g‖, or the standard deviation where ‖g‖ is within rounding and the error of the exact gradient.

    Parameters
    ----------
    exact
        g [P].
    variance
        Trace of the covariance of one estimate.
    tolerance
        Bound on the error of a mean [P], from rounding (τ) and from the error of g.
    """
    norm, deviation, rounding = float(np.linalg.norm(exact)), math.sqrt(variance), float(np.linalg.norm(tolerance))
    if norm > rounding and (norm > FAINT or deviation > rounding):
        return Scale(norm, "gradient", False, rounding)
    return Scale(deviation, "deviation", deviation <= rounding, rounding)


@dataclass(frozen=True)
class Bound:
    """Bounds on the bias, and its estimate, in the units of the gradient.

    Attributes
    ----------
    value
        Upper bound on ‖E ĝ − g‖₂, at 99.9 %.
    worst
        Upper bound on max_j |E ĝ_j − g_j|, at 99.9 %.
    certain
        False where skewness makes the intervals of coordinates untrustworthy.
    estimate, low, high
        Estimate of ‖E ĝ − g‖₂ with the sampling noise subtracted, and its 95 % interval.
    """

    value: float
    worst: float
    certain: bool
    estimate: float
    low: float
    high: float


def sampled_bound(d: Difference, level: float) -> Bound:
    """Bound the bias from sampled replicates, jointly over coordinates at confidence 1 − level."""
    spectrum, squared = d.spectrum(), float(d.mean @ d.mean)
    z, dimension = normal_quantile(level / len(d.mean)), len(d.mean)
    ends = [np.abs(d.mean - d.deviation * hall_inverse(sign * z, d.skewness, d.count)) for sign in (-1.0, 1.0)]
    # The means were shrunk by one tolerance, and the truth may lie one further tolerance away from the unshrunk mean.
    farther = np.maximum(*ends) + 2.0 * d.tolerance
    rounding = 2.0 * float(np.linalg.norm(d.tolerance))
    whole = spectrum.upper(squared, t_quantile(level, GROUPS - 1)) + rounding
    half = t_quantile(0.05, GROUPS - 1)
    value = min(whole, float(np.linalg.norm(farther))) if dimension > 1 else float(farther[0])
    return Bound(
        value=value,
        worst=float(farther.max()),
        certain=bool(np.all(decidable(d.skewness, z, d.count) | (d.deviation == 0.0))),
        estimate=math.sqrt(max(squared - spectrum.trace, 0.0)),
        low=spectrum.lower(squared, half),
        high=min(spectrum.upper(squared, half) + rounding, value),
    )


def integrated_bound(off: np.ndarray, error: np.ndarray, tolerance: np.ndarray) -> Bound:
    """Bound the bias from the integrals of an estimator, their numerical errors, and rounding.

    Parameters
    ----------
    off
        Integrals less g [P].
    error
        Numerical errors of the integrals [P].
    tolerance
        Bound on the error of a mean [P], from rounding (τ) and from the error of g.
    """
    error, bias = error + tolerance, np.abs(off)
    estimate = float(np.linalg.norm(bias))
    value = float(np.linalg.norm(bias + error))
    return Bound(value, float((bias + error).max()), True, estimate, max(0.0, 2.0 * estimate - value), value)
