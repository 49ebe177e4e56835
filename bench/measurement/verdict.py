"""Turn the moments of a cell's replicates into its verdict and the statistical columns of its rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.measurement.agreement import different_means, different_variances, group_ratio
from gradmeter.bench.measurement.bias import (
    MISSED_SIZE,
    STAGE_LEVEL,
    Candidate,
    Difference,
    combine,
    difference,
    pool,
    stage_one,
    stage_two,
)
from gradmeter.bench.measurement.controls.frozen import Controls
from gradmeter.bench.measurement.controls.relieved import Relieved
from gradmeter.bench.measurement.defensive import DefensiveDraws, Weighted
from gradmeter.bench.measurement.integrate import Integral
from gradmeter.bench.measurement.moments import GROUPS, Moments
from gradmeter.bench.measurement.stream import Described, Stream
from gradmeter.bench.measurement.variance import is_heavy, normal_half_width
from gradmeter.bench.problems import Exact
from gradmeter.bench.rows import ALL

#: Probability that a correct integral is refused because the sampled mean contradicts it.
CONTRADICTION_LEVEL = 1e-4
#: Ratio of the variances of two defensive rounds above which they have not sampled the tails equally well.
ALIKE = 2.0
#: Ratio of the defensive to the plain variance above which plain draws missed part of it, whatever the standard error.
FAR_MORE = 10.0
#: The tails were not sampled if the 16 largest draws hold more than the first share of Σ w ‖ĝ − c‖. The mean, or the
#: variance, may not exist if noise at the ends of the generator's range holds more than the second share of
#: Σ w ‖ĝ − c‖, or of Σ w ‖ĝ − c‖².
FEW_OF_A_MEAN, ENDS_OF_A_SUM = 0.25, 0.25
#: Standard errors within which a mean may be 0, and the deviation, relative to |E f|, of estimates small beside f.
WITHIN_CHANCE, SMALL = 4.0, 0.01
#: Relative error of an exact gradient that states none, by source: for quadrature its requested tolerance with a
#: margin, for every other source rounding.
REFERENCE_ERROR, REFERENCE_ROUNDING = {"quadrature": 1e-11}, 1e-13
#: Error of the mean of a control variate, in its standard deviations, by precision: the coefficients come from normal
#: equations, sums are rounded, and JAX's float32 normals lie in [−5.42, 5.22].
LAW_OF_NOISE = {"float64": 1e-8, "float32": 1e-5}
#: Largest number of defensive rounds that a verdict may rest on.
MOST_ROUNDS = 4
#: Share of every level spent on the interim analyses of plain replicates; analyses of all other draws share the rest.
PLAIN = 0.75

Vectors = Mapping[str, np.ndarray]


@dataclass
class Evidence:
    """Sources of evidence for a verdict beside plain replicates.

    Attributes
    ----------
    tolerance
        τ by parameter block [P]; if absent, it is derived from the size of the estimates.
    check
        Function of (stream roots, block, centre, Q by parameter block) that raises where the replicates of a block
        depend on the other replicates in their call.
    integrals
        Function that integrates the estimator over its noise, if possible; called only after estimates were found
        finite.
    again
        Defensive draws, where the noise is drawn here and has tails.
    rare
        Whether z is discrete and may have states that no replicate visits.
    searched
        Whether to search for rare events although no replicate met one: where parts are a user's own.
    assumption
        What the verdict assumes and nobody checked.
    controls
        Function that fits control variates of known mean, given a rough mean by parameter block, and returns them with
        a kernel of the estimates less these controls; only where the noise is drawn here.
    sampled
        Why the noise of a user's parts is not integrated over although it has few numbers.
    unmet
        Function that tells whether the mean of f rests on events that the draws miss.
    met
        Function of (number of draws, whether they are defensive) that tells whether they meet what the mean of f rests
        on.
    grids_meet
        Function that tells whether grids of an integration reproduce the mean of f.
    rare_samples
        Function of (probability in an estimate below which draws miss an event, relative bias) that tells why missed
        samples may explain the bias; None where they do not.
    reference_rounding
        Function that measures by how much rounding may move the exact gradient, by parameter block [P]; called only
        where a bias may be nothing else.
    affords
        Function that tells how many more estimates there is time for.
    stop_at
        Number of estimates after which no more are drawn.
    """

    tolerance: Mapping[str, np.ndarray] | None = None
    check: Callable[[Any, int, Any, dict[str, np.ndarray]], None] | None = None
    integrals: Callable[[], dict[str, Integral] | None] = lambda: None
    again: DefensiveDraws | None = None
    rare: bool = False
    searched: bool = False
    assumption: str | None = None
    controls: Callable[[dict[str, np.ndarray]], tuple[Controls, Relieved] | None] | None = None
    sampled: str | None = None
    unmet: Callable[[], bool] = lambda: False
    met: Callable[[int, bool], bool] = lambda count, defensive: True
    grids_meet: Callable[[], bool] = lambda: True
    rare_samples: Callable[[float, float], str | None] = lambda rarest, bias: None
    reference_rounding: Callable[[], Mapping[str, np.ndarray] | None] = lambda: None
    affords: Callable[[], float] = lambda: math.inf
    stop_at: float = math.inf


class Verdicts:
    """Verdicts, computed from streamed moments.

    Parameters
    ----------
    setting
        The cell being measured.
    exact
        The exact gradient g; None where it is unknown.
    tolerance
        τ by parameter block [P]: how far rounding may move a mean.
    evidence
        Sources of evidence beside plain replicates.
    integrals
        Means by integration over the noise, where integration succeeded.
    bias_bound
        Certified relative bias at or below which the verdict is `unbiased`.
    analyses, others
        Numbers of interim analyses of plain replicates and of other draws; the levels are divided by them.
    """

    def __init__(
        self,
        setting: Described,
        exact: Exact | None,
        tolerance: Vectors,
        evidence: Evidence,
        integrals: dict[str, Integral] | None = None,
        *,
        bias_bound: float = 0.01,
        analyses: int = 1,
        others: int = 0,
    ) -> None:
        self.setting, self.exact, self.evidence, self.integrals = setting, exact, evidence, integrals
        self.rounding = {name: np.asarray(tolerance[name]) for name in setting.blocks}
        #: How far rounding and the error of the exact gradient may move ḡ − g.
        self.tolerance = {name: tau + _reference_error(exact, name) for name, tau in self.rounding.items()}
        self.bias_bound, self.analyses, self.others = bias_bound, analyses, others
        self.events: bool | None = None
        self.confirmed: set[str] = set()
        self.refused: str | None = None
        self.dependent: str | None = None
        #: Defensive rounds that the verdicts rest on, once there are any.
        self.rounds: list[Weighted] | None = None
        #: Defensive draws that searched for rare events and found none; they are pooled with the plain replicates.
        self.searched: list[Weighted] = []
        #: Whether the last plain analysis suspected a bias that no replicates were left to confirm.
        self.unconfirmed = False
        #: Whether defensive draws confirmed a candidate or found no rare event.
        self.defended = False
        #: Replicates with the control variates subtracted; once set, the mean is judged by them.
        self.relieved: Stream | None = None
        #: Error by parameter block that the control variates add: rounding, and their inexact means.
        self.blur: dict[str, np.ndarray] = {}

    def difference(self, name: str, stream: Stream) -> Difference:
        offset = stream.centre[name] + stream.offset[name] - self.exact_gradient(name)
        return self._difference(name, stream.moments[name], offset, relieved=stream.relieved)

    def weighted_difference(self, name: str, drawn: Weighted) -> Difference:
        return self._difference(name, drawn.moments[name], 0.0, relieved=drawn.relieved)

    def _difference(self, name: str, moments: Moments, offset: np.ndarray | float, relieved: bool) -> Difference:
        blur = self.blur[name] if relieved else 0.0
        tolerance, constant = self.tolerance[name] + blur, self.rounding[name] + blur
        mean = self.exact_gradient(name) + moments.shift() + offset
        event = np.zeros(len(mean)) if relieved else self._event(name, moments, mean)
        return difference(moments, offset, self.exact_gradient(name), tolerance, constant, self.evidence.rare, event)

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
            self.events = self.evidence.unmet()
        return self.events

    def exact_gradient(self, name: str) -> np.ndarray:
        return np.zeros(self.setting.sizes[name]) if self.exact is None else self.exact.gradient[name]

    def cross_examine(self, stream: Stream) -> None:
        """Refuse the integrals if the sampled mean of any coordinate contradicts one of them."""
        for name, integral in list((self.integrals or {}).items()):
            moments = stream.moments[name]
            error = _standard_error(integral, moments.variances(), moments.count)
            self._examine(name, integral, moments.shift() + stream.centre[name], error, moments.count)
            if self.evidence.searched and self.integrals is not None:
                self._refuse(different_variances(name, integral, moments, self.rounding[name]))

    def _examine(self, name: str, integral: Integral, mean: np.ndarray, error: np.ndarray, count: int) -> None:
        level = CONTRADICTION_LEVEL / ((self.analyses + MOST_ROUNDS) * sum(self.setting.sizes.values()))
        self._refuse(different_means(name, integral, mean, error, count, self.tolerance[name], level))

    def _refuse(self, contradiction: str | None) -> None:
        if contradiction is not None:
            self.integrals, self.refused = None, f"integration over the noise was refused: {contradiction}"

    def dependence(self, stream: Stream) -> dict[str, float]:
        """Return the suspected parameter blocks: variance of the group means over its value under independence."""
        ratios = {name: group_ratio(moments, self.rounding[name]) for name, moments in stream.moments.items()}
        return {name: ratio for name, ratio in ratios.items() if ratio is not None}

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
        level = self.one_look(STAGE_LEVEL, plain=not stream.relieved) / len(self.setting.blocks)
        return self._first({name: self.difference(name, stream) for name in self._open()}, level)

    def one_look(self, level: float, plain: bool) -> float:
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

    def leave_controls(self) -> None:
        """Judge the mean by plain replicates again, since other draws may have missed events that determine it."""
        self.relieved = self.rounds = None
        self.confirmed.clear()

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
        return [name for name, moments in found.items() if name not in constant and is_heavy(moments)]

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
        return any(self.varies_more_in((name,), drawn, variance) for name, variance in plain.items())

    def varies_more_in(self, names: tuple[str, ...], drawn: Weighted, plain: float) -> bool:
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

    def unmet_share(self, stream: Stream, met: Mapping[str, float]) -> float:
        """Return the largest share of ΣQ, over parameter blocks, that plain replicates owe to larger Q than these."""
        return max(moments.share_beyond(met[name]) for name, moments in stream.moments.items())

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
            d = self.pooled((name,), rounds)
            error = _standard_error(integral, d.deviation**2, d.count)
            self._examine(name, integral, self.exact_gradient(name) + d.groups.mean(axis=0), error, d.count)
        if self.exact is None or self.integrals is not None or len(rounds) < 2 or not self.alike(rounds):
            return
        level = STAGE_LEVEL / ((MOST_ROUNDS - 1) * len(self.setting.blocks))
        for name in self._open():
            first, second = (self.weighted_difference(name, r) for r in rounds[-2:])
            candidate = stage_one(first, level, any_skewness=True)
            if candidate is not None and stage_two(second, candidate, any_skewness=True):
                self.confirmed.add(name)

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

    def pooled(self, names: tuple[str, ...], rounds: list[Weighted]) -> Difference:
        """Pool defensive rounds of equally many draws."""
        return combine([pool([self.weighted_difference(name, r) for r in rounds]) for name in names])


def _standard_error(integral: Integral, variances: np.ndarray, count: int) -> np.ndarray:
    """Return the standard error of a sampled mean [P], from its variances and those of the integral.

    The larger variance of the two counts: a sample from a heavy tail, or without a rare state, underestimates its own.
    """
    known = np.where(np.isnan(integral.variance), np.inf, integral.variance)
    return np.sqrt(np.maximum(variances, known) / count)


def unstated_error(exact: Exact) -> float:
    """Return the relative error of an exact gradient that states none."""
    return REFERENCE_ERROR.get(exact.source, REFERENCE_ROUNDING) * exact.condition


def _reference_error(exact: Exact | None, name: str) -> float | np.ndarray:
    """Return the error bound of every coordinate of a block of the exact gradient, [P] or one number for all."""
    if exact is None:
        return 0.0
    if exact.errors is not None:
        return exact.errors[name]
    if exact.error is not None:  # relative to the whole gradient
        return exact.error * math.sqrt(sum(float(np.sum(a * a)) for a in exact.gradient.values()))
    return unstated_error(exact) * float(np.linalg.norm(exact.gradient[name]))
