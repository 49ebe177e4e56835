"""The same cell on several backends: seconds and variance, relative to one of them."""

from __future__ import annotations

from gradmeter.bench.drawing.figure import Figure, Panel, fill, identifier
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.ratios import Ratio, time_ratio, variance_ratio
from gradmeter.bench.reading.results import Result, varying
from gradmeter.bench.report import reproduce
from gradmeter.bench.report.figures import rows
from gradmeter.bench.report.figures.rows import Line, Mark
from gradmeter.bench.report.ranking import Ranking

_SAME = ("dtype", "num_samples", "seed", "noise")


def figure(ranking: Ranking, styles: dict[str, Style]) -> Figure | None:
    """Return the figure; None where no cell was measured on two backends or devices."""
    results = [r for r in (*ranking.ranked, *ranking.unranked) if r["variance"]]
    sides = sorted({_side(r, results) for r in results}, key=lambda s: (not s.startswith("numpy"), s))
    groups: dict[tuple[object, ...], dict[str, Result]] = {}
    for result in results:
        key = (result.estimator, *(result[c] for c in _SAME))
        groups.setdefault(key, {})[_side(result, results)] = result
    groups = {k: v for k, v in groups.items() if len(v) >= 2}
    if not groups:
        return None
    members = [r for group in groups.values() for r in group.values()]
    apart = varying(members, _SAME)
    seconds: list[Line] = []
    variance: list[Line] = []
    for group in groups.values():
        side = next(s for s in sides if s in group)
        base, look = group[side], styles[group[side].estimator]
        label = base.estimator + _details(base, apart)
        for lines, measure in ((seconds, time_ratio), (variance, variance_ratio)):
            marks = [_mark(other, group[other], measure(group[other], base), look) for other in group if other != side]
            marks = [m for m in marks if m is not None]
            if marks:
                lines.append(Line(label, [m for m in marks if m is not None]))
    base_side = sides[0]
    panels = []
    for lines, what in ((seconds, "seconds"), (variance, "variance")):
        if lines:
            name = identifier("backends", ranking.problem, ranking.machine, what)
            drawn = rows.panel(name, lines, f"{what}, relative to {base_side}")
            panels.append(Panel(drawn, f"{what.capitalize()} on each backend relative to {base_side}"))
    if not panels:
        return None
    caption = (
        f"Ratios with 95 % intervals, relative to {base_side} where it ran; left of the line is less. Variance should "
        "agree up to noise: the backends draw different random numbers."
    )
    return Figure("Backends side by side", caption, panels, reproduce.commands(members))


def _side(result: Result, all_of_them: list[Result]) -> str:
    device = f" {result['device']}" if varying(all_of_them, ("device",)) else ""
    return f"{result['backend']}{device}"


def _details(result: Result, apart: tuple[str, ...]) -> str:
    return f" {result.context(apart)}" if apart else ""


def _mark(side: str, result: Result, ratio: Ratio | None, look: Style) -> Mark | None:
    if ratio is None:
        return None
    return Mark(ratio, look, fill(result), f"{side} {numbers.times(ratio.value, ratio.low, ratio.high)}")
