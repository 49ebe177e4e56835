"""Expectations under a Normal of functions of one number, for many Normals at once, to rounding."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

#: Elements that are held at once: rows times nodes.
AT_ONCE = 2**20

#: How many times a pole's distance q's `scale` may be: the nodes grow with it, here to some 10^6 a row.
WIDEST = 1000.0


def normal_expectations(
    functions: Callable[[np.ndarray, np.ndarray], dict[int, np.ndarray]],
    mean: np.ndarray,
    deviation: np.ndarray,
    response: np.ndarray,
    pole: float,
) -> dict[int, np.ndarray]:
    """E of what `functions` returns, at t ~ N(mean_n, deviation_n²) for every n.

    The trapezoid rule on ±9.5 standard deviations converges as exp(−2π a/step), where a is how far above the real line
    the function has its nearest pole, in standard deviations: here exp(−43.9).

    Parameters
    ----------
    functions : (t [n, K], response [n, 1]) -> arrays [n, K] by name.
    mean, deviation, response : [N].
    pole : imaginary part of the nearest pole in t.
    """
    step = 0.45 * min(1.0, pole / (math.pi * float(deviation.max())))
    count = math.ceil(9.5 / step)
    nodes = np.arange(-count, count + 1) * step
    weights = np.exp(-0.5 * nodes**2)
    weights /= weights.sum()
    each = max(1, AT_ONCE // len(nodes))
    parts = []
    for first in range(0, len(mean), each):
        rows = slice(first, first + each)
        t = mean[rows, None] + deviation[rows, None] * nodes
        parts.append({name: found @ weights for name, found in functions(t, response[rows, None]).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
