"""How large may the bias be? Bounds on ‖E ĝ − g‖₂, and its estimate with an interval.

U = ‖ȳ‖² − v estimates ‖E ĝ − g‖² without bias. The bound inverts U for the worst direction of the bias; where the bias
lies in few coordinates, the intervals of the coordinates give a smaller one.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.measurement.bias import Difference, decidable, hall_inverse, normal_quantile, t_quantile
from gradmeter.bench.measurement.integrate import Integral
from gradmeter.bench.measurement.moments import GROUPS

BOUND_LEVEL = 1e-3
#: A gradient below this may rest on events 17 standard deviations away, which no draw meets, not even a defensive one.
FAINT = 1e-60


@dataclass(frozen=True)
class Scale:
    """What a bias is compared with."""

    size: float
    name: str  # `gradient`, or `deviation` where ‖g‖ is within rounding
    lost: bool  # whether even that is within rounding
    rounding: float = 0.0  # ‖τ‖

    def hides(self, bias: np.ndarray) -> bool:
        """Whether there is nothing to compare a bias with, and it may itself be rounding."""
        return self.lost and float(np.linalg.norm(bias)) <= max(self.rounding, FAINT)

    def of(self, bias: float) -> float:
        """A bias relative to it; infinite where there is nothing to compare with."""
        return bias / self.size if bias < self.size * sys.float_info.max else math.inf


def scale_of(exact: np.ndarray, variance: float, tolerance: np.ndarray) -> Scale:
    """‖g‖, or the standard deviation where ‖g‖ is within rounding and the reference's own error."""
    norm, deviation, rounding = float(np.linalg.norm(exact)), math.sqrt(variance), float(np.linalg.norm(tolerance))
    if norm > rounding and (norm > FAINT or deviation > rounding):
        return Scale(norm, "gradient", False, rounding)
    return Scale(deviation, "deviation", deviation <= rounding, rounding)


@dataclass(frozen=True)
class Bound:
    """The size of the bias, in the gradient's own units.

    Attributes
    ----------
    value : at least ‖E ĝ − g‖₂, at 99.9 %.
    worst : at least |E ĝ_j − g_j| of every j, likewise.
    certain : false where skewness makes the intervals untrustworthy.
    estimate, low, high : of ‖E ĝ − g‖₂, sampling noise taken off, with its 95 % interval.
    """

    value: float
    worst: float
    certain: bool
    estimate: float
    low: float
    high: float


def sampled_bound(d: Difference, level: float) -> Bound:
    """Bound the bias by sampling, jointly over coordinates at 1 − level."""
    spectrum, squared = d.spectrum(), float(d.mean @ d.mean)
    z, dimension = normal_quantile(level / len(d.mean)), len(d.mean)
    ends = [np.abs(d.mean - d.deviation * hall_inverse(sign * z, d.skewness, d.count)) for sign in (-1.0, 1.0)]
    # Means were moved towards 0 by a tolerance, and the truth may be one tolerance away from where they were.
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


def integrated_bound(integrals: list[Integral], exact: np.ndarray, tolerance: np.ndarray) -> Bound:
    """Bound the bias by integrals, their numerical error and rounding included."""
    error = np.concatenate([i.error for i in integrals]) + tolerance
    bias = np.abs(np.concatenate([i.mean for i in integrals]) - exact)
    estimate = float(np.linalg.norm(bias))
    value = float(np.linalg.norm(bias + error))
    return Bound(value, float((bias + error).max()), True, estimate, max(0.0, 2.0 * estimate - value), value)
