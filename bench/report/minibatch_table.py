"""The parts of a minibatch's variance in a ranking's cells, as text."""

from __future__ import annotations

from gradmeter.bench.measurement.decomposition import Part, Parts, from_series
from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.results import CONTEXT, Result, varying
from gradmeter.bench.report.ranking import Ranking

HEADINGS = ("estimator", "S", "samples of z", "minibatch", "sum", "whole", "minibatch share")


def measured(ranking: Ranking) -> list[tuple[Result, Parts]]:
    """Return the cells whose parts are known, by estimator and S."""
    results = sorted((*ranking.ranked, *ranking.unranked), key=lambda r: (r.estimator, r["num_samples"] or 0))
    return [(r, parts) for r in results if (parts := from_series(r.series)) is not None]


def table(ranking: Ranking) -> tuple[list[str], list[list[str]]]:
    """Return headings and lines, one line for each cell; no lines where nothing was split."""
    found = measured(ranking)
    context = varying([r for r, _ in found], CONTEXT)
    headings = [HEADINGS[0], *context, *HEADINGS[1:]]
    return headings, [
        [r.estimator, *(r.text(c) for c in context), numbers.count(r["num_samples"]), *cells(parts)]
        for r, parts in found
    ]


def cells(parts: Parts) -> list[str]:
    """Return the entries below the headings from `samples of z` on."""
    total = parts.total.value
    whole = _text(parts.total) + ("" if parts.sure else " unreliable")
    return [
        _text(parts.sampling),
        _text(parts.minibatch),
        numbers.significant(parts.sum) + ("" if parts.add_up else " ✗ not the whole"),
        whole,
        numbers.percent(max(0.0, parts.minibatch.value) / total) if total > 0.0 else "–",
    ]


def _text(part: Part) -> str:
    return f"{numbers.significant(part.value)} {numbers.interval(part.low, part.high)}"
