"""The bias verdict: `biased`, `unbiased`, or `inconclusive` with the bound that was reached.

A test that merely fails to reject proves nothing; `unbiased` is an equivalence, a certified bound on the bias.
`biased` needs two independent rejections: stage one suspects a coordinate or a direction, stage two confirms
exactly that, with its sign, on fresh noise. Skewness is met by Hall's transformation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from bench.measurement.moments import GROUPS, Moments

STAGE_LEVEL = 3e-4
BOUND_LEVEL = 1e-3
#: ‖g‖ at most this fraction of the standard deviation counts as zero.
NEGLIGIBLE = 1e-6
#: That n estimates are all alike does not show that all are: an event of probability 8/n is missed once in 3,000 times.
#: Where it makes estimates of up to 100 times the gradient's size (or 1), the mean may be off by this over n.
UNSEEN = 8.0 * 100.0


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
    """ḡ − g of one parameter block after n replicates, rounding taken off.

    Attributes
    ----------
    mean : ḡ − g [D], shrunk towards 0 by the rounding tolerance.
    deviation : standard deviation of ĝ_j [D], 0 where it is rounding.
    skewness : [D].
    groups : group means of ĝ − g [64, D], shrunk alike.
    count : n.
    unseen : how far off a coordinate may be for an event that no replicate met [D]; asked of one that never varied.
    rare : whether z is discrete, so that such events are its states: then it is asked of every coordinate. One whose
        own rare state was not met varies all the same, with the others, by little about a wrong mean.
    """

    mean: np.ndarray
    deviation: np.ndarray
    skewness: np.ndarray
    groups: np.ndarray
    count: int
    unseen: np.ndarray
    rare: bool = False

    def explained(self, weights: np.ndarray) -> bool:
        """Whether states that were not met may explain how far off Σ weights_j ḡ_j is."""
        return self.rare and abs(float(weights @ self.mean)) <= float(np.abs(weights) @ self.unseen)

    @property
    def standard_error(self) -> np.ndarray:
        return self.deviation / math.sqrt(self.count)

    @property
    def z(self) -> np.ndarray:
        """z-values [D]; infinite where a constant is off."""
        varies = self.deviation > 0.0
        constant = np.where(self.mean == 0.0, 0.0, np.copysign(np.inf, self.mean))
        return np.where(varies, self.mean / np.where(varies, self.standard_error, 1.0), constant)


def shrink(values: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """Towards 0 by a tolerance: what is left is more than rounding."""
    return np.sign(values) * np.maximum(np.abs(values) - tolerance, 0.0)


def difference(
    moments: Moments, centre: np.ndarray, exact: np.ndarray, tolerance: np.ndarray, rare: bool = False
) -> Difference:
    """ḡ − g from streamed moments about `centre`."""
    offset = centre - exact
    deviation = np.sqrt(moments.variances())
    return Difference(
        mean=shrink(moments.shift() + offset, tolerance),
        deviation=np.where(deviation <= tolerance, 0.0, deviation),
        skewness=np.where(deviation <= tolerance, 0.0, moments.skewness()),
        groups=shrink(moments.group_means() + offset, tolerance),
        count=moments.count,
        unseen=UNSEEN * np.maximum(1.0, np.abs(exact)) / moments.count,
        rare=rare,
    )


@dataclass(frozen=True)
class Suspicion:
    """What stage one wants confirmed: unit weights [D] over coordinates, and a sign."""

    weights: np.ndarray
    sign: float


def stage_one(d: Difference, level: float) -> Suspicion | None:
    """Suspect a coordinate (Holm's first step) or a direction fixed by the first half of the replicates.

    Each has half the level; where both stand out, the less likely one is what stage two is asked to confirm.
    """
    dimension = len(d.mean)
    t = _transformed(d)
    quantile = normal_quantile(0.5 * level / dimension)
    t = np.where(decidable(d.skewness, quantile, d.count) | (d.deviation == 0.0), t, 0.0)
    worst = int(np.argmax(np.abs(t)))
    coordinate = Suspicion(np.eye(dimension)[worst], float(np.sign(t[worst])))
    found = [(dimension * 2.0 * float(special.ndtr(-abs(t[worst]))), coordinate)]
    if dimension > 1:
        half = GROUPS // 2
        varies = d.deviation > 0.0
        weights = np.where(varies, d.groups[:half].mean(axis=0) / np.where(varies, d.deviation, 1.0) ** 2, 0.0)
        norm = np.linalg.norm(weights)
        if norm > 0.0:  # the weights carry the sign
            projected = _projected_t(d.groups[half:] @ (weights / norm))
            found.append((2.0 * float(special.stdtr(half - 1, -projected)), Suspicion(weights / norm, 1.0)))
    chance, suspicion = min(found, key=lambda pair: pair[0])
    return suspicion if chance < 0.5 * level and not d.explained(suspicion.weights) else None


def stage_two(d: Difference, suspicion: Suspicion) -> bool:
    """Confirm on fresh replicates: only that coordinate or direction, the same sign."""
    if d.explained(suspicion.weights):
        return False
    if np.count_nonzero(suspicion.weights) == 1:
        j = int(np.argmax(np.abs(suspicion.weights)))
        sign = suspicion.sign * np.sign(suspicion.weights[j])
        quantile = normal_quantile(STAGE_LEVEL)
        if d.deviation[j] > 0.0 and not decidable(d.skewness[[j]], quantile, d.count)[0]:
            return False
        return bool(_transformed(d)[j] * sign > quantile)
    t = _projected_t(d.groups @ suspicion.weights)
    return t * suspicion.sign > t_quantile(STAGE_LEVEL, GROUPS - 1)


def _transformed(d: Difference) -> np.ndarray:
    varies = d.deviation > 0.0
    standardised = np.where(varies, d.mean / np.where(varies, d.deviation, 1.0), 0.0)
    beyond = np.abs(d.mean) > d.unseen
    t = np.where(varies, hall(standardised, d.skewness, d.count), d.z)
    return np.where(beyond | (varies & (not d.rare)), t, 0.0)


def _projected_t(values: np.ndarray) -> float:
    spread = values.std(ddof=1) / math.sqrt(len(values))
    if spread == 0.0:
        return 0.0 if values.mean() == 0.0 else math.copysign(math.inf, values.mean())
    return float(values.mean() / spread)


@dataclass(frozen=True)
class Bound:
    """`value` ≥ |bias| relative to ‖g‖, or to the standard deviation where g ≈ 0 (`scale` says which)."""

    value: float
    scale: str
    certain: bool  # False where skewness makes the interval untrustworthy


def relative_to(exact: np.ndarray, variance: float) -> tuple[float, str]:
    """What a bias is compared with: ‖g‖, or the standard deviation where ‖g‖ is negligible beside it."""
    norm, deviation = float(np.linalg.norm(exact)), math.sqrt(variance)
    return (norm, "gradient") if norm > NEGLIGIBLE * deviation else (deviation, "deviation")


def sampled_bound(d: Difference, exact: np.ndarray, variance: float, tolerance: float, level: float) -> Bound:
    """max_j of the farther end of ḡ_j − g_j's interval, jointly at 1 − level, over its scale."""
    z = normal_quantile(level / len(d.mean))
    ends = [np.abs(d.mean - d.deviation * hall_inverse(sign * z, d.skewness, d.count)) for sign in (-1.0, 1.0)]
    worst = float(np.maximum(*ends).max())
    varying = d.deviation > 0.0
    certain = bool(np.all(decidable(d.skewness, z, d.count) | ~varying))
    return _over(worst, exact, variance, tolerance, certain)


def integrated_bound(bias: np.ndarray, exact: np.ndarray, variance: float, tolerance: float) -> Bound:
    """The same from a bias known by integration (its numerical error included)."""
    return _over(float(np.abs(bias).max()), exact, variance, tolerance, True)


def _over(worst: float, exact: np.ndarray, variance: float, tolerance: float, certain: bool) -> Bound:
    size, scale = relative_to(exact, variance)
    if size <= tolerance:  # neither a gradient nor a deviation to compare with
        return Bound(0.0 if worst <= tolerance else math.inf, scale, certain)
    return Bound(worst / size, scale, certain)


def combine(parts: list[Difference]) -> Difference:
    """Join the differences of several parameter blocks into that of all."""
    return Difference(
        mean=np.concatenate([p.mean for p in parts]),
        deviation=np.concatenate([p.deviation for p in parts]),
        skewness=np.concatenate([p.skewness for p in parts]),
        groups=np.concatenate([p.groups for p in parts], axis=1),
        count=parts[0].count,
        unseen=np.concatenate([p.unseen for p in parts]),
        rare=parts[0].rare,
    )
