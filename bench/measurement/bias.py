"""Test whether the mean of an estimator is the exact gradient: differences ḡ − g, and the two stages of `biased`.

Failing to reject proves nothing, so `unbiased` is the result of an equivalence test: it needs a certified bound on the
bias (`bounds.py`). `biased` needs two independent rejections. Stage one names a coordinate or a direction as the
candidate; stage two confirms exactly that candidate, with its sign, on fresh noise. Hall's transformation corrects the
tests for skewness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from gradmeter.bench.measurement.moments import GROUPS, Moments
from gradmeter.bench.measurement.spectrum import Spectrum

STAGE_LEVEL = 3e-4
#: n replicates miss an event of probability 8/n once in 3,000 times (e⁻⁸).
MISSED = 8.0
#: Assumed size of an estimate at an unobserved event, in units of the gradient.
MISSED_SIZE = 100.0


def normal_quantile(two_sided: float) -> float:
    """Return z with P(|N| > z) = two_sided for a standard normal N."""
    return float(special.ndtri(1.0 - 0.5 * two_sided))


def t_quantile(two_sided: float, freedom: int) -> float:
    """Return t with P(|T| > t) = two_sided for a Student t of `freedom` degrees of freedom."""
    return float(special.stdtrit(freedom, 1.0 - 0.5 * two_sided))


def hall(standardised: np.ndarray, skewness: np.ndarray, count: int) -> np.ndarray:
    """Return Hall's (1992) monotone transformation of (x̄ − g)/s, whose distribution is nearly normal."""
    s, third = standardised, skewness / 3.0
    return math.sqrt(count) * (s + third * s**2 + third**2 * s**3 / 3.0 + skewness / (6.0 * count))


def hall_inverse(t: float, skewness: np.ndarray, count: int) -> np.ndarray:
    """Return the (x̄ − g)/s that Hall's transformation maps to t.

    Parameters
    ----------
    t
        Quantile of Hall's statistic.
    skewness
        γ̂ of every coordinate [D].
    count
        n.
    """
    third = skewness / 3.0
    aim = t / math.sqrt(count) - skewness / (6.0 * count)
    flat = np.abs(third) < 1e-9
    safe = np.where(flat, 1.0, third)
    return np.where(flat, aim, (np.cbrt(1.0 + 3.0 * safe * aim) - 1.0) / safe)


def decidable(skewness: np.ndarray, z: float, count: int) -> np.ndarray:
    """Return where the tail of the transformed statistic can be trusted at quantile z: |γ̂| z³/(3√n) ≤ ln 2.

    Parameters
    ----------
    skewness
        γ̂ of every coordinate [D].
    z
        Quantile of a standard Normal.
    count
        n.
    """
    return np.abs(skewness) * z**3 / (3.0 * math.sqrt(count)) <= math.log(2.0)


@dataclass(frozen=True)
class Difference:
    """The difference ḡ − g of one or several parameter blocks after n replicates.

    Attributes
    ----------
    mean
        ḡ − g [D], moved towards 0 by the rounding tolerance.
    deviation
        Standard deviation of ĝ_j [D]; 0 where it is within the rounding tolerance.
    skewness
        Skewness of ĝ_j [D]; 0 where the deviation is 0.
    groups
        ḡ − g of each group of replicates [64, D], without the tolerance taken off.
    count
        n.
    tolerance
        Bound on the error of a mean [D], from rounding (τ) and from the error of g.
    unseen
        Largest difference ḡ − g that an event which no replicate met could explain [D].
    rare
        Whether `unseen` applies to a coordinate that varies [D]; it always applies to one that does not. It does where
        z is discrete and the events are states of z: a coordinate whose own rare state was never drawn still varies a
        little with the other coordinates, about a wrong mean.
    """

    mean: np.ndarray
    deviation: np.ndarray
    skewness: np.ndarray
    groups: np.ndarray
    count: int
    tolerance: np.ndarray
    unseen: np.ndarray
    rare: np.ndarray

    def explained(self, weights: np.ndarray) -> bool:
        """Return whether states that no replicate met may explain Σ weights_j (ḡ_j − g_j)."""
        return abs(float(weights @ self.mean)) <= float(np.abs(weights) @ np.where(self.rare, self.unseen, 0.0))

    @property
    def mean_variances(self) -> np.ndarray:
        """Variance of each coordinate's mean [D]."""
        return self.deviation**2 / self.count

    @property
    def z(self) -> np.ndarray:
        """z-values [D]; infinite where a coordinate is constant and differs from g."""
        return _ratio(self.mean, self.deviation / math.sqrt(self.count))

    def spectrum(self) -> Spectrum:
        """Estimate the spectrum of the covariance of ḡ."""
        return Spectrum.of(self.groups, self.mean_variances)


