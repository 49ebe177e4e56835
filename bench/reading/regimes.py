"""Regime maps: at every point of two axes the best estimator, and whether that is certain.

The best one has the lowest variance × cost, or the lowest mean squared error ‖E ĝ − g‖² + variance of an estimate,
which is fair to biased estimators at the same number of samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from gradmeter.bench.reading import names
from gradmeter.bench.reading.judging import Interval, axis_value, matches
from gradmeter.bench.reading.ratios import Ratio, time_ratio, variance_ratio
from gradmeter.bench.reading.results import Result
from gradmeter.bench.sweep.claims import Regime


@dataclass(frozen=True)
class Winner:
    """The best of the estimators at one point.

    Attributes
    ----------
    label : its name, without options that are axes, with S where that is no axis and differs between the cells.
    lead : by how much the next one has more variance × cost, or error; None where one of them has none.
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
    """Return the map of a regime; None where fewer than two values of an axis were measured.

    An estimator without an axis among its options, such as one without a temperature, competes at every value of it.
    """
    own = [r for r in results if r["problem"] == regime.problem and r.measured and regime.block in r.blocks]
    chosen = [r for r in own if matches(r, regime.of)]
    if regime.by == "error":
        chosen = [r for r in chosen if _error(regime, r) is not None]
    places = [(axis_value(r, regime.x), axis_value(r, regime.y)) for r in chosen]
    listed = [sorted({v for v in axis if v is not None}) for axis in zip(*places, strict=True)]
    points: dict[tuple[float, float], list[Result]] = {}
    for r, place in zip(chosen, places, strict=True):
        x, y = (values if at is None else [at] for at, values in zip(place, listed, strict=True))
        for point in itertools.product(x, y):
            points.setdefault(point, []).append(r)
    points = {point: members for point, members in points.items() if len(members) > 1}
    xs, ys = (sorted({point[i] for point in points}) for i in (0, 1))
    if len(xs) < 2 or len(ys) < 2:
        return None
    shown = {id(r) for several in points.values() for r in several}
    members = [r for r in chosen if id(r) in shown]
    timed = all(r.timed for r in members)
    several = "samples" not in (regime.x, regime.y) and len({r["num_samples"] for r in members}) > 1
    winners = {point: _winner(regime, several, competing, timed) for point, competing in points.items()}
    return Map(regime, xs, ys, winners, members, timed)


def _winner(regime: Regime, several: bool, members: Sequence[Result], timed: bool) -> Winner:
    best = min(members, key=lambda r: _size(regime, r, timed))
    ratios = [_ratio(regime, other, best, timed) for other in members if other is not best]
    known = [r for r in ratios if r is not None]
    alone = _size(regime, best, timed) == 0.0 and all(_size(regime, r, timed) for r in members if r is not best)
    certain = alone or (len(known) == len(ratios) and all(r.low > 1.0 for r in known))
    lead = min((r.value for r in known), default=None) if len(known) == len(ratios) else None
    return Winner(_label(regime, best, several), lead, certain)


def _label(regime: Regime, best: Result, several: bool) -> str:
    own = [axis for axis in (regime.x, regime.y) if axis in best["estimator_options"]]
    name = names.estimator_text(best.row, own) if own else best.estimator
    return name + (f" · S={best['num_samples']}" if several else "")


def _size(regime: Regime, result: Result, timed: bool) -> float:
    """Return what the winner has least of."""
    if regime.by == "error":
        error = _error(regime, result)
        return 0.0 if error is None else error[0]
    cost = result["seconds" if timed else "evaluations"] or 1
    return float((result.blocks[regime.block]["variance"] or 0.0) * cost)


def _error(regime: Regime, result: Result) -> Interval | None:
    """Return the mean squared error of an estimate with its interval; None where the bias is not known."""
    row = result.blocks[regime.block]
    norm = row["exact_norm"]
    ends = [(row[f"bias{end}"], row[f"variance{end}"]) for end in ("", "_low", "_high")]
    if norm is None or row["bias_scale"] == "deviation" or any(b is None or v is None for b, v in ends):
        return None
    value, low, high = ((b * norm) ** 2 + v for b, v in ends)
    return value, low, high


def _ratio(regime: Regime, other: Result, best: Result, timed: bool) -> Ratio | None:
    if regime.by == "error":
        above, below = _error(regime, other), _error(regime, best)
        if above is None or below is None or not above[1] or not below[1]:
            return None
        return Ratio(*above) * Ratio(1.0 / below[0], 1.0 / below[2], 1.0 / below[1])
    variance = variance_ratio(other, best, regime.block)
    if variance is None or timed:
        time = time_ratio(other, best)
        return variance * time if variance is not None and time is not None else None
    return variance.scaled((other["evaluations"] or 1) / (best["evaluations"] or 1))
