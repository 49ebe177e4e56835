"""The statistical columns of a cell's rows, from the evidence that `Verdicts` holds."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradmeter.bench.measurement.bias import MISSED, MISSED_SIZE, Difference, combine, pool
from gradmeter.bench.measurement.bounds import BOUND_LEVEL, Bound, integrated_bound, sampled_bound, scale_of
from gradmeter.bench.measurement.defensive import LEAST_FOR_UNIFORM
from gradmeter.bench.measurement.direction import cosine, integrated_scale, sampled_scale
from gradmeter.bench.measurement.moments import GROUPS, Moments
from gradmeter.bench.measurement.stream import Stream
from gradmeter.bench.measurement.variance import VarianceEstimate, tail_index, variance_of
from gradmeter.bench.measurement.verdict import ALIKE, ENDS_OF_A_SUM, Verdicts, unstated_error
from gradmeter.bench.problems import Exact
from gradmeter.bench.rows import ALL

#: Defensive draws for each number of noise, each of which widens one at most, that visit the tails of every number.
LEAST_PER_NUMBER = 300
#: What a certificate by integration assumes when a class outside the catalogue declares its own discontinuities.
AS_SMOOTH = "as smooth between its jumps as it says: no peak falls between the nodes of the grids"
#: An integral shows a bias if it is off by more than this many numerical errors plus this many τ.
WELL_ABOVE, ABOVE_ROUNDING = 8.0, 3.0
#: Replicates below which a tail may only seem heavy.
FEW = 2**12
#: |z| that a coordinate still has to exceed when all draws are pooled.
STILL_OFF = 3.0
#: Rounding of an integrated variance, in units of ‖g‖²: it is the difference of two sums.
CANCELLED = 1e-12
#: Relative bias below which it is asked whether rounding of the exact gradient explains it.
MAY_BE_ROUNDING = 1e-6
#: Factor by which cancellation enlarges the error of the exact gradient above which the row states that error.
ILL_CONDITIONED = 100.0
#: The columns on the length of E ĝ relative to g.
SCALE = ("scale_factor", "scale_low", "scale_high")
#: Cap on the reported `control_gain`, since f may be known exactly.
MOST_GAIN = 1e6


@dataclass(frozen=True)
class _Finding:
    """Evidence on the bias of some parameter blocks, by integration or by sampling.

    Attributes
    ----------
    off
        Difference of the mean and g.
    biased
        Whether the difference is a bias.
    trusted
        Whether the tails were sampled well enough for the bound to hold.
    unmet
        Why samples that were never met may explain the difference.
    few
        Why the draws do not suffice to call the difference a bias.
    variance
        Of one estimate, where known by integration.
    """

    certificate: str
    bound: Bound
    off: np.ndarray
    biased: bool
    trusted: bool = True
    unmet: str | None = None
    few: str | None = None
    variance: float | None = None
    assumption: str | None = None


def rows_of(v: Verdicts, stream: Stream) -> dict[str, dict[str, Any]]:
    """Return the statistical columns of every parameter block, and of `all`."""
    names = v.setting.blocks
    differences = {name: v.difference(name, stream) for name in names}
    rows = {name: _row(v, (name,), [differences[name]], stream, stream.moments[name]) for name in names}
    rows[ALL] = _row(v, names, list(differences.values()), stream, stream.total)
    return rows


def _row(
    v: Verdicts, names: tuple[str, ...], parts: list[Difference], stream: Stream, norms: Moments
) -> dict[str, Any]:
    d = combine(parts)
    variance = float((d.deviation**2).sum())
    groups = sum((stream.moments[n].group_squared_norms() for n in names), np.zeros(GROUPS))
    plain = variance_of(variance, norms.count, norms.norms.sum(axis=0), norms.largest, groups)
    rounds = [r for r in v.rounds or [] if not r.relieved]
    missed = any(v.varies_more_in(names, r, variance) for r in rounds)
    spread = plain if not rounds or (plain.flag == "ok" and not missed) else _weighted_spread(v, names, plain)
    spread = _beside_integral(v, names, spread)
    if variance == 0.0 and _varies(v, names, stream):  # inputs moved by rounding move the estimates as far as this
        spread = replace(spread, flag="unreliable")
    exact = np.concatenate([v.exact_gradient(name) for name in names])
    off, gain = _off(v, names, d)
    if gain < 1.0 / ALIKE and spread.flag == "ok":  # fresh replicates vary more, although controls were subtracted
        spread = replace(spread, flag="unreliable")
    difference = off.groups.mean(axis=0)
    columns: dict[str, Any] = {
        "variance": spread.variance,
        "variance_low": min(spread.low, sys.float_info.max),
        "variance_high": min(spread.high, sys.float_info.max),
        "variance_flag": spread.flag,
        "half_width": spread.half_width,
        "skewness": float(d.skewness[np.argmax(np.abs(d.skewness))]),
        "kurtosis": norms.kurtosis() if variance > 0.0 else None,
        "tail_k": tail_index(norms.largest, norms.count) if variance > 0.0 else None,
        "mean_norm": float(np.linalg.norm(exact + difference)),
        "final": False,
    }
    if v.dependent is not None:
        columns |= {"variance_low": None, "variance_high": None, "variance_flag": "dependent"}
    if v.exact is None:
        return {**columns, "verdict": "no-reference", "exact_source": "none", "reason": v.dependent}
    judged = _verdict(v, names, off, exact, spread.variance, plain.heavy)
    return {
        **columns,
        **judged,
        **(_direction(v, names, off, exact) if judged["bias_scale"] == "gradient" else {}),
        "exact_norm": float(np.linalg.norm(exact)),
        "exact_source": v.exact.source,
        "exact_error": _reference_error(v.exact, names, float(np.linalg.norm(exact))),
        "bias_norm": float(np.linalg.norm(difference)),
        "bias_z": _largest_z(v, names, off),
        "control_gain": gain,
        "snr": float(np.linalg.norm(exact) / math.sqrt(spread.variance)) if spread.variance > 0.0 else None,
    }


def _reference_error(reference: Exact, names: tuple[str, ...], norm: float) -> float | None:
    """Return the bound on the error of the exact gradient, relative to its norm; None where it is rounding."""
    if reference.errors is None:
        lost = reference.error is None and reference.condition > ILL_CONDITIONED
        return unstated_error(reference) if lost else reference.error
    error = float(np.linalg.norm(np.concatenate([reference.errors[name] for name in names])))
    return error / norm if norm > 0.0 else None


def _direction(v: Verdicts, names: tuple[str, ...], off: Difference, exact: np.ndarray) -> dict[str, float | None]:
    """Return the columns on the direction and the length of E ĝ relative to g, from the evidence on the bias."""
    if v.integrals is not None:
        mean = np.concatenate([v.integrals[name].mean for name in names])
        error = np.concatenate([v.integrals[name].error for name in names])
        scale = integrated_scale(mean, error, exact)
    else:
        mean, error = exact + off.groups.mean(axis=0), np.sqrt(off.mean_variances)
        scale = sampled_scale(exact + off.groups, exact)
    low_to_high = scale or (None, None, None)
    return {"cosine": cosine(mean, error, exact), **dict(zip(SCALE, low_to_high, strict=True))}


def _beside_integral(v: Verdicts, names: tuple[str, ...], spread: VarianceEstimate) -> VarianceEstimate:
    """Return the variance with an interval that holds the integrated one, where replicates missed or overstate it.

    They miss part of a variance that rests on states which no replicate visits.
    """
    if v.integrals is None:
        return spread
    known = float(sum(v.integrals[name].variance.sum() for name in names))
    size = float(sum((v.exact_gradient(name) ** 2).sum() for name in names))
    rounding = CANCELLED * size + float(sum((v.tolerance[name] ** 2).sum() for name in names))
    if not math.isfinite(known) or spread.low / ALIKE - rounding <= known <= ALIKE * spread.high + rounding:
        return spread
    low, high = min(spread.low, known), max(spread.high, known)
    return replace(spread, variance=known, low=low, high=high, flag="unreliable")


def _varies(v: Verdicts, names: tuple[str, ...], stream: Stream) -> bool:
    """Return whether estimates vary by far more than the rounding of their own size."""
    share = float(np.finfo(v.setting.dtype).eps) ** 0.5
    for name in names:
        moments = stream.moments[name]
        size = np.sqrt(moments.mean_squares(stream.centre[name]))
        if np.any(np.sqrt(moments.variances()) > share * size):
            return True
    return False


def _largest_z(v: Verdicts, names: tuple[str, ...], off: Difference) -> float:
    """Return the largest z, from the larger of the replicates' and the integrated variance of each coordinate."""
    if v.integrals is not None:
        known = np.concatenate([v.integrals[name].variance for name in names])
        off = replace(off, deviation=np.sqrt(np.fmax(off.deviation**2, known)))
    return float(off.z[np.argmax(np.abs(off.z))])


