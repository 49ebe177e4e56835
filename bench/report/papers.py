"""The claims of papers that a store decides, and the regime maps of their suites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradmeter.bench.drawing.figure import Figure
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.reading.judging import (
    CONTRADICTED,
    NOT_MEASURED,
    REPRODUCED,
    UNDECIDED,
    Fits,
    Judged,
    judge,
    notes,
)
from gradmeter.bench.reading.regimes import chart
from gradmeter.bench.reading.results import Result
from gradmeter.bench.report.figures import regimes
from gradmeter.bench.sweep import suites
from gradmeter.bench.sweep.claims import spelled
from gradmeter.bench.sweep.suites import Suite

HEADINGS = ("outcome", "claim", "measured")
SYMBOLS = {REPRODUCED: "●", CONTRADICTED: "✗", UNDECIDED: "○", NOT_MEASURED: "–"}
#: The colours of outcomes are those of verdicts.
_CLASSES = ("unbiased", "biased", "inconclusive", "no-reference")
NOTE = (
    "A claim is reproduced if every 95 % interval that it rests on lies within it, contradicted if one lies outside, "
    "and undecided otherwise. A claim about data that are not bundled is not measured."
)


@dataclass
class Paper:
    """The claims of one suite and its maps."""

    suite: str
    title: str
    judged: list[Judged]
    maps: list[Figure]

    @property
    def lines(self) -> list[tuple[str, str, list[str]]]:
        """Outcome, claim and notes, one a claim."""
        return [(j.status, _said(j), [f"{w}: {t}" if w != "measured" else t for w, t in notes(j)]) for j in self.judged]


def _said(judged: Judged) -> str:
    return judged.claim.says + (f" ({judged.claim.place})" if judged.claim.place else "")


def papers(results: Sequence[Result], look: dict[str, Style]) -> list[Paper]:
    """Return the bundled papers whose cells are all among the results; call it where figures are styled."""
    known = {_identity(r) for r in results}
    found = suites.with_claims({r["problem"] for r in results})
    return [compose(suite, results, look) for suite in found if _cells(suite) <= known]


def compose(suite: Suite, results: Sequence[Result], look: dict[str, Style], fits: Fits | None = None) -> Paper:
    """Judge the claims of a suite by the results of its own cells, and draw its maps.

    Parameters
    ----------
    suite
        Suite to judge.
    results
        Results of a store.
    look
        Colours and markers by estimator.
    fits
        That of `judging.judge`.
    """
    cells = _cells(suite)
    own = [r for r in results if _identity(r) in cells]
    charts = [chart(regime, own) for regime in suite.regimes]
    maps = [regimes.figure(each, look) for each in charts if each is not None]
    return Paper(suite.name, suite.paper or suite.name, [judge(claim, own, fits) for claim in suite.claims], maps)


def _cells(suite: Suite) -> set[tuple[Any, ...]]:
    return {
        (spelled(c.problem), spelled(c.estimator), c.backend, c.device, c.dtype, c.num_samples, c.seed)
        for c in suite.cells
    }


def _identity(result: Result) -> tuple[Any, ...]:
    columns = ("backend", "device", "dtype", "num_samples", "seed")
    return result.problem, result.estimator, *(result[c] for c in columns)


def summary(found: Sequence[Paper]) -> str:
    """Return the number of papers and of claims by outcome, in words."""
    counts = Counter(j.status for p in found for j in p.judged)
    named = sum(bool(p.judged) for p in found)
    if not named:
        return ""
    return (
        f"{named} paper{'s' if named > 1 else ''}: " + ", ".join(f"{counts[s]} {s}" for s in SYMBOLS if counts[s]) + "."
    )


def words() -> dict[str, Any]:
    """Return what the template of claims needs."""
    return {
        "claim_headings": HEADINGS,
        "claim_note": NOTE,
        "outcome_symbols": SYMBOLS,
        "outcome_classes": dict(zip(SYMBOLS, _CLASSES, strict=True)),
    }
