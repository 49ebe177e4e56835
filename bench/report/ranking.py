"""The order of one problem's estimators: by variance × seconds, or at equal evaluations where nothing was timed.

Estimators are compared within one backend, device and dtype: a side. The sides are compared by their best estimators.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gradmeter.bench.reading.ratios import Ratio, time_ratio, variance_ratio, work_ratio
from gradmeter.bench.reading.results import Result

#: What a verdict must be for an estimator to be recommended.
ACCEPTABLE = ("unbiased", "agrees", "inconclusive", "no-reference")
#: What costs are set against: the first of these that was timed; and what it must share with a cell whose cost is.
REFERENCES = ("pathwise", "score-function", "score-function[baseline=leave-one-out]")
_SAME = ("backend", "device", "dtype", "noise")
#: What makes a side.
SIDE = ("backend", "device", "dtype")


@dataclass
class Ranking:
    """One problem on one machine.

    Attributes
    ----------
    problem
        `name[k=v]`.
    timed
        Whether the order is by variance × seconds; else by variance × evaluations.
    ranked
        The best side first; on each side the estimators by their ratio to its best, which is the number shown.
    unranked
        Measured, but biased (by verdict or by nature), without a finite variance, or without a time where others have
        one.
    controls
        Estimators with an injected bug.
    failed
        Everything that has a reason in place of numbers.
    """

    problem: str
    machine: str | None = None
    timed: bool = True
    ranked: list[Result] = field(default_factory=list)
    unranked: list[Result] = field(default_factory=list)
    controls: list[Result] = field(default_factory=list)
    failed: list[Result] = field(default_factory=list)
    _ratios: dict[tuple[int, int], Ratio | None] = field(default_factory=dict, repr=False)

    @property
    def results(self) -> list[Result]:
        return [*self.ranked, *self.unranked, *self.controls, *self.failed]

    @property
    def best(self) -> Result | None:
        return self.ranked[0] if self.ranked else None

    def work(self, result: Result) -> float | None:
        """Return variance × seconds, or variance × evaluations."""
        return work(result, self.timed)

    @property
    def sides(self) -> list[list[Result]]:
        """The ranked cells of each backend, device and dtype."""
        return [list(members) for _, members in itertools.groupby(self.ranked, key=side)]

    def side_of(self, result: Result) -> list[Result]:
        """Return the ranked cells on the side of a cell, best first."""
        return [r for r in self.ranked if side(r) == side(result)]

    def against_best(self, result: Result) -> Ratio | None:
        """Return the work-normalised variance of a cell over that of the best on its side."""
        best = next(iter(self.side_of(result)), result)
        return None if result is best or not best["variance"] else self.against(result, best)

    def against(self, a: Result, b: Result) -> Ratio | None:
        """Return the work-normalised variance of `a` over that of `b`.

        Where neither has a variance, it is the cost of `a` over that of `b`.
        """
        key = id(a), id(b)
        if key not in self._ratios:
            compare = work_ratio if a["variance"] or b["variance"] else _cost_ratio
            self._ratios[key] = compare(a, b, self.timed)
        return self._ratios[key]

    @property
    def reference(self) -> str:
        """The estimator whose seconds are 1: pathwise; where it was not timed (discrete z), a score function."""
        timed = {r.estimator for r in self.results if r.timed}
        return next((name for name in REFERENCES if name in timed), REFERENCES[0])

    def against_reference(self, result: Result) -> tuple[Ratio, Result] | None:
        """Return the seconds of a cell over those of the reference, and the cell of the reference.

        The reference is that of the same backend. Return None without a reference.

        That of the same S where it was measured, else of the smallest S.
        """
        name = self.reference
        plain = [r for r in self.results if r.estimator == name and r.timed and all(r[c] == result[c] for c in _SAME)]
        if not result.timed or not plain:
            return None
        size = result["num_samples"]
        reference = min(plain, key=lambda r: (r is not result, r["num_samples"] != size, r["num_samples"] or 0))
        ratio = time_ratio(result, reference)
        return None if ratio is None else (ratio, reference)

    def reference_of(self, result: Result) -> Result | None:
        """Return the cell of the reference that has the same S and backend; None without one."""
        same = (*_SAME, "num_samples")
        plain = [r for r in self.results if r.estimator == self.reference and all(r[c] == result[c] for c in same)]
        return plain[0] if plain else None

    def variance_against_reference(self, result: Result, block: str) -> Ratio | None:
        """Return the variance of a cell in a parameter block over that of the reference.

        Return None without a reference, or for the reference itself.
        """
        plain = self.reference_of(result)
        return None if plain is None or plain is result else variance_ratio(result, plain, block)


def work(result: Result, timed: bool) -> float | None:
    """Return the work-normalised variance: variance × seconds, or variance × evaluations where `timed` is False."""
    variance, cost = result["variance"], result["seconds" if timed else "evaluations"]
    return None if variance is None or cost is None else variance * cost


def rank(results: Iterable[Result]) -> list[Ranking]:
    """Return a ranking for each problem and machine, in the order of their first results."""
    groups: dict[tuple[str, str | None], list[Result]] = {}
    for result in results:
        groups.setdefault((result.problem, result["machine"]), []).append(result)
    return [_rank(problem, machine, members) for (problem, machine), members in groups.items()]


def _rank(problem: str, machine: str | None, results: list[Result]) -> Ranking:
    ranking = Ranking(problem, machine)
    honest = [r for r in results if r.measured and not r.injected]
    ranking.timed = any(r.timed for r in honest if _recommendable(r)) or (
        not honest and any(r.timed for r in results if r.measured)
    )
    for result in results:
        if not result.measured:
            ranking.failed.append(result)
        elif result.injected:
            ranking.controls.append(result)
        elif _recommendable(result) and ranking.work(result) is not None:
            ranking.ranked.append(result)
        else:
            ranking.unranked.append(result)
    for part in (ranking.unranked, ranking.controls):
        part.sort(key=lambda r: _place(ranking, r))
    sides: dict[tuple[Any, ...], list[Result]] = {}
    for result in ranking.ranked:
        sides.setdefault(side(result), []).append(result)
    ordered = {id(members[0]): members for members in (_ordered(ranking, each) for each in sides.values())}
    ranking.ranked = [r for best in _ordered(ranking, [m[0] for m in ordered.values()]) for r in ordered[id(best)]]
    return ranking


def side(result: Result) -> tuple[Any, ...]:
    return tuple(result[column] for column in SIDE)


def _ordered(ranking: Ranking, results: list[Result]) -> list[Result]:
    """Sort by the ratio to the best, which is shown beside each.

    A ratio is paired round by round, and so is not the quotient of two medians: the cell of the smallest product may
    have a ratio above 1 to another, which then takes its place.
    """
    best = min(results, key=lambda r: _place(ranking, r), default=None)
    for _ in results:
        first = min(results, key=lambda r: _distance(ranking, r, best))
        if first is best:
            break
        best = first
    return sorted(results, key=lambda r: _distance(ranking, r, best))


def _distance(ranking: Ranking, result: Result, best: Result | None) -> tuple[Any, ...]:
    """Return the key by which ranked cells are sorted: the ratio to the best.

    Where no ratio is known, it is the quotient of the products of variance and cost.
    """
    work, least = ranking.work(result) or 0.0, (best and ranking.work(best)) or 0.0
    ratio = None if best is None or result is best else ranking.against(result, best)
    known = ratio.value if ratio is not None else 1.0 if result is best or not least else work / least
    return work > 0.0 and not least, known, result is not best, *_place(ranking, result)


def _cost_ratio(a: Result, b: Result, timed: bool) -> Ratio | None:
    if timed:
        return time_ratio(a, b)
    ratio = a["evaluations"] / b["evaluations"] if a["evaluations"] and b["evaluations"] else None
    return None if ratio is None else Ratio(ratio, ratio, ratio)


def _place(ranking: Ranking, result: Result) -> tuple[Any, ...]:
    """Return the key by which results are sorted; of results without variance the cheaper one comes first."""
    work, cost = ranking.work(result), result["seconds" if ranking.timed else "evaluations"]
    return work is None, work or 0.0, cost or 0.0, result.estimator, result["num_samples"] or 0


def _recommendable(result: Result) -> bool:
    acceptable = result["verdict"] in ACCEPTABLE and not result.biased_by_nature
    return acceptable and result["variance_flag"] not in ("not-estimable", "dependent")
