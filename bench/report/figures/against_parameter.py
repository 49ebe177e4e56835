"""Variance against a parameter of the problem, as in figures 2 and 3 of Mohamed et al. 2020."""

from __future__ import annotations

from gradmeter.bench.drawing import curves
from gradmeter.bench.drawing.curves import Curve
from gradmeter.bench.drawing.figure import Figure, Panel, fill, fill_words, identifier
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.reading.results import CONTEXT, Result, varying
from gradmeter.bench.report import reproduce
from gradmeter.bench.report.sweeps import Sweep
from gradmeter.bench.rows import ALL

WIDE = 20.0


def figure(sweep: Sweep, styles: dict[str, Style]) -> Figure | None:
    """Return a figure with a panel for each parameter block; None where no estimator was measured at two values."""
    points = [(value, r) for value, ranking in sweep.points for r in (*ranking.ranked, *ranking.unranked)]
    results = [r for _, r in points]
    context = varying(results, (*CONTEXT, "num_samples"))
    blocks = sorted({b for r in results for b in r.blocks if b != ALL})
    values = [value for value, _ in points]
    log_x = bool(values) and min(values) > 0.0 and max(values) / min(values) >= WIDE
    panels, key, zeros, drawn_results = [], {}, 0, []
    for block in blocks:
        found, members = _curves(points, block, context, styles)
        zeros += sum(1 for _, r in points if block in r.blocks and r.blocks[block]["variance"] == 0.0)
        if not found:
            continue
        drawn_results += members
        name = identifier("parameter", sweep.title, sweep.machine, block)
        title = f"∂{block}"
        width = curves.width_of(len(blocks))
        drawn, unlabelled = curves.panel(name, found, title, sweep.option, "variance", log_x, width=width)
        key.update({c.label: c.look for c in unlabelled})
        panels.append(Panel(drawn, f"Variance of the estimates of {block} against {sweep.option}, log scale"))
    if not panels:
        return None
    caption = (
        "Variance of one estimate, summed over the coordinates of the parameter block; bars are 95 % intervals, "
        "mostly shorter than the markers." + fill_words(drawn_results)
    )
    if "backend" in context:
        caption += " Where the backends of an estimator agree within their intervals, they are one line."
    if zeros:
        caption += " A 0 at the foot marks a variance of 0, which has no place on a log axis."
    title = f"Variance against {sweep.option}: {sweep.problem}" + (f"[{sweep.fixed}]" if sweep.fixed else "")
    return Figure(
        title, caption, panels, reproduce.commands({id(r): r for r in drawn_results}.values()), list(key.items())
    )


def _curves(
    points: list[tuple[float, Result]], block: str, context: tuple[str, ...], styles: dict[str, Style]
) -> tuple[list[Curve], list[Result]]:
    """Return the curves of at least two points, and their cells."""
    found: dict[str, tuple[Curve, list[Result]]] = {}
    for value, result in sorted(points, key=lambda p: p[0]):
        row = result.blocks.get(block)
        if row is None or row["variance"] is None:
            continue
        label = result.estimator + (f" · {result.context(context)}" if context else "")
        curve, members = found.setdefault(label, (Curve(label, styles[result.estimator], fill(result)), []))
        members.append(result)
        curve.add(value, row["variance"], row["variance_low"], row["variance_high"])
    kept = [pair for pair in found.values() if len(pair[0].x) >= 2]
    groups: dict[str, list[Curve]] = {}
    for curve, members in kept:
        rest = members[0].context([c for c in context if c != "backend"])
        groups.setdefault(members[0].estimator + (f" · {rest}" if rest else ""), []).append(curve)
    return curves.folded(groups), [r for _, members in kept for r in members]
