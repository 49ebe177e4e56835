"""Expectations of functions of one variable under many Normals at once, exact to rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import numpy as np

Key = TypeVar("Key")

#: Number of elements (rows × nodes) held at once.
AT_ONCE = 2**20

#: Largest `scale` of q relative to the pole's distance. The number of nodes grows with it, to some 10^6 per row here.
WIDEST = 1000.0


def normal_expectations(
    functions: Callable[[np.ndarray, np.ndarray], dict[Key, np.ndarray]],
    mean: np.ndarray,
    deviation: np.ndarray,
    response: np.ndarray,
    pole: float,
) -> dict[Key, np.ndarray]:
    """Return E of the values of `functions` at t ~ N(mean_n, deviation_n²) for every n.

    The trapezoidal rule on ±9.5 standard deviations converges as exp(−2π a/step), where a is the distance of the
    nearest pole of the function from the real line, in standard deviations. Here this is exp(−43.9).

    Parameters
    ----------
    functions : callable
        (t [n, K], response [n, 1]) -> arrays [n, K] by name.
    mean, deviation, response : [N]
        Mean and standard deviation of t, and the response, per row.
    pole : float
        Imaginary part of the nearest pole in t.
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
