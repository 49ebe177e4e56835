"""Agreement of integration with sampling, and of replicates with each other."""

from __future__ import annotations

import math
import sys

import numpy as np

from gradmeter.bench.measurement.bias import normal_quantile
from gradmeter.bench.measurement.integrate import Integral
from gradmeter.bench.measurement.moments import GROUPS, Moments
from gradmeter.bench.measurement.variance import share_of_largest

#: Ratio of the variance of group means to its value under independence, outside which replicates are suspected to be
#: dependent; and the share of ΣQ in the 16 largest Q above which a ratio below the lower limit is no evidence.
DEPENDENT_BELOW, DEPENDENT_ABOVE, FEW_HOLD = 0.36, 2.1, 0.5
#: Tolerance between the integrated and the sampled variance, for parts that are not of the catalogue: relative
#: tolerance, standard errors on top of it, and a cap on the kurtosis that enters the standard error.
VARIANCES_APART, ERRORS_APART, KURTOSIS = 0.1, 6.0, 50.0


def different_means(
    name: str,
    integral: Integral,
    mean: np.ndarray,
    error: np.ndarray,
    count: int,
    tolerance: np.ndarray,
    level: float,
) -> str | None:
    """Return how a sampled mean contradicts the integral of a block, in words, or None.

    Parameters
    ----------
    name
        Name of the parameter block.
    integral
        Mean and variance of the block by integration.
    mean, error, count
        The sampled mean [P], its standard error, and the number of replicates.
    tolerance
        How far rounding and the error of the exact gradient may move a mean [P].
    level
        Two-sided level of the test of one coordinate.
    """
    off = np.maximum(np.abs(mean - integral.mean) - integral.error - tolerance, 0.0)
    far = off > normal_quantile(level) * error
    if not np.any(far):
        return None
    j = int(np.argmax(np.where(far, off / np.maximum(error, sys.float_info.min), 0.0)))
    away = "" if error[j] == 0.0 else f", {off[j] / error[j]:.1f} standard errors away"
    return f"it gives {integral.mean[j]:.6g} for {name}[{j}] and {count} replicates {mean[j]:.6g}{away}"


def different_variances(name: str, integral: Integral, moments: Moments, rounding: np.ndarray) -> str | None:
    """Return by how much replicates vary more or less than an integral says, since the grids missed something.

    Parameters
    ----------
    name
        Name of the parameter block.
    integral
        Mean and variance of the block by integration.
    moments
        Moments of the replicates.
    rounding
        τ [P].
    """
    sampled, known = float(moments.variances().sum()), float(integral.variance.sum())
    error = math.sqrt((min(moments.kurtosis(), KURTOSIS) - 1.0) / moments.count)
    least = float((rounding**2).sum())
    if not math.isfinite(known) or abs(sampled - known) <= (VARIANCES_APART + ERRORS_APART * error) * known + least:
        return None
    return f"it gives {name} a variance of {known:.4g}, and {moments.count} replicates have {sampled:.4g}"


def group_ratio(moments: Moments, rounding: np.ndarray) -> float | None:
    """Return the variance of group means over its value for independent replicates, if it suggests dependence.

    Parameters
    ----------
    rounding
        τ [P]; coordinates that vary by no more are left out.
    """
    deviation = np.sqrt(moments.variances())
    varies = deviation > rounding
    if not np.any(varies):
        return None
    between = moments.group_means()[:, varies].var(axis=0, ddof=1).sum()
    ratio = float(moments.count / GROUPS * between / (deviation[varies] ** 2).sum())
    share = share_of_largest(moments.largest, float(moments.norms[:, 0].sum()), 1)
    return ratio if ratio > DEPENDENT_ABOVE or (ratio < DEPENDENT_BELOW and share < FEW_HOLD) else None
