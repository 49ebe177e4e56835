"""Variance against S, the samples in one estimate, with fitted slopes: −1 where samples are averaged."""

from __future__ import annotations

import math

from gradmeter.bench.drawing import curves
from gradmeter.bench.drawing.curves import Curve
from gradmeter.bench.drawing.figure import Figure, Panel, fill, fill_words, identifier
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.reading import slopes
from gradmeter.bench.reading.numbers import slope_text
from gradmeter.bench.reading.results import CONTEXT, Result, varying
from gradmeter.bench.report import reproduce
from gradmeter.bench.report.ranking import Ranking

FEWEST = 3


def figure(ranking: Ranking, styles: dict[str, Style]) -> Figure | None:
    """Return a figure with one panel; None where no estimator has a positive variance at three values of S."""
    results = [r for r in (*ranking.ranked, *ranking.unranked) if r["variance"] and r["num_samples"]]
    context = varying(results, CONTEXT)
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in sorted(results, key=lambda r: r["num_samples"]):
        groups.setdefault((result.estimator, result.context(context)), []).append(result)
    groups = {k: v for k, v in groups.items() if len({r["num_samples"] for r in v}) >= FEWEST}
    if not groups:
        return None
    found = [_curve(estimator, apart, members, styles[estimator]) for (estimator, apart), members in groups.items()]
    name = identifier("samples", ranking.problem, ranking.machine)
    drawn, unlabelled = curves.panel(
        name, found, "", "S, samples in an estimate", "variance", log_x=True, width=curves.width_of(2)
    )
    members = [r for group in groups.values() for r in group]
    caption = (
        "Beside each name the slope fitted on log-log axes with its 95 % interval; −1 means that twice the samples "
        "halve the variance." + fill_words(members)
    )
    panel = Panel(drawn, "Variance against the number of samples S, log-log, with fitted lines")
    key = [(c.label.replace("\n", " · "), c.look) for c in unlabelled]
    return Figure("Variance against S", caption, [panel], reproduce.commands(members), key)


def _curve(estimator: str, apart: str, members: list[Result], look: Style) -> Curve:
    curve = Curve(estimator + (f" · {apart}" if apart else ""), look, fill(members[0]))
    for r in members:
        curve.add(float(r["num_samples"]), r["variance"], r["variance_low"], r["variance_high"])
    line = slopes.fit(curve.x, curve.y, curve.low, curve.high)
    if line is not None:
        curve.label += f"\n{slope_text(line)}"
        intercept, slope = line.intercept, line.value
        curve.line = lambda x: math.exp(intercept) * x**slope
    return curve
