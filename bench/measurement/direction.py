"""Where a mean gradient lies relative to the exact one: the cosine between them, and the factor between their lengths.

The cosine is (E ĝ · g)/(‖E ĝ‖ ‖g‖). The factor is the a with which a g is nearest to E ĝ, a = E ĝ · g/‖g‖². A bias that
is a pure scale has cosine 1, and a step size undoes it; any other bias changes the objective that is followed.
"""

from __future__ import annotations

import math

import numpy as np

from gradmeter.bench.measurement.bias import t_quantile


def cosine(mean: np.ndarray, error: np.ndarray, exact: np.ndarray) -> float | None:
    """Return the cosine of E ĝ to g, or None where either is 0.

    Parameters
    ----------
    mean, error
        Estimate of E ĝ and its standard error, or its numerical error [P]. The error is subtracted from the squared
        length of the mean, to which it adds on average.
    exact
        g [P].
    """
    squared, size = float(mean @ mean - error @ error), float(np.linalg.norm(exact))
    if size == 0.0 or squared <= 0.0 or not math.isfinite(squared):
        return None
    return float(np.clip(mean @ exact / (math.sqrt(squared) * size), -1.0, 1.0))


def sampled_scale(groups: np.ndarray, exact: np.ndarray) -> tuple[float, float, float] | None:
    """Return the factor a and its 95 % interval from the means of independent groups [G, P], or None where g = 0."""
    squared, count = float(exact @ exact), len(groups)
    if squared == 0.0:
        return None
    found = groups @ exact / squared
    middle, error = float(found.mean()), float(found.std(ddof=1)) / math.sqrt(count)
    half = t_quantile(0.05, count - 1) * error
    return middle, middle - half, middle + half


def integrated_scale(mean: np.ndarray, error: np.ndarray, exact: np.ndarray) -> tuple[float, float, float] | None:
    """Return the factor a with bounds from the numerical error of an integral, or None where g = 0.

    Parameters
    ----------
    mean
        E ĝ [P].
    error
        Bound on its numerical error [P].
    exact
        g [P].
    """
    squared = float(exact @ exact)
    if squared == 0.0:
        return None
    middle, half = float(mean @ exact) / squared, float(error @ np.abs(exact)) / squared
    return middle, middle - half, middle + half
