"""Regime maps: at every point of two axes the estimator of the lowest variance × cost, and whether that is certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradmeter.bench.reading.judging import axis_value, matches
from gradmeter.bench.reading.ratios import Ratio, time_ratio, variance_ratio
from gradmeter.bench.reading.results import Result
from gradmeter.bench.sweep.claims import Regime


@dataclass(frozen=True)
class Winner:
    """The best of the estimators at one point.

    Attributes
    ----------
    label : its name, with S where that is no axis and differs between the cells.
    lead : by how much the next one has more variance × cost; None where a variance is 0.
    certain : whether the 95 % intervals against all others exclude 1.
    """

    label: str
    lead: float | None
    certain: bool


@dataclass
class Map:
    """A map over the values of both axes.

    Attributes
    ----------
    timed : whether the cost is seconds; evaluations of f otherwise.
    """

    regime: Regime
    xs: list[float]
    ys: list[float]
    winners: dict[tuple[float, float], Winner]
    results: list[Result]
    timed: bool

    @property
    def labels(self) -> list[str]:
        return sorted({w.label for w in self.winners.values()})


def chart(regime: Regime, results: Sequence[Result]) -> Map | None:
    """Return the map of a regime; None where fewer than two values of an axis were measured."""
    own = [r for r in results if r["problem"] == regime.problem and r.measured and regime.block in r.blocks]
    chosen = [r for r in own if matches(r, regime.of)]
    points: dict[tuple[float, float], list[Result]] = {}
    for r in chosen:
        x, y = axis_value(r, regime.x), axis_value(r, regime.y)
        if x is not None and y is not None:
            points.setdefault((x, y), []).append(r)
    points = {place: members for place, members in points.items() if len(members) > 1}
    xs, ys = (sorted({place[i] for place in points}) for i in (0, 1))
    if len(xs) < 2 or len(ys) < 2:
        return None
    members = [r for several in points.values() for r in several]
    timed = all(r.timed for r in members)
    several = "samples" not in (regime.x, regime.y) and len({r["num_samples"] for r in members}) > 1
    winners = {place: _winner(regime, several, members, timed) for place, members in points.items()}
    return Map(regime, xs, ys, winners, members, timed)


def _winner(regime: Regime, several: bool, members: Sequence[Result], timed: bool) -> Winner:
    best = min(members, key=lambda r: _work(regime, r, timed))
    ratios = [_ratio(regime, other, best, timed) for other in members if other is not best]
    label = best.estimator + (f" · S={best['num_samples']}" if several else "")
    known = [r for r in ratios if r is not None]
    alone = _work(regime, best, timed) == 0.0 and all(_work(regime, r, timed) for r in members if r is not best)
    certain = alone or (len(known) == len(ratios) and all(r.low > 1.0 for r in known))
    return Winner(label, min((r.value for r in known), default=None) if len(known) == len(ratios) else None, certain)


def _work(regime: Regime, result: Result, timed: bool) -> float:
    return float(
        (result.blocks[regime.block]["variance"] or 0.0) * (result["seconds" if timed else "evaluations"] or 1)
    )


def _ratio(regime: Regime, other: Result, best: Result, timed: bool) -> Ratio | None:
    variance = variance_ratio(other, best, regime.block)
    if variance is None or timed:
        time = time_ratio(other, best)
        return variance * time if variance is not None and time is not None else None
    return variance.scaled((other["evaluations"] or 1) / (best["evaluations"] or 1))
