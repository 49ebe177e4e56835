"""The variance of a parameter block, with an interval and a flag for intervals that cannot be trusted."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.measurement.moments import Moments, kurtosis_of

NORMAL_95 = 1.959963984540054
HEAVY_INDEX, HEAVY_SHARE, INFINITE_INDEX = 0.25, 0.5, 0.5
SHARE_OF = 16
#: Bootstrap resamples of an interval.
RESAMPLES = 2000
#: Share of ΣQ in the 16 largest Q above which E Q may be infinite, from SETTLED replicates on. With fewer replicates
#: the limit is higher, because then the largest values of a light tail hold much of ΣQ too.
INFINITE_SHARE, SETTLED = 0.35, 2**20


@dataclass(frozen=True)
class VarianceEstimate:
    """An estimate of a variance with its 95 % interval.

    Attributes
    ----------
    variance, low, high
        The estimate and its interval.
    flag
        `ok`, `unreliable` (heavy tail or too few replicates) or `not-estimable` (the variance may be infinite).
    half_width
        Half-width of the 95 % interval of the log variance.
    heavy
        Whether a few replicates hold most of ΣQ², on which the interval rests.
    """

    variance: float
    low: float
    high: float
    flag: str
    half_width: float
    heavy: bool = False


def tail_index(largest: np.ndarray, count: int) -> float:
    """Return the index k̂ of a generalised Pareto fit to the largest values (Zhang & Stephens 2009, as used in PSIS).

    Parameters
    ----------
    largest
        At least the ⌈min(n/5, 3√n)⌉ + 1 largest of n values.
    count
        n.
    """
    keep = math.ceil(min(count / 5.0, 3.0 * math.sqrt(count)))
    ordered = np.sort(largest)
    if len(ordered) <= keep or keep < 5:
        return math.nan
    excess = ordered[-keep:] - ordered[-keep - 1]
    excess = excess[excess > 0.0]
    n = len(excess)
    if n < 5:
        return math.nan
    # The estimate of θ = k/σ is a mean over a grid, weighted by the profile likelihood.
    grid = 30 + int(math.sqrt(n))
    quartile = excess[int(n / 4.0 + 0.5) - 1]
    theta = 1.0 / excess[-1] + (1.0 - np.sqrt(grid / (np.arange(1, grid + 1) - 0.5))) / (3.0 * quartile)
    shape = np.array([np.log1p(-t * excess).mean() for t in theta])
    regular = shape * theta < 0.0  # θ = 0 is the exponential distribution, where the profile is 0/0
    theta, shape = theta[regular], shape[regular]
    if len(theta) == 0:
        return 0.0
    likelihood = n * (np.log(-theta / shape) - shape - 1.0)
    weights = np.exp(likelihood - likelihood.max())
    best = float(weights @ theta / weights.sum())
    return float(np.log1p(-best * excess).mean())


def share_of_largest(largest: np.ndarray, total: float, power: int) -> float:
    """Return the share of ΣQ^power that the 16 largest Q hold.

    Parameters
    ----------
    largest
        At least the 16 largest Q.
    total
        ΣQ^power.
    power
        1 or 2.
    """
    if total <= 0.0:
        return 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        share = float(np.sum(np.sort(largest)[-SHARE_OF:] ** power) / total)
    return share if math.isfinite(share) else 1.0  # the squares overflow


def is_heavy(moments: Moments) -> bool:
    """Return whether too few replicates were drawn for a light tail, and a few of them dominate the fourth moment."""
    if math.isfinite(normal_half_width(moments.kurtosis(), moments.count)):
        return False
    square_share = share_of_largest(moments.largest, float(moments.norms[:, 1].sum()), 2)
    return _dominated(tail_index(moments.largest, moments.count), square_share)


def _dominated(tail: float, square_share: float) -> bool:
    """Return whether a few replicates dominate the fourth moment: a heavy index, and 16 values with most of ΣQ²."""
    return square_share > HEAVY_SHARE and tail > HEAVY_INDEX


def seems_infinite(tail: float, share: float, count: int) -> bool:
    """Return whether E Q may be infinite: a heavy index, and 16 values with much of ΣQ for the number of replicates.

    The index alone cannot tell: for light tails it falls to 0 so slowly that a polynomial of a Normal has an index of
    0.7 after a million replicates. For light tails the share of ΣQ falls nearly as 1/n; with an index of 1 or more it
    stays. For the square problem under score-function[baseline=optimal], whose variance is finite, this rule flags none
    of 50 runs at n = 2^20; for exp(c z²) with an index of 4cσ² = 1.2 or more it flags all.
    """
    limit = INFINITE_SHARE * max(1.0, SETTLED / count) ** 0.125
    return tail > INFINITE_INDEX and share > limit


def normal_half_width(kurtosis: float, count: int) -> float:
    """Return the half-width of the interval for log V under a light tail; infinite where n < 200 κ."""
    return NORMAL_95 * math.sqrt((kurtosis - 1.0) / count) if count >= 200.0 * kurtosis else math.inf


def estimate_variance(
    variance: float,
    *,
    count: int,
    kurtosis: float,
    tail: float,
    share: float,
    square_share: float,
    group_means: np.ndarray,
) -> VarianceEstimate:
    """Return an estimate of the trace V with its interval, from κ = E Q²/(E Q)².

    se(log V̂) = √((κ − 1)/n), valid for n ≥ 200 κ and a tail that is not heavy; elsewhere bootstrap-t on log V over the
    group means of Q.

    Parameters
    ----------
    variance, count, kurtosis
        V̂, n, κ̂.
    tail, share, square_share
        Tail index of Q, and the shares of ΣQ and of ΣQ² in its 16 largest values.
    group_means
        Mean of Q in each group of replicates.
    """
    if variance <= 0.0:
        return VarianceEstimate(0.0, 0.0, 0.0, "ok", 0.0)
    heavy = _dominated(tail, square_share)
    half = normal_half_width(kurtosis, count)
    if math.isfinite(half) and not heavy:
        return VarianceEstimate(variance, variance * math.exp(-half), variance * math.exp(half), "ok", half)
    flag = "not-estimable" if heavy and seems_infinite(tail, share, count) else "unreliable"
    low, high = grouped_interval(group_means)
    ratio = variance / max(float(group_means.mean()), sys.float_info.min)
    low, high = min(low * ratio, variance), max(high * ratio, variance)
    half = 0.5 * (math.log(high) - math.log(low)) if low > 0.0 else math.inf
    return VarianceEstimate(variance, low, high, flag, half, heavy)


def variance_of(
    variance: float, count: int, sums: np.ndarray, largest: np.ndarray, group_means: np.ndarray
) -> VarianceEstimate:
    """Estimate a variance from ΣQ and ΣQ², the largest Q, and the mean of Q by group.

    Parameters
    ----------
    variance
        Trace of the sample covariance.
    count
        n.
    sums
        ΣQ and ΣQ².
    largest
        At least the 16 largest Q.
    group_means
        Mean of Q in every group of replicates.
    """
    return estimate_variance(
        variance,
        count=count,
        kurtosis=kurtosis_of(sums, count),
        tail=tail_index(largest, count) if variance > 0.0 else math.nan,
        share=share_of_largest(largest, float(sums[0]), 1),
        square_share=share_of_largest(largest, float(sums[1]), 2),
        group_means=group_means,
    )


def grouped_interval(values: np.ndarray) -> tuple[float, float]:
    """Return a 95 % bootstrap-t interval for the mean of positive values, studentised on the log scale."""
    generator = np.random.default_rng(np.random.SeedSequence(20250101))
    largest = 709.0  # keeps the exponential of the limits finite
    n, mean = len(values), values.mean()
    values, mean = values / mean, float(mean)  # squares of scaled values do not overflow
    error = values.std(ddof=1) / math.sqrt(n)
    drawn = values[generator.integers(0, n, (RESAMPLES, n))]
    means = np.maximum(drawn.mean(axis=1), np.finfo(float).tiny)
    errors = np.maximum(drawn.std(axis=1, ddof=1) / (means * math.sqrt(n)), 1e-3 * error + 1e-300)
    t = np.log(means) / errors
    upper, lower = np.quantile(t, [0.025, 0.975])
    low, high = np.clip(math.log(mean) - np.asarray([lower, upper]) * error, -largest, largest)
    return math.exp(low), math.exp(high)
