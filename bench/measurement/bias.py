"""Is the mean of an estimator the exact gradient? Differences ḡ − g, and the two stages of `biased`.

A test that merely fails to reject proves nothing: `unbiased` is an equivalence, a certified bound on the bias
(`bounds.py`). `biased` needs two independent rejections: stage one names a coordinate or a direction as candidate,
stage two confirms exactly that, with its sign, on fresh noise. Skewness is met by Hall's transformation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from gradmeter.bench.measurement.moments import GROUPS, Moments
from gradmeter.bench.measurement.spectrum import Spectrum

STAGE_LEVEL = 3e-4
#: n replicates miss an event of probability 8/n once in 3,000 times.
MISSED = 8.0
#: How many times the gradient such an event may be.
MISSED_SIZE = 100.0


def normal_quantile(two_sided: float) -> float:
    """z with P(|N| > z) = two_sided."""
    return float(special.ndtri(1.0 - 0.5 * two_sided))


def t_quantile(two_sided: float, freedom: int) -> float:
    """t with P(|T| > t) = two_sided."""
    return float(special.stdtrit(freedom, 1.0 - 0.5 * two_sided))


def hall(standardised: np.ndarray, skewness: np.ndarray, count: int) -> np.ndarray:
    """Hall's (1992) monotone transformation of (x̄ − g)/s into a nearly normal t."""
    s, third = standardised, skewness / 3.0
    return math.sqrt(count) * (s + third * s**2 + third**2 * s**3 / 3.0 + skewness / (6.0 * count))


def hall_inverse(t: float, skewness: np.ndarray, count: int) -> np.ndarray:
    """The (x̄ − g)/s that Hall's transformation takes to t."""
    third = skewness / 3.0
    aim = t / math.sqrt(count) - skewness / (6.0 * count)
    flat = np.abs(third) < 1e-9
    safe = np.where(flat, 1.0, third)
    return np.where(flat, aim, (np.cbrt(1.0 + 3.0 * safe * aim) - 1.0) / safe)


def decidable(skewness: np.ndarray, z: float, count: int) -> np.ndarray:
    """Where the transformed tail can be trusted at quantile z."""
    return np.abs(skewness) * z**3 / (3.0 * math.sqrt(count)) <= math.log(2.0)


@dataclass(frozen=True)
class Difference:
    """ḡ − g of one or several parameter blocks after n replicates.

    Attributes
    ----------
    mean : ḡ − g [D], moved towards 0 by the rounding tolerance.
    deviation : standard deviation of ĝ_j [D], 0 where it is within the rounding tolerance.
    skewness : [D].
    groups : ḡ − g of each group of replicates [64, D].
    count : n.
    tolerance : τ [D], how far rounding may move a mean.
    unseen : how far off a coordinate may be for an event that no replicate met [D].
    rare : whether such events matter although a coordinate varies [D]: where z is discrete, so that they are its
        states. A coordinate whose own rare state was not met varies all the same, with the others, by little about a
        wrong mean. Elsewhere `unseen` is asked of those alone that never varied.
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
        """Whether states that no replicate met may explain how far off Σ weights_j ḡ_j is."""
        return abs(float(weights @ self.mean)) <= float(np.abs(weights) @ np.where(self.rare, self.unseen, 0.0))

    @property
    def mean_variances(self) -> np.ndarray:
        """The variance of each coordinate's mean [D]."""
        return self.deviation**2 / self.count

    @property
    def z(self) -> np.ndarray:
        """z-values [D]; infinite where a constant is off."""
        return _ratio(self.mean, self.deviation / math.sqrt(self.count))

    def spectrum(self) -> Spectrum:
        """What is known of the covariance of ḡ."""
        return Spectrum.of(self.groups, self.mean_variances)


def _ratio(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    varies = error > 0.0
    constant = np.where(value == 0.0, 0.0, np.copysign(np.inf, value))
    return np.where(varies, value / np.where(varies, error, 1.0), constant)


def shrink(values: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Move values towards 0 by a tolerance: what is left is more than rounding."""
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
    """ḡ − g from streamed moments about g + offset.

    Parameters
    ----------
    tolerance : how far ḡ − g may be off for rounding and for the error of g [D].
    rounding : deviations at most this are none [D]; the tolerance if absent.
    rare : whether z is discrete, and has states that no draw may have met.
    event : how large an estimate may be that no draw met, where that is more than what was met tells; else 0.
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
    """Join the differences of several parameter blocks into that of all."""
    return Difference(
        mean=np.concatenate([p.mean for p in parts]),
        deviation=np.concatenate([p.deviation for p in parts]),
        skewness=np.concatenate([p.skewness for p in parts]),
        groups=np.concatenate([p.groups for p in parts], axis=1),
        count=parts[0].count,
        tolerance=np.concatenate([p.tolerance for p in parts]),
        unseen=np.concatenate([p.unseen for p in parts]),
        rare=np.concatenate([p.rare for p in parts]),
    )


@dataclass(frozen=True)
class Candidate:
    """What stage one wants confirmed: unit weights [D] over coordinates, which carry the sign."""

    weights: np.ndarray


def stage_one(d: Difference, level: float, any_skewness: bool = False) -> Candidate | None:
    """Name a coordinate (Holm's first step), or the direction of ḡ − g where it is longer than chance makes it.

    Each test has half the level; where both reject, the less likely one is what stage two is asked to confirm.

    Parameters
    ----------
    any_skewness : whether coordinates count however skewed they are: the limit on skewness is for plain draws of heavy
        tails, and weighted defensive draws have met theirs.
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
    """Confirm on fresh replicates: only that coordinate or direction, the same sign."""
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
    varies = d.deviation > 0.0
    standardised = np.where(varies, d.mean / np.where(varies, d.deviation, 1.0), 0.0)
    beyond = np.abs(d.mean) > d.unseen
    t = np.where(varies, hall(standardised, d.skewness, d.count), d.z)
    return np.where(beyond | (varies & ~d.rare), t, 0.0)


def projected_t(d: Difference, weights: np.ndarray) -> float:
    """t of Σ weights_j ḡ_j over the groups, rounding taken off; infinite where a constant is off."""
    values = d.groups @ weights
    spread = float(values.std(ddof=1)) / math.sqrt(len(values))
    mean = shrink(values.mean(), np.abs(weights) @ d.tolerance)
    return float(_ratio(np.asarray(mean), np.asarray(spread)))
