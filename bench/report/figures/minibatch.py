"""The two parts of a minibatch's variance against S: that of the samples falls, that of the minibatch does not."""

from __future__ import annotations

from gradmeter.bench.drawing import curves
from gradmeter.bench.drawing.curves import Curve
from gradmeter.bench.drawing.figure import Figure, Panel, fill, fill_words, identifier
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.measurement.decomposition import Part, Parts
from gradmeter.bench.reading.results import CONTEXT, Result, varying
from gradmeter.bench.report import minibatch_table, reproduce
from gradmeter.bench.report.ranking import Ranking

FEWEST = 2


def figure(ranking: Ranking, styles: dict[str, Style]) -> Figure | None:
    """Return a figure with a panel for each part; None where no estimator has parts at two values of S."""
    found = minibatch_table.measured(ranking)
    context = varying([r for r, _ in found], CONTEXT)
    groups: dict[str, list[tuple[Result, Parts]]] = {}
    for result, known in found:
        label = result.estimator + (f" · {result.context(context)}" if context else "")
        groups.setdefault(label, []).append((result, known))
    groups = {k: v for k, v in groups.items() if len({r["num_samples"] for r, _ in v}) >= FEWEST}
    if not groups:
        return None
    panels, key = [], {}
    for part, title in (("sampling", "of the samples of z"), ("minibatch", "of the minibatch")):
        drawn = [_curve(label, members, part, styles) for label, members in groups.items()]
        name = identifier("parts", ranking.problem, ranking.machine, part)
        svg, unlabelled = curves.panel(
            name, drawn, title, "S, samples in an estimate", "variance", log_x=True, width=curves.width_of(2)
        )
        key.update({c.label: c.look for c in unlabelled})
        panels.append(Panel(svg, f"Part of the variance {title} against S, log-log"))
    members = [r for group in groups.values() for r, _ in group]
    caption = (
        "Var ĝ = E[Var(ĝ | minibatch)] + Var(E[ĝ | minibatch]), each measured. More samples of z make the first "
        "smaller, as 1/S where they are independent; only a larger batch makes the second smaller."
        + fill_words(members)
    )
    commands = reproduce.commands(members, "--minibatch-parts")
    return Figure("Sampling and minibatch parts", caption, panels, commands, list(key.items()))


def _curve(label: str, members: list[tuple[Result, Parts]], part: str, styles: dict[str, Style]) -> Curve:
    first = members[0][0]
    curve = Curve(label, styles[first.estimator], fill(first))
    for result, known in members:
        found: Part = getattr(known, part)
        curve.add(float(result["num_samples"]), max(0.0, found.value), found.low, found.high)
    return curve