def _off(v: Verdicts, names: tuple[str, ...], plain: Difference) -> tuple[Difference, float]:
    """Return the difference that the verdict uses, and the factor by which controls cut an estimate's variance."""
    gain, left = 1.0, None
    if v.relieved is not None:
        left = combine([v.difference(name, v.relieved) for name in names])
        variance, rest = float((plain.deviation**2).sum()), float((left.deviation**2).sum())
        gain = min(MOST_GAIN, variance / rest) if rest > 0.0 else MOST_GAIN
    if v.rounds is not None:
        return v.pooled(names, v.rounds), gain
    if left is not None:
        return left, gain
    return (pool([plain, v.pooled(names, v.searched)]) if v.searched else plain), gain


def tails_matter(v: Verdicts, stream: Stream) -> bool:
    """Return whether weighted draws would tell more than replicates with controls subtracted.

    They do where these replicates are heavy-tailed, or where every inconclusive row has a bound that is small
    enough and is distrusted only for its skewness.
    """
    if v.relieved is not None and v.heavy(v.relieved):
        return True
    rows = rows_of(v, stream).values()
    return all(row["verdict"] != "inconclusive" or row["untrusted_bound"] <= v.bias_bound for row in rows)


def _weighted_spread(v: Verdicts, names: tuple[str, ...], plain: VarianceEstimate) -> VarianceEstimate:
    """Return the variance from the defensive rounds, where they determine it better than plain replicates."""
    assert v.rounds is not None
    of = [r.total if len(names) > 1 else r.moments[names[0]] for r in v.rounds]
    count = sum(moments.count for moments in of)
    weighted = variance_of(
        sum(r.variance(names) * r.count for r in v.rounds) / count,
        count,
        sum((moments.norms.sum(axis=0) for moments in of), np.zeros(2)),
        np.concatenate([moments.largest for moments in of]),
        np.concatenate([moments.norms[:, 0] / (moments.count / GROUPS) for moments in of]),
    )
    if len(v.rounds) > 1 and not v.alike(v.rounds):
        weighted = replace(weighted, flag="unreliable" if weighted.flag == "ok" else weighted.flag)
    if max(r.at_the_ends[name][1] for r in v.rounds for name in names) > ENDS_OF_A_SUM:
        return replace(weighted, high=math.inf, half_width=math.inf, flag="not-estimable")
    better = weighted.flag == "ok" or weighted.half_width < plain.half_width
    return weighted if better or plain.flag == "ok" else plain