def _ratio(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Divide values by their standard errors; where an error is 0, the result is 0 or infinite."""
    varies = error > 0.0
    constant = np.where(value == 0.0, 0.0, np.copysign(np.inf, value))
    return np.where(varies, value / np.where(varies, error, 1.0), constant)


def shrink(values: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Move values towards 0 by a tolerance, so that what remains is not rounding."""
    return np.sign(values) * np.maximum(np.abs(values) - tolerance, 0.0)


def difference(
    moments: Moments,
    offset: np.ndarray | float,
    exact: np.ndarray,
    tolerance: np.ndarray,
    rounding: np.ndarray | None = None,
    rare: bool = False,
    event: np.ndarray | float = 0.0,
) -> Difference:
    """Return ḡ − g from streamed moments.

    Parameters
    ----------
    moments
        Moments about the centre g + offset.
    offset
        Centre minus g [D].
    exact
        g [D].
    tolerance
        Bound on the error of ḡ − g from rounding and from the error of g [D].
    rounding
        Standard deviations up to this count as 0 [D]; the tolerance if absent.
    rare
        Whether z is discrete and has states that no draw may have met.
    event
        Size of an estimate at an event that no draw met, where the draws suggest a smaller size; else 0.
    """
    deviation = np.sqrt(moments.variances())
    constant = deviation <= (tolerance if rounding is None else rounding)
    size = np.maximum(np.maximum(MISSED_SIZE * np.abs(exact), math.sqrt(moments.largest_norm)), event)
    return Difference(
        mean=shrink(moments.shift() + offset, tolerance),
        deviation=np.where(constant, 0.0, deviation),
        skewness=np.where(constant, 0.0, moments.skewness()),
        groups=moments.group_means() + offset,
        count=moments.count,
        tolerance=tolerance,
        unseen=MISSED * size / moments.count,
        rare=(event > 0.0) | np.full(len(deviation), rare),
    )


def combine(parts: list[Difference]) -> Difference:
    """Concatenate the differences of several parameter blocks."""

    def joined(name: str, axis: int = 0) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts], axis=axis)

    return Difference(
        mean=joined("mean"),
        deviation=joined("deviation"),
        skewness=joined("skewness"),
        groups=joined("groups", 1),
        count=parts[0].count,
        tolerance=joined("tolerance"),
        unseen=joined("unseen"),
        rare=joined("rare"),
    )


def pool(parts: list[Difference]) -> Difference:
    """Pool independent means of the same coordinates, weighted by their numbers of replicates."""
    counts = np.asarray([part.count for part in parts], dtype=np.float64)
    share = counts / counts.sum()
    variance = sum(w * part.deviation**2 for w, part in zip(share, parts, strict=True))
    third = sum(w * part.deviation**3 * part.skewness for w, part in zip(share, parts, strict=True))
    mean = sum(w * part.groups.mean(axis=0) for w, part in zip(share, parts, strict=True))
    return replace(
        parts[0],
        mean=shrink(mean, parts[0].tolerance),
        deviation=np.sqrt(variance),
        skewness=np.where(variance > 0.0, third / np.where(variance > 0.0, variance, 1.0) ** 1.5, 0.0),
        groups=sum(w * part.groups for w, part in zip(share, parts, strict=True)),
        count=sum(part.count for part in parts),
    )


@dataclass(frozen=True)
class Candidate:
    """The hypothesis that stage two is to confirm: signed unit weights [D] over the coordinates."""

    weights: np.ndarray


def stage_one(d: Difference, level: float, any_skewness: bool = False) -> Candidate | None:
    """Return a candidate: a coordinate (Holm's first step), or the direction of ḡ − g if its length is significant.

    Each of the two tests has half the level. If both reject, the one with the smaller p-value is the candidate.

    Parameters
    ----------
    d
        Difference of the mean and g.
    level
        Level of both tests together.
    any_skewness
        Whether coordinates count however skewed they are. The limit on skewness is meant for plain draws from heavy
        tails; weighted defensive draws have sampled those tails.
    """
    dimension = len(d.mean)
    t = _transformed(d)
    quantile = normal_quantile(0.5 * level / dimension)
    if not any_skewness:
        t = np.where(decidable(d.skewness, quantile, d.count) | (d.deviation == 0.0), t, 0.0)
    worst = int(np.argmax(np.abs(t)))
    coordinate = Candidate(np.eye(1, dimension, worst)[0] * np.sign(t[worst]))
    found = [(dimension * 2.0 * float(special.ndtr(-abs(t[worst]))), coordinate)]
    norm = float(np.linalg.norm(d.mean))
    if dimension > 1 and norm > 0.0:
        found.append((d.spectrum().chance_of(norm**2), Candidate(d.mean / norm)))
    chance, candidate = min(found, key=lambda pair: pair[0])
    return candidate if chance < 0.5 * level and not d.explained(candidate.weights) else None


def stage_two(d: Difference, candidate: Candidate, any_skewness: bool = False) -> bool:
    """Return whether fresh replicates confirm the candidate: the same coordinate or direction, with the same sign.

    Parameters
    ----------
    d
        Difference of the mean and g.
    candidate
        The candidate that earlier replicates gave.
    any_skewness
        As in `stage_one`.
    """
    if d.explained(candidate.weights):
        return False
    if np.count_nonzero(candidate.weights) == 1:
        j = int(np.argmax(np.abs(candidate.weights)))
        quantile = normal_quantile(STAGE_LEVEL)
        if d.deviation[j] > 0.0 and not any_skewness and not decidable(d.skewness[[j]], quantile, d.count)[0]:
            return False
        return bool(_transformed(d)[j] * candidate.weights[j] > quantile)
    return projected_t(d, candidate.weights) > t_quantile(STAGE_LEVEL, GROUPS - 1)


def _transformed(d: Difference) -> np.ndarray:
    """Return Hall's statistic of each coordinate; 0 where an event that no replicate met may explain the difference."""
    varies = d.deviation > 0.0
    standardised = np.where(varies, d.mean / np.where(varies, d.deviation, 1.0), 0.0)
    beyond = np.abs(d.mean) > d.unseen
    t = np.where(varies, hall(standardised, d.skewness, d.count), d.z)
    return np.where(beyond | (varies & ~d.rare), t, 0.0)


def projected_t(d: Difference, weights: np.ndarray) -> float:
    """Return the t-statistic of Σ weights_j (ḡ_j − g_j) over the groups of replicates.

    The rounding tolerance is taken off. The result is infinite where the groups agree on a value other than 0.
    """
    values = d.groups @ weights
    spread = float(values.std(ddof=1)) / math.sqrt(len(values))
    mean = shrink(values.mean(), np.abs(weights) @ d.tolerance)
    return float(_ratio(np.asarray(mean), np.asarray(spread)))
