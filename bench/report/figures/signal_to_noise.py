"""Signal-to-noise ratio ‖∇L‖/√variance against K, the importance samples of a bound, with slopes at large K.

As Rainforth et al. 2018 and Tucker et al. 2019 plot it, in place of the variance: with K the gradient itself changes,
so a variance says little.
"""

from __future__ import annotations

import math

from gradmeter.bench.drawing import curves, style
from gradmeter.bench.drawing.curves import Curve
from gradmeter.bench.drawing.figure import Figure, Panel, fill, fill_words, identifier
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.reading import numbers, slopes
from gradmeter.bench.reading.results import CONTEXT, Result, varying
from gradmeter.bench.reading.slopes import Slope
from gradmeter.bench.report import reproduce
from gradmeter.bench.report.sweeps import Sweep
from gradmeter.bench.rows import ALL

OPTION = "importance-samples"


def figure(sweep: Sweep, styles: dict[str, Style]) -> Figure | None:
    """Return a figure with a panel for each parameter block.

    Return None where K does not vary, or no ratio is known at two values of K.
    """
    if sweep.option != OPTION:
        return None
    points, context = _points(sweep)
    panels, key = [], {}
    for block in _blocks(points):
        found = _curves(points, block, context, styles)
        if not found:
            continue
        for curve in found:
            line = _line(curve, _first(sweep))
            curve.label += f"\n{numbers.slope_text(line)}" if line else ""
        name = identifier("signal-to-noise", sweep.title, sweep.machine, block)
        drawn, unlabelled = curves.panel(
            name,
            found,
            f"∂{block}",
            "K, importance samples",
            "signal-to-noise ratio",
            log_x=True,
            width=curves.width_of(len(_blocks(points))),
            write_x=lambda k: numbers.count(round(k)),
        )
        key.update({c.label.replace("\n", " · "): c.look for c in unlabelled})
        panels.append(Panel(drawn, f"Signal-to-noise ratio of the estimates of {block} against K, log-log"))
    if not panels:
        return None
    results = [r for _, r in points]
    caption = (
        "The exact gradient's norm over the standard deviation of one estimate, for the whole parameter block. Beside "
        f"each name the slope for K ≥ {_first(sweep):g}, fitted on log-log axes, with its 95 % interval; biased "
        "estimators are left out." + fill_words(results)
    )
    title = f"Signal-to-noise ratio against K: {sweep.problem}" + (f"[{sweep.fixed}]" if sweep.fixed else "")
    commands = reproduce.commands(results)
    return Figure(title, caption, panels, commands, list(key.items()))


def slopes_of(sweep: Sweep) -> dict[str, list[tuple[str, Slope]]]:
    """Return the name and the slope of each estimator, by parameter block; nothing where K does not vary."""
    if sweep.option != OPTION:
        return {}
    points, context = _points(sweep)
    look = style.styles(r.estimator for _, r in points)
    found = {block: _curves(points, block, context, look) for block in _blocks(points)}
    return {
        block: [(curve.label, line) for curve in several if (line := _line(curve, _first(sweep))) is not None]
        for block, several in found.items()
    }


def _points(sweep: Sweep) -> tuple[list[tuple[float, Result]], tuple[str, ...]]:
    """Return pairs (K, cell) of the cells that are not biased, by K, and the columns in which cells differ."""
    points = [(k, r) for k, ranking in sweep.points for r in (*ranking.ranked, *ranking.unranked)]
    points = sorted(((k, r) for k, r in points if r["verdict"] != "biased"), key=lambda p: p[0])
    return points, varying([r for _, r in points], (*CONTEXT, "num_samples"))


def _blocks(points: list[tuple[float, Result]]) -> list[str]:
    return sorted({b for _, r in points for b in r.blocks if b != ALL})


def _first(sweep: Sweep) -> float:
    """Return the smallest K that slopes are fitted from.

    They are slopes at large K: in the upper half of a log axis, or of the three largest K if these are more.
    """
    counts = [k for k, _ in sweep.points]
    upper = [k for k in counts if k * k >= counts[0] * counts[-1]]
    return min(upper[0], counts[-min(3, len(counts))])


def _curves(
    points: list[tuple[float, Result]], block: str, context: tuple[str, ...], styles: dict[str, Style]
) -> list[Curve]:
    found: dict[str, Curve] = {}
    for count, result in points:
        row = result.blocks.get(block)
        if row is None or not row["snr"] or not row["variance"]:
            continue
        label = result.estimator + (f" · {result.context(context)}" if context else "")
        curve = found.setdefault(label, Curve(label, styles[result.estimator], fill(result)))
        low, high = (
            row["snr"] * math.sqrt(row["variance"] / row[end]) if row[end] else None
            for end in ("variance_high", "variance_low")
        )
        curve.add(count, row["snr"], low, high)
    return [curve for curve in found.values() if len(curve.x) >= 2]


def _line(curve: Curve, first: float) -> Slope | None:
    start = sum(k < first for k in curve.x)
    return slopes.fit(curve.x[start:], curve.y[start:], curve.low[start:], curve.high[start:])