def _verdict(
    v: Verdicts, names: tuple[str, ...], d: Difference, exact: np.ndarray, variance: float, heavy: bool
) -> dict[str, Any]:
    tolerance = np.concatenate([v.tolerance[name] for name in names])
    integrated = v.integrals is not None
    found = _by_integration(v, names, exact, tolerance) if integrated else _by_sampling(v, names, d, heavy)
    scale = scale_of(exact, variance if found.variance is None else found.variance, tolerance)
    bound, worst = found.bound, float(d.skewness[np.argmax(np.abs(d.skewness))])
    columns: dict[str, Any] = {
        "bias": scale.of(bound.estimate),
        "bias_low": scale.of(bound.low),
        "bias_high": scale.of(bound.high),
        "bias_bound": scale.of(bound.value),
        "bias_max": scale.of(bound.worst),
        "bias_scale": scale.name,
        "certificate": found.certificate,
        "untrusted_bound": scale.of(bound.value),
    }
    verdict, assumption, reason = "inconclusive", found.assumption, None
    if v.dependent is not None:
        assumption = None
    elif found.few is not None:
        reason = found.few
    elif found.biased and found.unmet is None and not scale.hides(found.off):
        verdict = "biased"
    elif found.unmet is not None and columns["bias_bound"] > v.bias_bound:
        columns |= dict.fromkeys(("bias", "bias_low", "bias_high", "bias_bound", "bias_max"))
        columns |= {"variance_flag": "unreliable"} if variance == 0.0 else {}
        reason = found.unmet
    elif scale.lost or not found.trusted:
        columns |= dict.fromkeys(("bias", "bias_low", "bias_high", "bias_bound", "bias_max"))
        lost, heavy_tail = "gradient and deviation are below rounding", "the tail is too heavy for a bound"
        heavy_tail += f" from {d.count:,} replicates; raise max replicates" if d.count < FEW else ""
        reason = lost if scale.lost else heavy_tail
    elif not math.isfinite(bound.value):
        reason = "an estimate is not finite where its noise is drawn wider"
    elif not bound.certain:
        reason = f"the bias bound is not certain: skewness {worst:.3g}"
    elif columns["bias_bound"] <= v.bias_bound:
        verdict = "unbiased"
    if verdict == "inconclusive" and reason is None and found.certificate == "sampling" and v.unconfirmed:
        reason = "a bias is suspected, and no replicates were left to confirm it: raise max replicates"
    reasons = [v.refused, v.dependent, reason]
    if verdict == "inconclusive" and found.certificate == "sampling" and v.dependent is None and v.evidence.sampled:
        reasons.append(f"not integrated over the noise: {v.evidence.sampled}")
    return {
        **columns,
        "verdict": verdict,
        "assumption": assumption,
        "reason": "; ".join(filter(None, reasons)) or None,
        "final": v.dependent is not None or (scale.lost and not found.biased),
    }


