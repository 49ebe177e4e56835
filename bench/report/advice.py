"""The answer in words: which estimator to use on a problem, how much better it is, and how sure that is.

Estimators are compared on the backend of the recommended one; then its backends with each other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.ratios import Ratio
from gradmeter.bench.reading.results import CONTEXT, Result, varying
from gradmeter.bench.report.ranking import SIDE, Ranking

MOST_COMPARISONS = 3
ALONE = "the only estimator measured on this problem"
UNTIMED = "ranked by variance × integrand evaluations, because nothing was timed"


@dataclass(frozen=True)
class AdviceLine:
    """A comparison in words: `2.10× [1.90, 2.30]` `less variance × seconds than` `pathwise`.

    Where the difference is not significant: `no significant difference from` `pathwise`, and then the ratio.

    Attributes
    ----------
    other
        An estimator, or a backend.
    settled
        Whether the difference is significant.
    size
        The ratio as a number.
    """

    ratio: str
    words: str
    other: str
    setting: str
    settled: bool
    size: Ratio
    note: str = ""


@dataclass(frozen=True)
class Recommendation:
    """What to do on one problem.

    Attributes
    ----------
    use
        The estimator, or None where there is nothing to recommend; then `caveats` say why.
    verdict, bound
        On its bias.
    setting
        `S = 2, jax`.
    comparisons
        With the runner-up, the best certified one and the best of other kinds, on the same backend.
    backends
        Comparisons with the same estimator on other backends.
    caveats
        What the reader must know before following the advice.
    """

    use: str | None
    verdict: str = ""
    bound: str = ""
    setting: str = ""
    comparisons: tuple[AdviceLine, ...] = ()
    backends: tuple[AdviceLine, ...] = ()
    caveats: tuple[str, ...] = ()

    def without(self, caveat: str) -> Recommendation:
        return dataclasses.replace(self, caveats=tuple(c for c in self.caveats if c != caveat))


def advise(ranking: Ranking) -> Recommendation:
    """Return the recommendation that a ranking supports."""
    best = ranking.best
    if best is None:
        return Recommendation(None, caveats=(_why_nothing(ranking),))
    context = varying(ranking.results, CONTEXT)
    others = _others(ranking.side_of(best), best) or _others(ranking.ranked, best)
    comparisons = tuple(c for i, r in enumerate(others) if (c := _compare(ranking, best, r, context, next_=i == 0)))
    setting = _samples(best)
    if context:
        setting += f", {best.context(context)}"
    return Recommendation(
        best.estimator,
        best["verdict"],
        numbers.bound(best.row),
        setting,
        comparisons,
        tuple(_backends(ranking, best)),
        tuple(_caveats(ranking, best)),
    )


def sentence(
    advice: Recommendation,
    code: Callable[[str], str] = str,
    plain: Callable[[str], str] = str,
    strong: Callable[[str], str] = str,
) -> str:
    """Return a recommendation as a sentence.

    Parameters
    ----------
    advice
        The recommendation.
    code, plain, strong
        Functions that mark up names, other text, and the name of the estimator to use.
    """
    caveats = "; ".join(plain(c) for c in advice.caveats)
    if advice.use is None:
        return f"{caveats}."

    def compared(c: AdviceLine) -> str:
        other = code(c.other) + (f" ({plain(c.setting)})" if c.setting else "")
        said = f"{c.ratio} {c.words} {other}".rstrip() if c.settled else f"{c.words} {other}: ratio {c.ratio}"
        return said + (f" [{plain(c.note)}]" if c.note else "")

    verdict = f"{numbers.verdict(advice.verdict)} {advice.bound}".strip()
    setting = f"{plain(advice.setting)}; " if advice.setting else ""
    parts = [f"use {strong(code(advice.use))} ({setting}{plain(verdict)})", *map(compared, advice.comparisons)]
    backends = f" Backends: {', '.join(map(compared, advice.backends))}." if advice.backends else ""
    return "; ".join(parts) + "." + backends + (f" Note: {caveats}." if caveats else "")


def _others(ranked: list[Result], best: Result) -> list[Result]:
    """Return the runner-up, and the best of every other kind.

    If `best` is not certified, the best certified estimator is among them.
    """
    firsts: dict[str, Result] = {}
    for result in ranked:
        firsts.setdefault(result.estimator, result)
    candidates = [r for name, r in firsts.items() if name != best.estimator]
    chosen = candidates[:1]
    if best["verdict"] != "unbiased":
        chosen += [r for r in candidates[1:] if r["verdict"] == "unbiased"][:1]
    for result in candidates[1:]:
        if result["estimator"] not in {best["estimator"], *(c["estimator"] for c in chosen)}:
            chosen.append(result)
    chosen += [r for r in candidates if r not in chosen]
    return [r for r in candidates if r in chosen[:MOST_COMPARISONS]]


def _samples(result: Result) -> str:
    return f"S\u00a0=\u00a0{numbers.count(result['num_samples'])}"


def _compare(ranking: Ranking, best: Result, other: Result, context: tuple[str, ...], next_: bool) -> AdviceLine | None:
    nothing = best["variance"] == 0.0  # then they differ in cost alone
    if nothing and other["variance"] != 0.0:
        return None
    ratio = ranking.against(other, best)
    details = [_samples(other)] if other["num_samples"] != best["num_samples"] else []
    details += [other.context([c for c in context if other[c] != best[c]])]
    details = [d for d in details if d]
    if other["verdict"] != "unbiased" or best["verdict"] != "unbiased":
        details.append(str(other["verdict"]))
    if ratio is None:
        return None
    if nothing:
        details.append("of variance 0 too")
    than = "than the next," if next_ else "than"
    return _in_words(ratio, f"less {_measure(ranking, best)} {than}", other.estimator, ", ".join(details))


def _in_words(ratio: Ratio, less: str, other: str, setting: str = "") -> AdviceLine:
    settled = round(ratio.low, 2) > 1.0  # as it is printed
    note = "" if ratio.sure else "not paired, or from a flagged variance"
    text = numbers.times(ratio.value, ratio.low, ratio.high)
    if settled:
        return AdviceLine(text, less, other, setting, True, ratio, note)
    text = text.replace("×", "", 1)
    return AdviceLine(text, "no significant difference from", other, setting, False, ratio, note)


def _measure(ranking: Ranking, best: Result) -> str:
    if best["variance"] == 0.0:
        return "seconds" if ranking.timed else "evaluations"
    return "variance × seconds" if ranking.timed else "variance at equal evaluations"


def _backends(ranking: Ranking, best: Result) -> list[AdviceLine]:
    """Return the comparisons of an estimator on its backend with itself on every other backend, each at its best S."""
    columns = varying(ranking.ranked, SIDE)
    found = []
    for members in ranking.sides[1:]:
        same = next((r for r in members if r.estimator == best.estimator), None)
        ratio = None if same is None else ranking.against(same, best)
        if same is not None and ratio is not None:
            setting = _samples(same) if same["num_samples"] != best["num_samples"] else ""
            less = f"less {_measure(ranking, best)} than on"
            found.append(_in_words(ratio, less, same.context(columns), setting))
    return found


def _winners(ranking: Ranking, best: Result) -> list[str]:
    """Return the backends on which another estimator is significantly better."""
    columns = varying(ranking.ranked, SIDE)
    found: dict[str, list[str]] = {}
    for members in ranking.sides[1:]:
        first, same = members[0], next((r for r in members if r.estimator == best.estimator), None)
        ratio = None if same is None or same is first else ranking.against(same, first)
        if same is None or (ratio is not None and round(ratio.low, 2) > 1.0):
            found.setdefault(first.estimator, []).append(first.context(columns))
    return [f"on {' and '.join(sides)} the best is {estimator}" for estimator, sides in found.items()]


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
        found.append(ALONE)
    return found + _winners(ranking, best)


def _why_nothing(ranking: Ranking) -> str:
    if ranking.unranked:
        return (
            "nothing to recommend: every estimator measured is biased, not timed, or of a variance that has no estimate"
        )
    if ranking.controls:
        return "nothing to recommend: only injected bugs were measured here"
    return "nothing to recommend: nothing could be measured here"
