"""A map of two axes: the estimator of the lowest variance × cost or error, hatched where that is not certain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gradmeter.bench.drawing import plotting
from gradmeter.bench.drawing.figure import Figure, Panel, identifier
from gradmeter.bench.drawing.style import INK, PAPER, Style, styles
from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.regimes import Map
from gradmeter.bench.report import reproduce

#: Pixels of one point of the map.
WIDE, HIGH = 62.0, 40.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 16.0, 26.0, 44.0


def figure(chart: Map, look: dict[str, Style]) -> Figure:
    """Return the figure of one map; `look` has the colours of estimators, and others are added for other labels."""
    regime = chart.regime
    look = {**styles(chart.labels), **{name: look[name] for name in chart.labels if name in look}}
    name = identifier("regime", regime.question, *chart.xs, *chart.ys)
    width, height = LEFT + WIDE * len(chart.xs) + RIGHT, TOP + HIGH * len(chart.ys) + BOTTOM
    drawing, axes = plotting.panel(width, height, LEFT, RIGHT, TOP, BOTTOM)
    axes.set_xlim(0.0, len(chart.xs))
    axes.set_ylim(0.0, len(chart.ys))
    axes.grid(visible=False)
    for (x, y), winner in chart.winners.items():
        _point(axes, chart.xs.index(x), chart.ys.index(y), look[winner.label], winner.certain, winner.lead)
    if not math.isnan(regime.boundary):
        _boundary(axes, position(regime.boundary, chart.xs), len(chart.ys), regime.formula)
    axes.set_xticks([i + 0.5 for i in range(len(chart.xs))], [f"{v:g}" for v in chart.xs])
    axes.set_yticks([i + 0.5 for i in range(len(chart.ys))], [f"{v:g}" for v in chart.ys])
    axes.tick_params(length=0.0)
    axes.set_xlabel(_axis(regime.x))
    axes.set_ylabel(_axis(regime.y))
    cost = "seconds" if chart.timed else "evaluations of f"
    least = "mean squared error of an estimate, bias² + variance" if regime.by == "error" else f"variance × {cost}"
    caption = (
        f"The estimator of the lowest {least}"
        + (f" for {regime.block}" if regime.block != "all" else "")
        + ", and by how much the next one has more; no number where it has none."
        + " Hatched where a 95 % interval includes 1."
        + (f" The dashed line is exact: {regime.formula}." if regime.formula else "")
        + (f" {regime.answer}" if regime.answer else "")
    )
    panel = Panel(plotting.svg(drawing, name), f"Map of the best estimator over {regime.x} and {regime.y}")
    key = [(label, look[label]) for label in chart.labels]
    return Figure(regime.question, caption, [panel], reproduce.commands(chart.results), key)


def _axis(name: str) -> str:
    return "S, samples in an estimate" if name == "samples" else name


def _point(axes: Any, column: int, row: int, look: Style, certain: bool, lead: float | None) -> None:
    from matplotlib.patches import Rectangle

    box: dict[str, Any] = {"xy": (column, row), "width": 1.0, "height": 1.0, "linewidth": 1.0, "edgecolor": PAPER}
    axes.add_patch(Rectangle(**box, facecolor=look.colour, alpha=0.45))
    if not certain:
        hatched = {**box, "edgecolor": INK, "linewidth": 0.0}
        axes.add_patch(Rectangle(**hatched, facecolor="none", hatch="////", alpha=0.5))
    axes.plot([column + 0.5], [row + 0.68], marker=look.marker, color=look.colour, markersize=7.0, linestyle="")
    text = "" if lead is None else numbers.times(lead) if lead < 1e6 else "> 1e6×"
    axes.text(column + 0.5, row + 0.25, text, ha="center", va="center", fontsize=plotting.SMALL)


def _boundary(axes: Any, at: float, rows: int, formula: str) -> None:
    axes.plot([at, at], [0.0, rows], color=INK, linewidth=1.6, linestyle="--")
    axes.text(at, rows + 0.08, formula, ha="center", va="bottom", fontsize=plotting.SMALL)


def position(value: float, ticks: Sequence[float]) -> float:
    """Return where a value lies on an axis whose ticks stand in the middle of cells of width 1."""
    last = len(ticks) - 1
    after = next((i for i, tick in enumerate(ticks) if tick > value), last)
    i = max(0, min(after - 1, last - 1))
    return min(max(i + 0.5 + (value - ticks[i]) / (ticks[i + 1] - ticks[i]), 0.0), float(len(ticks)))