def _by_integration(v: Verdicts, names: tuple[str, ...], exact: np.ndarray, tolerance: np.ndarray) -> _Finding:
    assert v.integrals is not None
    integrals = [v.integrals[name] for name in names]
    variance = float(sum(i.variance.sum() for i in integrals))
    off = np.concatenate([i.mean for i in integrals]) - exact
    error = np.concatenate([i.error for i in integrals])
    biased = np.abs(off) - WELL_ABOVE * error - ABOVE_ROUNDING * tolerance
    unmet = None
    if np.any(biased > 0.0) and _relative(off, exact) < MAY_BE_ROUNDING:
        moved = v.evidence.reference_rounding()
        biased = biased if moved is None else biased - np.concatenate([moved[name] for name in names])
    if np.any(biased > 0.0) and v.evidence.rare:
        objective = 0.0 if v.exact is None or v.exact.objective is None else abs(v.exact.objective)
        if np.all(biased <= float(np.finfo(v.setting.dtype).epsneg) * MISSED_SIZE * objective):
            unmet = "states of z that are rarer than uniform noise resolves may explain the difference"
        else:
            unmet = v.evidence.rare_samples(0.0, _relative(off, exact)) or _missed(v, off, exact, 0, True)
    elif np.any(biased > 0.0) and not v.evidence.grids_meet():
        unmet = "the grids of the integration miss the mean of f too: z changes too fast between their nodes"
    return _Finding(
        certificate="integration",
        bound=integrated_bound(off, error, tolerance),
        off=off,
        biased=bool(np.any(biased > 0.0)),
        unmet=unmet,
        variance=max(variance, 0.0) if math.isfinite(variance) else None,
        assumption=AS_SMOOTH if v.evidence.searched else None,
    )


