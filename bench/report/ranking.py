"""The order of one problem's estimators: by variance × seconds, or at equal evaluations where nothing was timed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from gradmeter.bench.reading.ratios import Ratio, time_ratio, variance_ratio, work_ratio
from gradmeter.bench.reading.results import Result

#: What a verdict must be for an estimator to be recommended.
ACCEPTABLE = ("unbiased", "inconclusive", "no-reference")
#: What costs are set against: the first of these that was timed; and what it must share with a cell whose cost is.
REFERENCES = ("pathwise", "score-function", "score-function[baseline=leave-one-out]")
_SAME = ("backend", "device", "dtype", "noise")


@dataclass
class Ranking:
    """One problem on one machine.

    Attributes
    ----------
    problem : `name[k=v]`.
    timed : whether the order is by variance × seconds; else by variance × evaluations.
    ranked : best first.
    unranked : measured, but biased (by verdict or by nature), without a finite variance, or without a time where
        others have one.
    controls : estimators with a planted bug.
    failed : everything that has a reason in place of numbers.
    """

    problem: str
    machine: str | None = None
    timed: bool = True
    ranked: list[Result] = field(default_factory=list)
    unranked: list[Result] = field(default_factory=list)
    controls: list[Result] = field(default_factory=list)
    failed: list[Result] = field(default_factory=list)

    @property
    def results(self) -> list[Result]:
        return [*self.ranked, *self.unranked, *self.controls, *self.failed]

    @property
    def best(self) -> Result | None:
        return self.ranked[0] if self.ranked else None

    def work(self, result: Result) -> float | None:
        """Variance × seconds, or variance × evaluations."""
        return work(result, self.timed)

    def against_best(self, result: Result) -> Ratio | None:
        """Its work-normalised variance over that of the best."""
        if self.best is None or result is self.best:
            return None
        return work_ratio(result, self.best, self.timed)

    @property
    def reference(self) -> str:
        """The estimator whose seconds are 1: pathwise; where it was not timed (discrete z), a score function."""
        timed = {r.estimator for r in self.results if r.timed}
        return next((name for name in REFERENCES if name in timed), REFERENCES[0])

    def against_reference(self, result: Result) -> tuple[Ratio, Result] | None:
        """Its seconds over those of the reference on the same backend, and which cell that is; None without one.

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
        """The cell of the reference that has the same S and backend; None without one."""
        same = (*_SAME, "num_samples")
        plain = [r for r in self.results if r.estimator == self.reference and all(r[c] == result[c] for c in same)]
        return plain[0] if plain else None

    def variance_against_reference(self, result: Result, block: str) -> Ratio | None:
        """Its variance in a parameter block over the reference's; None without one, or for the reference itself."""
        plain = self.reference_of(result)
        return None if plain is None or plain is result else variance_ratio(result, plain, block)


def work(result: Result, timed: bool) -> float | None:
    """Work-normalised variance: variance × seconds, or variance × evaluations where `timed` is False."""
    variance, cost = result["variance"], result["seconds" if timed else "evaluations"]
    return None if variance is None or cost is None else variance * cost


def rank(results: Iterable[Result]) -> list[Ranking]:
    """One ranking for each problem and machine, in the order of their first results."""
    groups: dict[tuple[str, str | None], list[Result]] = {}
    for result in results:
        groups.setdefault((result.problem, result["machine"]), []).append(result)
    return [_rank(problem, machine, members) for (problem, machine), members in groups.items()]


def _rank(problem: str, machine: str | None, results: list[Result]) -> Ranking:
    ranking = Ranking(problem, machine)
    honest = [r for r in results if r.measured and not r.planted]
    ranking.timed = any(r.timed for r in honest if _recommendable(r)) or (
        not honest and any(r.timed for r in results if r.measured)
    )
    for result in results:
        if not result.measured:
            ranking.failed.append(result)
        elif result.planted:
            ranking.controls.append(result)
        elif _recommendable(result) and ranking.work(result) is not None:
            ranking.ranked.append(result)
        else:
            ranking.unranked.append(result)
    for part in (ranking.ranked, ranking.unranked, ranking.controls):
        part.sort(key=lambda r: _place(ranking, r))
    return ranking


def _place(ranking: Ranking, result: Result) -> tuple[Any, ...]:
    """What results are sorted by: without any variance, the cheaper one comes first."""
    work, cost = ranking.work(result), result["seconds" if ranking.timed else "evaluations"]
    return work is None, work or 0.0, cost or 0.0, result.estimator, result["num_samples"] or 0


def _recommendable(result: Result) -> bool:
    acceptable = result["verdict"] in ACCEPTABLE and not result.biased_by_nature
    return acceptable and result["variance_flag"] not in ("not-estimable", "dependent")
