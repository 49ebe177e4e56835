"""Turn the moments of a cell's replicates into its verdict and the statistical columns of its rows."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from gradmeter.bench.measurement.bias import (
    MISSED,
    MISSED_SIZE,
    STAGE_LEVEL,
    Candidate,
    Difference,
    combine,
    difference,
    normal_quantile,
    shrink,
    stage_one,
    stage_two,
)
from gradmeter.bench.measurement.bounds import BOUND_LEVEL, Bound, integrated_bound, sampled_bound, scale_of
from gradmeter.bench.measurement.controls.frozen import Controls
from gradmeter.bench.measurement.defensive import LEAST_FOR_UNIFORM, Weighted
from gradmeter.bench.measurement.integrate import Integral
from gradmeter.bench.measurement.moments import GROUPS, Moments, kurtosis_of
from gradmeter.bench.measurement.stream import Described, Stream
from gradmeter.bench.measurement.variance import (
    VarianceEstimate,
    estimate_variance,
    is_heavy,
    normal_half_width,
    share_of_largest,
    tail_index,
)
from gradmeter.bench.problems import Exact
from gradmeter.bench.rows import ALL

#: Probability that a correct integral is refused because the sampled mean contradicts it.
CONTRADICTION_LEVEL = 1e-4
#: Ratio of the variance of group means to its value under independence, outside which replicates are suspected to be
#: dependent; and the share of ΣQ in the 16 largest Q above which a ratio below the lower limit is no evidence.
DEPENDENT_BELOW, DEPENDENT_ABOVE, FEW_HOLD = 0.36, 2.1, 0.5
#: Ratio of the variances of two defensive rounds above which they have not sampled the tails equally well.
ALIKE = 2.0
#: Ratio of the defensive to the plain variance above which plain draws missed part of it, whatever the standard error.
FAR_MORE = 10.0
#: The tails were not sampled if the 16 largest draws hold more than the first share of Σ w ‖ĝ − c‖. The mean, or the
#: variance, may not exist if noise at the ends of the generator's range holds more than the second share of
#: Σ w ‖ĝ − c‖, or of Σ w ‖ĝ − c‖².
FEW_OF_A_MEAN, ENDS_OF_A_SUM = 0.25, 0.25
#: Tolerance between the integrated and the sampled variance, for parts that are not of the catalogue: relative
#: tolerance, standard errors on top of it, and a cap on the kurtosis that enters the standard error.
VARIANCES_APART, ERRORS_APART, KURTOSIS = 0.1, 6.0, 50.0
#: What a certificate by integration assumes when a class outside the catalogue declares its own discontinuities.
AS_SMOOTH = "as smooth between its jumps as it says: no peak falls between the nodes of the grids"
#: An integral shows a bias if it is off by more than this many numerical errors plus this many τ.
WELL_ABOVE, ABOVE_ROUNDING = 8.0, 3.0
#: |z| that a coordinate still has to exceed when all draws are pooled.
STILL_OFF = 3.0
#: Standard errors within which a mean may be 0, and the deviation, relative to |E f|, of estimates small beside f.
WITHIN_CHANCE, SMALL = 4.0, 0.01
#: Relative error of an exact gradient that states none, by source: for quadrature its requested tolerance with a
#: margin, for every other source rounding.
REFERENCE_ERROR, REFERENCE_ROUNDING = {"quadrature": 1e-11}, 1e-13
#: Error of the mean of a control variate, in its standard deviations, by precision: the coefficients come from normal
#: equations, sums are rounded, and JAX's float32 normals lie in [−5.42, 5.22].
LAW_OF_NOISE = {"float64": 1e-8, "float32": 1e-5}
#: Cap on the reported `control_gain`, since f may be known exactly.
MOST_GAIN = 1e6
#: Largest number of defensive rounds that a verdict may rest on.
MOST_ROUNDS = 4
#: Share of every level spent on the interim analyses of plain replicates; analyses of all other draws share the rest.
PLAIN = 0.75

Vectors = Mapping[str, np.ndarray]


class Verdicts:
    """Verdicts and statistical columns, computed from streamed moments.

    Parameters
    ----------
    setting : the cell being measured.
    exact : the exact gradient g; None where it is unknown.
    tolerance : τ by parameter block [P]: how far rounding may move a mean.
    integrals : means by integration over the noise, where integration succeeded.
    analyses, others : numbers of interim analyses of plain replicates and of other draws; the levels are divided by
        them.
    bias_bound : certified relative bias at or below which the verdict is `unbiased`.
    rare : whether z is discrete and may have states that no replicate visits.
    assumption : unchecked assumption of a verdict by sampling, in place of the one on rare events; None if there is
        none.
    brought : whether a part is not of the catalogue, so that its smoothness is only claimed.
    uniform : how many uniform numbers of noise the defensive rounds widen, one at a time.
    sampled : why the noise of a user's parts is not integrated over although it has few numbers; None elsewhere.
    unmet : function that tells whether the mean of f rests on events that the draws miss; called at most once.
    """

    def __init__(
        self,
        setting: Described,
        exact: Exact | None,
        tolerance: Vectors,
        integrals: dict[str, Integral] | None = None,
        analyses: int = 1,
        bias_bound: float = 0.01,
        rare: bool = False,
        assumption: str | None = None,
        brought: bool = False,
        uniform: int = 0,
        sampled: str | None = None,
        unmet: Callable[[], bool] = lambda: False,
        others: int = 0,
    ) -> None:
        self.brought = brought
        self.setting, self.exact, self.integrals = setting, exact, integrals
        self.rounding = {name: np.asarray(tolerance[name]) for name in setting.blocks}
        #: How far rounding and the error of the exact gradient may move ḡ − g.
        self.tolerance = {name: tau + _reference_error(exact, name) for name, tau in self.rounding.items()}
        self.analyses, self.others = analyses, others
        self.bias_bound, self.rare, self.assumption = bias_bound, rare, assumption
        self.uniform, self.sampled, self.unmet = uniform, sampled, unmet
        self.events: bool | None = None
        self.confirmed: set[str] = set()
        self.refused: str | None = None
        self.dependent: str | None = None
        #: Defensive rounds that the verdicts rest on, once there are any.
        self.rounds: list[Weighted] | None = None
        #: Defensive draws that searched for rare events and found none; they are pooled with the plain replicates.
        self.searched: list[Weighted] = []
        #: Whether defensive draws confirmed a candidate or found no rare event.
        self.defended = False
        #: Replicates with the control variates subtracted; once set, the mean is judged by them.
        self.relieved: Stream | None = None
        #: Error by parameter block that the control variates add: rounding, and their inexact means.
        self.blur: dict[str, np.ndarray] = {}

    def difference(self, name: str, stream: Stream) -> Difference:
        offset = stream.centre[name] + stream.offset[name] - self._exact(name)
        return self._difference(name, stream.moments[name], offset, relieved=stream.relieved)

    def weighted_difference(self, name: str, drawn: Weighted) -> Difference:
        return self._difference(name, drawn.moments[name], 0.0, relieved=drawn.relieved)

    def _difference(self, name: str, moments: Moments, offset: np.ndarray | float, relieved: bool) -> Difference:
        blur = self.blur[name] if relieved else 0.0
        tolerance, constant = self.tolerance[name] + blur, self.rounding[name] + blur
        mean = self._exact(name) + moments.shift() + offset
        event = np.zeros(len(mean)) if relieved else self._event(name, moments, mean)
        return difference(moments, offset, self._exact(name), tolerance, constant, self.rare, event)

    def _event(self, name: str, moments: Moments, mean: np.ndarray) -> np.ndarray:
        """Return how large an estimate may be at an event that no draw met [P]; 0 where nothing suggests one.

        It is many times |E f| where all estimates so far are 0. It is the same where they have mean 0 and are small
        beside f, provided that the mean of f shows such an event: this happens to a score function whose baseline
        equals f everywhere but at a rare event.
        """
        if self.exact is None or self.exact.objective is None:
            return np.zeros(len(mean))
        rounding, size = self.rounding[name], abs(self.exact.objective)
        deviation = np.sqrt(moments.variances())
        says_zero = np.abs(mean) <= rounding + WITHIN_CHANCE * deviation / math.sqrt(moments.count)
        silent = says_zero & (deviation <= rounding)
        small = says_zero & (deviation <= SMALL * size)
        if np.any(small & ~silent) and not self._unmet():
            small = silent
        return np.where(silent | small, MISSED_SIZE * size, 0.0)

    def _unmet(self) -> bool:
        """Return whether the mean of f rests on events that the draws miss."""
        if self.events is None:
            self.events = self.unmet()
        return self.events

    def _exact(self, name: str) -> np.ndarray:
        return np.zeros(self.setting.sizes[name]) if self.exact is None else self.exact.gradient[name]

    # Agreement of integration and sampling.

    def cross_examine(self, stream: Stream) -> None:
        """Refuse the integrals if the sampled mean of any coordinate contradicts one of them.

        The standard error of the sampled mean uses the larger of the sampled and the integrated variance: a sample from
        a heavy tail underestimates its own error.
        """
        for name, integral in list((self.integrals or {}).items()):
            moments = stream.moments[name]
            known = np.where(np.isnan(integral.variance), np.inf, integral.variance)
            error = np.sqrt(np.maximum(moments.variances(), known) / moments.count)
            self._examine(name, integral, moments.shift() + stream.centre[name], error, moments.count)
            if self.brought and self.integrals is not None:
                self._compare_variances(name, integral, moments)

    def _compare_variances(self, name: str, integral: Integral, moments: Moments) -> None:
        """Refuse the integrals if the replicates vary by more or by less than they say: the grids missed something."""
        sampled, known = float(moments.variances().sum()), float(integral.variance.sum())
        error = math.sqrt((min(moments.kurtosis(), KURTOSIS) - 1.0) / moments.count)
        least = float((self.rounding[name] ** 2).sum())
        if not math.isfinite(known) or abs(sampled - known) <= (VARIANCES_APART + ERRORS_APART * error) * known + least:
            return
        self.integrals = None
        self.refused = (
            f"integration over the noise was refused: it gives {name} a variance of {known:.4g}, and {moments.count} "
            f"replicates have {sampled:.4g}"
        )

    def _examine(self, name: str, integral: Integral, mean: np.ndarray, error: np.ndarray, count: int) -> None:
        numbers = sum(self.setting.sizes.values())
        quantile = normal_quantile(CONTRADICTION_LEVEL / ((self.analyses + MOST_ROUNDS) * numbers))
        off = np.maximum(np.abs(mean - integral.mean) - integral.error - self.tolerance[name], 0.0)
        far = off > quantile * error
        if not np.any(far):
            return
        j = int(np.argmax(np.where(far, off / np.maximum(error, sys.float_info.min), 0.0)))
        away = "" if error[j] == 0.0 else f", {off[j] / error[j]:.1f} standard errors away"
        self.integrals = None
        self.refused = (
            f"integration over the noise was refused: it gives {integral.mean[j]:.6g} for {name}[{j}] and "
            f"{count} replicates {mean[j]:.6g}{away}"
        )

    # Dependent replicates.

    def dependence(self, stream: Stream) -> dict[str, float]:
        """Return the suspected parameter blocks: variance of the group means over its value under independence."""
        found = {}
        for name, moments in stream.moments.items():
            deviation = np.sqrt(moments.variances())
            varies = deviation > self.rounding[name]
            if not np.any(varies):
                continue
            between = moments.group_means()[:, varies].var(axis=0, ddof=1).sum()
            ratio = float(moments.count / GROUPS * between / (deviation[varies] ** 2).sum())
            share = share_of_largest(moments.largest, float(moments.norms[:, 0].sum()), 1)
            if ratio > DEPENDENT_ABOVE or (ratio < DEPENDENT_BELOW and share < FEW_HOLD):
                found[name] = ratio
        return found

    def confirm_dependence(self, suspected: dict[str, float], fresh: Stream) -> None:
        again = self.dependence(fresh)
        for name, ratio in suspected.items():
            if name in again and (again[name] > 1.0) == (ratio > 1.0):
                self.dependent = (
                    f"replicates depend on each other: means of {fresh.total.count // GROUPS} estimates of {name} vary "
                    f"{again[name]:.3g} times as much as those of independent ones; no verdict and no interval hold"
                )
                return

    # The two stages of `biased`.

    def candidates(self, stream: Stream) -> dict[str, Candidate]:
        """Return the candidates of stage one by parameter block.

        There are none where the bias is known by integration: a sample from a heavy tail may miss the events that
        determine the mean.
        """
        if self.exact is None or self.integrals is not None:
            return {}
        level = self._one_look(STAGE_LEVEL, plain=not stream.relieved) / len(self.setting.blocks)
        return self._first({name: self.difference(name, stream) for name in self._open()}, level)

    def _one_look(self, level: float, plain: bool) -> float:
        """Return the share of a level that one interim analysis may spend."""
        if plain:
            return level * (PLAIN if self.others else 1.0) / self.analyses
        return level * (1.0 - PLAIN) / self.others

    def relieve(self, stream: Stream, controls: Controls) -> None:
        """Judge the mean from here on by replicates with the control variates subtracted.

        The error of a control variate's mean comes from the noise's distribution in finite precision and from rounding
        of its sums.
        """
        self.relieved = stream
        law = LAW_OF_NOISE[self.setting.dtype]
        self.blur = {name: law * controls.spread.get(name, np.zeros(size)) for name, size in self.setting.sizes.items()}

    def _open(self) -> list[str]:
        return [name for name in self.setting.blocks if name not in self.confirmed]

    def _first(self, differences: dict[str, Difference], level: float) -> dict[str, Candidate]:
        found = {name: stage_one(d, level) for name, d in differences.items()}
        return {name: candidate for name, candidate in found.items() if candidate is not None}

    def confirm(self, candidates: dict[str, Candidate], fresh: Stream | Weighted) -> None:
        for name, candidate in candidates.items():
            if isinstance(fresh, Weighted):
                self.defended = True
                d = self.weighted_difference(name, fresh)
            else:
                d = self.difference(name, fresh)
            if stage_two(d, candidate):
                self.confirmed.add(name)

    # Heavy tails.

    def heavy(self, stream: Stream) -> list[str]:
        """Return the parameter blocks, and `all`, whose tail is too heavy for plain replicates to tell the mean."""
        found = {**stream.moments, ALL: stream.total}
        constant = {name for name in stream.moments if self._constant(name, stream)}
        if len(constant) == len(stream.moments):
            constant.add(ALL)
        return [name for name, moments in found.items() if name not in constant and _is_heavy(moments)]

    def _constant(self, name: str, stream: Stream) -> bool:
        """Return whether the estimates of a block vary by no more than rounding."""
        blur = self.blur[name] if stream.relieved else 0.0
        return bool(np.all(np.sqrt(stream.moments[name].variances()) <= self.rounding[name] + blur))

    def suspicious(self, drawn: Weighted, stream: Stream) -> bool:
        """Return whether defensive draws found what plain ones missed: a candidate for bias, or more variance."""
        differences = {name: self.weighted_difference(name, drawn) for name in self._open()}
        off = self._first(differences, STAGE_LEVEL / len(self.setting.blocks))
        return bool(off) or self.varies_more(drawn, stream)

    def varies_more(self, drawn: Weighted, stream: Stream) -> bool:
        """Return whether defensive draws found more variance than plain ones."""
        plain = {name: float(stream.moments[name].variances().sum()) for name in self.setting.blocks}
        return any(self._varies_more((name,), drawn, variance) for name, variance in plain.items())

    def _varies_more(self, names: tuple[str, ...], drawn: Weighted, plain: float) -> bool:
        moments, weighted = drawn.total if len(names) > 1 else drawn.moments[names[0]], drawn.variance(names)
        error = weighted * math.sqrt((moments.kurtosis() - 1.0) / moments.count)
        blur = self.blur if drawn.relieved else {}
        rounding = sum(float(((self.rounding[name] + blur.get(name, 0.0)) ** 2).sum()) for name in names)
        return weighted > max(min(ALIKE * plain + 4.0 * error, FAR_MORE * plain), rounding)

    def grew(self, stream: Stream, before: Mapping[str, float]) -> bool:
        """Return whether the variance of a block is far above its earlier value, so that new events have occurred."""
        now = {name: float(moments.variances().sum()) for name, moments in stream.moments.items()}
        least = {name: float((self.rounding[name] ** 2).sum()) for name in now}
        return any(now[name] > ALIKE * variance + least[name] for name, variance in before.items())

    def alike(self, rounds: list[Weighted]) -> bool:
        """Return whether the last two rounds have sampled the same tails.

        No mean may rest on a few draws or on the ends of the generator's range, and neither round may have more than
        twice the other's variance, of the mean or of an estimate.
        """
        for name in self.setting.blocks:
            if max(r.held_by_few[name] for r in rounds[-2:]) > FEW_OF_A_MEAN:
                return False
            if max(r.at_the_ends[name][0] for r in rounds[-2:]) > ENDS_OF_A_SUM:
                return False
            of_mean = [float(r.moments[name].variances().sum()) for r in rounds[-2:]]
            if not all(
                max(pair) <= ALIKE * min(pair) for pair in (of_mean, [r.variance((name,)) for r in rounds[-2:]])
            ):
                return False
        return True

    def rest_on(self, rounds: list[Weighted]) -> None:
        """Let the verdicts rest on defensive rounds; a block is `biased` if the last two agree on it."""
        self.rounds, self.defended = rounds, True
        for name, integral in list((self.integrals or {}).items()):
            d = self._pooled((name,), rounds)
            error = d.deviation / math.sqrt(d.count)
            self._examine(name, integral, self._exact(name) + d.groups.mean(axis=0), error, d.count)
        if self.exact is None or self.integrals is not None or len(rounds) < 2 or not self.alike(rounds):
            return
        level = STAGE_LEVEL / ((MOST_ROUNDS - 1) * len(self.setting.blocks))
        for name in self._open():
            first, second = (self.weighted_difference(name, r) for r in rounds[-2:])
            candidate = stage_one(first, level, any_skewness=True)
            if candidate is not None and stage_two(second, candidate, any_skewness=True):
                self.confirmed.add(name)

    # Rows.

    def may_be_precise(self, stream: Stream, precision: float) -> bool:
        """Return whether the variance of every row may have reached this half-width.

        The check leaves the tail index out, which is most of the work of `rows`.
        """
        constant = {name: self._constant(name, stream) for name in stream.moments}
        every = {**stream.moments, ALL: stream.total}
        constant[ALL] = all(constant.values())
        return all(
            constant[name] or normal_half_width(norms.kurtosis(), norms.count) <= precision
            for name, norms in every.items()
        )

    def rows(self, stream: Stream) -> dict[str, dict[str, Any]]:
        """Return the statistical columns of every parameter block, and of `all`."""
        names = self.setting.blocks
        differences = {name: self.difference(name, stream) for name in names}
        rows = {name: self._row((name,), [differences[name]], stream, stream.moments[name]) for name in names}
        rows[ALL] = self._row(names, list(differences.values()), stream, stream.total)
        return rows

    def _row(self, names: tuple[str, ...], parts: list[Difference], stream: Stream, norms: Moments) -> dict[str, Any]:
        d = combine(parts)
        variance = float((d.deviation**2).sum())
        groups = sum((stream.moments[n].group_squared_norms() for n in names), np.zeros(GROUPS))
        plain = _estimated(variance, norms.count, norms.norms.sum(axis=0), norms.largest, groups)
        rounds = [r for r in self.rounds or [] if not r.relieved]
        missed = any(self._varies_more(names, r, variance) for r in rounds)
        spread = plain if not rounds or (plain.flag == "ok" and not missed) else self._weighted_spread(names, plain)
        exact = np.concatenate([self._exact(name) for name in names])
        off, gain = self._off(names, d)
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
        if self.dependent is not None:
            columns |= {"variance_low": None, "variance_high": None, "variance_flag": "dependent"}
        if self.exact is None:
            return {**columns, "verdict": "no-reference", "exact_source": "none", "reason": self.dependent}
        return {
            **columns,
            **self._verdict(names, off, exact, spread.variance, plain.heavy),
            "exact_norm": float(np.linalg.norm(exact)),
            "exact_source": self.exact.source,
            "bias_norm": float(np.linalg.norm(difference)),
            "bias_z": float(off.z[np.argmax(np.abs(off.z))]),
            "control_gain": gain,
            "snr": float(np.linalg.norm(exact) / math.sqrt(spread.variance)) if spread.variance > 0.0 else None,
        }

    def _off(self, names: tuple[str, ...], plain: Difference) -> tuple[Difference, float]:
        """Return the difference that the verdict uses, and the factor by which controls cut an estimate's variance."""
        gain, left = 1.0, None
        if self.relieved is not None:
            left = combine([self.difference(name, self.relieved) for name in names])
            variance, rest = float((plain.deviation**2).sum()), float((left.deviation**2).sum())
            gain = min(MOST_GAIN, variance / rest) if rest > 0.0 else MOST_GAIN
        if self.rounds is not None:
            return self._pooled(names, self.rounds), gain
        if left is not None:
            return left, gain
        return (_together([plain, self._pooled(names, self.searched)]) if self.searched else plain), gain

    def tails_matter(self, stream: Stream) -> bool:
        """Return whether weighted draws would tell more than replicates with controls subtracted.

        They do where these replicates are heavy-tailed, or where every inconclusive row has a bound that is small
        enough and is distrusted only for its skewness.
        """
        if self.relieved is not None and self.heavy(self.relieved):
            return True
        rows = self.rows(stream).values()
        return all(row["verdict"] != "inconclusive" or row["untrusted_bound"] <= self.bias_bound for row in rows)

    def _weighted_spread(self, names: tuple[str, ...], plain: VarianceEstimate) -> VarianceEstimate:
        """Return the variance from the defensive rounds, where they determine it better than plain replicates."""
        assert self.rounds is not None
        of = [r.total if len(names) > 1 else r.moments[names[0]] for r in self.rounds]
        count = sum(moments.count for moments in of)
        weighted = _estimated(
            sum(r.variance(names) * r.count for r in self.rounds) / count,
            count,
            sum((moments.norms.sum(axis=0) for moments in of), np.zeros(2)),
            np.concatenate([moments.largest for moments in of]),
            np.concatenate([moments.norms[:, 0] / (moments.count / GROUPS) for moments in of]),
        )
        if len(self.rounds) > 1 and not self.alike(self.rounds):
            weighted = replace(weighted, flag="unreliable" if weighted.flag == "ok" else weighted.flag)
        if max(r.at_the_ends[name][1] for r in self.rounds for name in names) > ENDS_OF_A_SUM:
            return replace(weighted, high=math.inf, half_width=math.inf, flag="not-estimable")
        better = weighted.flag == "ok" or weighted.half_width < plain.half_width
        return weighted if better or plain.flag == "ok" else plain

    def _verdict(
        self, names: tuple[str, ...], d: Difference, exact: np.ndarray, variance: float, heavy: bool
    ) -> dict[str, Any]:
        tolerance = np.concatenate([self.tolerance[name] for name in names])
        reasons = [self.refused, self.dependent]
        assumption, few = None, None
        if self.integrals is not None:
            integrals = [self.integrals[name] for name in names]
            bound, certificate = integrated_bound(integrals, exact, tolerance), "integration"
            integrated = float(sum(i.variance.sum() for i in integrals))
            variance = max(integrated, 0.0) if math.isfinite(integrated) else variance
            off = np.concatenate([i.mean for i in integrals]) - exact
            error = np.concatenate([i.error for i in integrals])
            biased = bool(np.any(np.abs(off) > WELL_ABOVE * error + ABOVE_ROUNDING * tolerance))
            trusted = True
            assumption = AS_SMOOTH if self.brought else None
        else:
            bound, trusted = self._sampled(names, d, heavy)
            certificate, off = "sampling", d.groups.mean(axis=0)
            biased = any(name in self.confirmed for name in names)
            biased &= bound.low > 0.0 or bool(np.max(np.abs(d.z)) > STILL_OFF)
            few = self._few_draws() if biased else None
            rare = f"no event rarer than {MISSED / d.count:.1g} matters"
            assumption = "defensive" if self.defended else self.assumption or rare
        scale = scale_of(exact, variance, tolerance)
        columns: dict[str, Any] = {
            "bias": scale.of(bound.estimate),
            "bias_low": scale.of(bound.low),
            "bias_high": scale.of(bound.high),
            "bias_bound": scale.of(bound.value),
            "bias_max": scale.of(bound.worst),
            "bias_scale": scale.name,
            "certificate": certificate,
            "untrusted_bound": scale.of(bound.value),
        }
        unbiased = bound.certain and columns["bias_bound"] <= self.bias_bound
        if self.dependent is not None:
            verdict, assumption = "inconclusive", None
        elif few is not None:
            verdict = "inconclusive"
            reasons.append(few)
        elif biased and not scale.hides(off):
            verdict = "biased"
        elif scale.lost or not trusted:
            columns |= dict.fromkeys(("bias", "bias_low", "bias_high", "bias_bound", "bias_max"))
            verdict = "inconclusive"
            lost, heavy_tail = "gradient and deviation are below rounding", "the tail is too heavy for a bound"
            reasons.append(lost if scale.lost else heavy_tail)
        else:
            verdict = "unbiased" if unbiased else "inconclusive"
            if not math.isfinite(bound.value):
                reasons.append("an estimate is not finite where its noise is drawn wider")
            elif not bound.certain:
                worst = float(d.skewness[np.argmax(np.abs(d.skewness))])
                reasons.append(f"the bias bound is not certain: skewness {worst:.3g}")
        if verdict == "inconclusive" and certificate == "sampling" and self.dependent is None and self.sampled:
            reasons.append(f"not integrated over the noise: {self.sampled}")
        return {
            **columns,
            "verdict": verdict,
            "assumption": assumption,
            "reason": "; ".join(filter(None, reasons)) or None,
            "final": self.dependent is not None or (scale.lost and not biased),
        }

    def _few_draws(self) -> str | None:
        """Return why defensive rounds may not show a bias: rare events of uniform noise need many draws per number."""
        if self.rounds is None or self.rounds[-1].count >= LEAST_FOR_UNIFORM * self.uniform:
            return None
        return (
            f"two rounds of {self.rounds[-1].count:,} defensive draws say biased, and {self.uniform} numbers of "
            f"uniform noise need {LEAST_FOR_UNIFORM:,} each: raise max replicates"
        )

    def _sampled(self, names: tuple[str, ...], d: Difference, heavy: bool) -> tuple[Bound, bool]:
        """Return the bound, and whether the tails were sampled well enough to trust it."""
        plain = self.rounds is None and self.relieved is None and not self.searched
        bound = sampled_bound(d, self._one_look(BOUND_LEVEL, plain))
        if self.rounds is None:
            return bound, not (heavy if self.relieved is None else self.heavy(self.relieved))
        return replace(bound, certain=True), len(self.rounds) > 1 and self.alike(self.rounds)

    def _pooled(self, names: tuple[str, ...], rounds: list[Weighted]) -> Difference:
        """Pool defensive rounds of equally many draws."""
        return combine([_together([self.weighted_difference(name, r) for r in rounds]) for name in names])