def _missed(v: Verdicts, off: np.ndarray, exact: np.ndarray, count: int, defensive: bool) -> str | None:
    """Return that draws do not meet what f's mean rests on, where that may be why their mean is too short."""
    if not np.linalg.norm(off + exact) <= np.linalg.norm(exact) or v.evidence.met(count, defensive):
        return None
    return "the mean of f rests on samples that the draws do not meet: give less extreme options"


def _relative(off: np.ndarray, exact: np.ndarray) -> float:
    """Return ‖off‖/‖exact‖; infinite where the exact gradient is 0."""
    size = float(np.linalg.norm(exact))
    return float(np.linalg.norm(off)) / size if size > 0.0 else math.inf


def _by_sampling(v: Verdicts, names: tuple[str, ...], d: Difference, heavy: bool) -> _Finding:
    bound, trusted = _sampled(v, d, heavy)
    biased = any(name in v.confirmed for name in names)
    biased &= bound.low > 0.0 or bool(np.max(np.abs(d.z)) > STILL_OFF)
    off, exact = d.groups.mean(axis=0), np.concatenate([v.exact_gradient(name) for name in names])
    unmet = None
    if biased and v.evidence.rare:
        unmet = v.evidence.rare_samples(MISSED / d.count, _relative(off, exact))
    constant = np.all(d.deviation <= np.concatenate([v.rounding[name] for name in names]))
    if biased and unmet is None and (constant or v.defended):
        unmet = _missed(v, off, exact, d.count, v.defended)
    return _Finding(
        certificate="sampling",
        bound=bound,
        off=off,
        biased=biased,
        trusted=trusted,
        unmet=unmet,
        few=_few_draws(v) if biased else None,
        assumption=_assumption(v, d.count),
    )


def _assumption(v: Verdicts, count: int) -> str:
    """Return what a verdict by sampling assumes: that no event matters which this many draws do not meet.

    Defensive draws seek events in the tails. In the catalogue there are no others; a user's class, and states of a
    discrete z, may have some in the bulk of the noise, which half of the draws visit.
    """
    if v.evidence.assumption is not None and not v.defended:
        return v.evidence.assumption
    if not v.defended:
        return f"no event rarer than {MISSED / count:.1g} matters"
    if not (v.evidence.searched or v.evidence.rare):
        return "defensive"
    met = count if v.rounds is None else count / 2
    visited = all(each.count >= LEAST_PER_NUMBER * each.numbers for each in [*(v.rounds or []), *(v.searched or [])])
    where = "outside the tails " if visited else ""
    return f"defensive; {where}no event rarer than {MISSED / met:.1g} matters"


def _few_draws(v: Verdicts) -> str | None:
    """Return why defensive rounds may not show a bias: rare events of uniform noise need many draws per number."""
    last = v.rounds[-1] if v.rounds else None
    if last is None or last.count >= LEAST_FOR_UNIFORM * last.uniform:
        return None
    return (
        f"two rounds of {last.count:,} defensive draws say biased, and {last.uniform} numbers of uniform noise need "
        f"{LEAST_FOR_UNIFORM:,} each: raise max replicates"
    )


def _sampled(v: Verdicts, d: Difference, heavy: bool) -> tuple[Bound, bool]:
    """Return the bound, and whether the tails were sampled well enough to trust it."""
    plain = v.rounds is None and v.relieved is None and not v.searched
    bound = sampled_bound(d, v.one_look(BOUND_LEVEL, plain))
    if v.rounds is None:
        return bound, not (heavy if v.relieved is None else v.heavy(v.relieved))
    return replace(bound, certain=True), len(v.rounds) > 1 and v.alike(v.rounds)
