"""The slope of a straight line on log-log axes, with an interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.measurement.variance import NORMAL_95


@dataclass(frozen=True)
class Slope:
    """d log y / d log x with its 95 % interval; the line is y = exp(intercept) x^value."""

    value: float
    low: float
    high: float
    intercept: float


def fit(x: Sequence[float], y: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Slope | None:
    """Fit log y to log x by weighted least squares; return None where there are fewer than three usable points.

    Weights come from the 95 % intervals [low, high] of y. Where the points scatter more about the line than these
    explain, the interval of the slope is widened by as much (the Birge ratio).
    """
    points = [
        (math.log(a), math.log(b), math.log(top / bottom) / (2.0 * NORMAL_95))
        for a, b, bottom, top in zip(x, y, low, high, strict=True)
        if a > 0.0 and b > 0.0 and 0.0 < bottom < top
    ]
    if len({p[0] for p in points}) < 3:
        return None
    u, v, error = np.array(points).T
    weight = 1.0 / error**2
    centre_u, centre_v = (weight @ u) / weight.sum(), (weight @ v) / weight.sum()
    spread = float(weight @ (u - centre_u) ** 2)
    slope = float(weight @ ((u - centre_u) * (v - centre_v))) / spread
    scatter = float(weight @ (v - centre_v - slope * (u - centre_u)) ** 2) / (len(u) - 2)
    half = NORMAL_95 * math.sqrt(max(1.0, scatter) / spread)
    return Slope(slope, slope - half, slope + half, float(centre_v - slope * centre_u))
