"""The answer in words: which estimator to use on a problem, how much better it is, and how sure that is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.ratios import Ratio, time_ratio, work_ratio
from gradmeter.bench.reading.results import CONTEXT, Result, varying
from gradmeter.bench.report.ranking import Ranking

MOST_COMPARISONS = 3
UNTIMED = "ranked by variance × integrand evaluations, because nothing was timed"


@dataclass(frozen=True)
class Comparison:
    """`2.10× [1.90, 2.30]` `less variance × seconds than` `pathwise`; or, not told apart, in words that say so."""

    ratio: str
    words: str
    other: str
    setting: str
    settled: bool
    note: str = ""


@dataclass(frozen=True)
class Advice:
    """What to do on one problem.

    Attributes
    ----------
    use : the estimator, or None where there is nothing to recommend; then `caveats` say why.
    verdict, bound : on its bias.
    setting : `S = 2, jax`.
    comparisons : with the runner-up and the best of other kinds.
    caveats : what the reader must know before following the advice.
    """

    use: str | None
    verdict: str = ""
    bound: str = ""
    setting: str = ""
    comparisons: tuple[Comparison, ...] = ()
    caveats: tuple[str, ...] = ()

    def without(self, caveat: str) -> Advice:
        return dataclasses.replace(self, caveats=tuple(c for c in self.caveats if c != caveat))


def advise(ranking: Ranking) -> Advice:
    """The recommendation that a ranking supports."""
    best = ranking.best
    if best is None:
        return Advice(None, caveats=(_why_nothing(ranking),))
    context = varying(ranking.results, CONTEXT)
    others = _others(ranking, best)
    comparisons = tuple(filter(None, (_compare(ranking, best, other, context) for other in others)))
    setting = _samples(best)
    if context:
        setting += f", {best.context(context)}"
    return Advice(
        best.estimator, best["verdict"], numbers.bound(best.row), setting, comparisons, tuple(_caveats(ranking, best))
    )


def _others(ranking: Ranking, best: Result) -> list[Result]:
    """The runner-up, then the best of every other kind; each on the backend of the best where it ran there."""
    firsts: dict[str, Result] = {}
    for result in ranking.ranked:
        if result.estimator == best.estimator:
            continue
        known = firsts.get(result.estimator)
        if known is None or (_apart(result, best) < _apart(known, best)):
            firsts[result.estimator] = result
    candidates = sorted(firsts.values(), key=lambda r: ranking.work(r) or 0.0)
    chosen = candidates[:1]
    for result in candidates[1:]:
        if result["estimator"] not in {best["estimator"], *(c["estimator"] for c in chosen)}:
            chosen.append(result)
    chosen += [r for r in candidates if r not in chosen]
    if best["verdict"] != "unbiased":  # the best that is certified belongs into the sentence
        chosen.sort(key=lambda r: r["verdict"] != "unbiased")
    return sorted(chosen[:MOST_COMPARISONS], key=lambda r: ranking.work(r) or 0.0)


def _samples(result: Result) -> str:
    return f"S\u00a0=\u00a0{numbers.count(result['num_samples'])}"


def _apart(a: Result, b: Result) -> int:
    return sum(a[column] != b[column] for column in CONTEXT)


def _compare(ranking: Ranking, best: Result, other: Result, context: tuple[str, ...]) -> Comparison | None:
    nothing = best["variance"] == 0.0  # then they differ in cost alone
    if nothing and other["variance"] != 0.0:
        return None
    ratio = _cost_ratio(other, best, ranking.timed) if nothing else work_ratio(other, best, ranking.timed)
    details = [_samples(other)] if other["num_samples"] != best["num_samples"] else []
    details += [other.context([c for c in context if other[c] != best[c]])]
    details = [d for d in details if d]
    if other["verdict"] != "unbiased" or best["verdict"] != "unbiased":
        details.append(str(other["verdict"]))
    if ratio is None:
        return None
    if nothing:
        details.append("of variance 0 too")
        measure = "seconds" if ranking.timed else "evaluations"
    else:
        measure = "variance × seconds" if ranking.timed else "variance at equal evaluations"
    name, setting = other.estimator, ", ".join(details)
    text = numbers.times(ratio.value, ratio.low, ratio.high)
    note = "" if ratio.sure else "not paired, or from a flagged variance"
    if round(ratio.low, 2) > 1.0:  # as it is printed
        return Comparison(text, f"less {measure} than", name, setting, True, note)
    return Comparison(text, f"the {measure}: not told apart from", name, setting, False, note)


def _cost_ratio(a: Result, b: Result, timed: bool) -> Ratio | None:
    if timed:
        return time_ratio(a, b)
    ratio = a["evaluations"] / b["evaluations"] if a["evaluations"] and b["evaluations"] else None
    return None if ratio is None else Ratio(ratio, ratio, ratio)


def _caveats(ranking: Ranking, best: Result) -> list[str]:
    found = []
    if best["verdict"] == "inconclusive":
        found.append(
            f"its bias is inconclusive: up to {numbers.bound(best.row).removeprefix('≤ ') or 'an unknown size'} "
            "is not excluded"
        )
    if best["verdict"] == "no-reference":
        found.append("there is no exact gradient here, so its bias is not checked")
    if best["variance_flag"] != "ok":
        found.append(f"its variance is {best['variance_flag'] or 'not flagged'}")
    if best["variance"] == 0.0:
        other = next((r for r in ranking.ranked if r["variance"]), None)
        found.append("its variance is 0" + (f"; of the others {other.estimator} is the best" if other else ""))
    if best["reason"]:
        found.append(best["reason"])
    if not ranking.timed:
        found.append(UNTIMED)
    if len({r.estimator for r in ranking.ranked}) == 1:
        found.append("nothing else to compare it with")
    return found


def _why_nothing(ranking: Ranking) -> str:
    if ranking.unranked:
        return (
            "nothing to recommend: every estimator measured is biased, not timed, or of a variance that has no estimate"
        )
    if ranking.controls:
        return "nothing to recommend: only planted bugs were measured here"
    return "nothing to recommend: nothing could be measured here"