def _reference_error(exact: Exact | None, name: str) -> float:
    """Return the error bound of a coordinate of the exact gradient."""
    if exact is None:
        return 0.0
    relative = exact.error if exact.error is not None else REFERENCE_ERROR.get(exact.source, REFERENCE_ROUNDING)
    return relative * float(np.linalg.norm(exact.gradient[name]))


def _is_heavy(moments: Moments) -> bool:
    if math.isfinite(normal_half_width(moments.kurtosis(), moments.count)):
        return False
    share = share_of_largest(moments.largest, float(moments.norms[:, 1].sum()), 2)
    return is_heavy(tail_index(moments.largest, moments.count), share)


def _estimated(
    variance: float, count: int, sums: np.ndarray, largest: np.ndarray, groups: np.ndarray
) -> VarianceEstimate:
    """Estimate a variance from ΣQ and ΣQ², the largest Q, and the mean of Q by group."""
    return estimate_variance(
        variance,
        count=count,
        kurtosis=kurtosis_of(sums, count),
        tail=tail_index(largest, count) if variance > 0.0 else math.nan,
        share=share_of_largest(largest, float(sums[0]), 1),
        square_share=share_of_largest(largest, float(sums[1]), 2),
        group_means=groups,
        zero_below=0.0,
    )


def _together(parts: list[Difference]) -> Difference:
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
