"""A panel of curves on a log scale, each with intervals and a label at its end."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gradmeter.bench.drawing import plotting
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.reading import numbers

MOST_LABELS = 12
#: Largest distance of a label from the end of its curve, in pixels; beyond it a legend replaces all labels.
FURTHEST_LABEL = 36.0
#: Width of the page, the gap between panels, and the least width of a panel, in pixels.
PAGE, GAP, NARROWEST = 1180.0, 24.0, 400.0
#: Largest factor that an interval may extend, since it may be unbounded.
FURTHEST = 1e3


@dataclass
class Curve:
    """The points of one estimator, in ascending x.

    Attributes
    ----------
    low, high
        Ends of the intervals of y.
    zeros
        x at which y is 0 and has no place on a log axis: the line is broken there, and a 0 is written at the foot.
    line
        Function drawn as a line, instead of joining the points.
    marked
        Every how many points there is a marker.
    """

    label: str
    look: Style
    fill: str = "full"
    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    zeros: list[float] = field(default_factory=list)
    line: Callable[[float], float] | None = None
    marked: int = 1

    def add(self, x: float, y: float, low: float | None, high: float | None) -> None:
        if y == 0.0:
            self.zeros.append(x)
            return
        self.x.append(x)
        self.y.append(y)
        self.low.append(y if low is None else max(low, y / FURTHEST))
        self.high.append(y if high is None else min(high, y * FURTHEST))

    def stretches(self) -> list[tuple[list[float], list[float]]]:
        """Return the points, split where y is 0."""
        found: dict[int, tuple[list[float], list[float]]] = {}
        for x, y in zip(self.x, self.y, strict=True):
            xs, ys = found.setdefault(sum(zero < x for zero in self.zeros), ([], []))
            xs.append(x)
            ys.append(y)
        return list(found.values())


def width_of(count: int) -> float:
    """Return the width of each of several panels side by side that fill the page."""
    return max(NARROWEST, (PAGE - GAP * (count - 1)) / count)


def panel(
    name: str,
    curves: list[Curve],
    title: str,
    x_label: str,
    y_label: str,
    log_x: bool,
    *,
    log_y: bool = True,
    named: bool = True,
    left: float = 74.0,
    width: float = NARROWEST,
    write_x: Callable[[float], str] = numbers.significant,
) -> tuple[str, list[Curve]]:
    """Draw a panel; return it as SVG, with the curves that are not labelled, which a legend must name.

    Parameters
    ----------
    width
        Least width of the panel.
    named
        Whether curves are labelled at their ends; a panel beside a labelled one need not repeat the labels.
    left
        Width of what is written left of the axes.
    write_x
        Formats a number on a logarithmic x axis.
    """
    labelled = curves if named and len(curves) <= MOST_LABELS else []
    texts = {id(c): plotting.wrapped(c.label) for c in labelled}
    if _collide(labelled, texts, log_y):
        labelled, texts = [], {}
    right = max([plotting.text_width(t) for t in texts.values()], default=0.0) + (26.0 if labelled else 10.0)
    height = max(290.0, 80.0 + sum(plotting.text_height(t) + 3.0 for t in texts.values()))
    width = max(width, left + 205.0 + right) if named else left + 245.0 + right
    figure, axes = plotting.panel(width, height, left, right)
    for curve in curves:
        _draw(axes, curve)
    ys = [v for c in curves for v in (*c.low, *c.high)]
    if log_y:
        plotting.log_axis(axes.yaxis, ys)
    else:
        plotting.linear_axis(axes.yaxis, ys)
    xs = sorted({x for c in curves for x in (*c.x, *c.zeros)})
    if log_x:
        plotting.log_axis(axes.xaxis, xs, write_x, at=xs)
    else:
        plotting.linear_axis(axes.xaxis, xs)
    axes.set_title(title, loc="left")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    _mark_zeros(axes, curves)
    _label_ends(axes, labelled, texts, 1.0 + 18.0 / (width - left - right))
    return plotting.svg(figure, name), [c for c in curves if c not in labelled] if named else []


def _collide(curves: list[Curve], texts: dict[int, str], log_y: bool) -> bool:
    """Return whether labels at the ends of the curves would have to be written far from them."""
    scale: Callable[[float], float] = math.log if log_y else float
    values = [scale(v) for c in curves for v in (*c.low, *c.high)]
    if len(curves) < 2 or max(values) == min(values):
        return False
    sizes = [plotting.text_height(texts[id(c)]) + 3.0 for c in curves]
    extent = max(290.0, 80.0 + sum(sizes)) - 68.0
    ends = [extent * (scale(c.y[-1]) - min(values)) / (max(values) - min(values)) for c in curves]
    centres = plotting.spread(ends, sizes, -36.0, extent + 14.0)
    return max(abs(a - b) for a, b in zip(ends, centres, strict=True)) > FURTHEST_LABEL


def folded(groups: dict[str, list[Curve]]) -> list[Curve]:
    """Return one curve for each name whose curves agree, point by point within their intervals; all of the others."""
    found = []
    for name, several in groups.items():
        points: dict[float, list[tuple[float, float]]] = {}
        for curve in several:
            for x, low, high in zip(curve.x, curve.low, curve.high, strict=True):
                points.setdefault(x, []).append((low, high))
        agree = all(max(low for low, _ in ends) <= min(high for _, high in ends) for ends in points.values())
        if len(several) > 1 and agree and len({tuple(c.x) for c in several}) == 1:
            found.append(dataclasses.replace(several[0], label=name))
        else:
            found += several
    return found


def _draw(axes: Any, curve: Curve) -> None:
    import seaborn

    for xs, ys in curve.stretches():
        seaborn.lineplot(
            x=xs,
            y=ys,
            ax=axes,
            color=curve.look.colour,
            marker=curve.look.marker,
            fillstyle=curve.fill,
            markersize=6.5,
            markevery=curve.marked,
            markeredgewidth=1.0,
            markeredgecolor=curve.look.colour,
            linewidth=1.3 if curve.line is None else 0.0,
            estimator=None,
            legend=False,
            clip_on=False,
        )
    if curve.line is not None:
        ends = [min(curve.x), max(curve.x)]
        axes.plot(ends, [curve.line(x) for x in ends], color=curve.look.colour, linewidth=1.1)
    for x, low, high in zip(curve.x, curve.low, curve.high, strict=True):
        axes.plot([x, x], [low, high], color=curve.look.colour, linewidth=1.4, solid_capstyle="butt")


def _mark_zeros(axes: Any, curves: list[Curve]) -> None:
    for curve in curves:
        for x in curve.zeros:
            axes.text(
                x,
                0.015,
                "0",
                transform=axes.get_xaxis_transform(),
                color=curve.look.colour,
                ha="center",
                fontsize=plotting.SMALL,
                fontweight="bold",
            )


def _label_ends(axes: Any, curves: list[Curve], texts: dict[int, str], x: float) -> None:
    to_pixels = axes.transData.transform
    box = axes.get_window_extent()
    ends = [to_pixels((c.x[-1], c.y[-1])) for c in curves]
    sizes = [plotting.text_height(texts[id(c)]) + 3.0 for c in curves]
    centres = plotting.spread([end[1] for end in ends], sizes, box.y0 - 36.0, box.y1 + 14.0)
    for curve, end, centre in zip(curves, ends, centres, strict=True):
        at = (centre - box.y0) / box.height
        start = ((end[0] - box.x0) / box.width, (end[1] - box.y0) / box.height)
        axes.plot(
            [start[0], x - 0.008],
            [start[1], at],
            transform=axes.transAxes,
            color=curve.look.colour,
            linewidth=0.6,
            alpha=0.7,
            clip_on=False,
            zorder=1,
        )
        axes.text(
            x,
            at,
            texts[id(curve)],
            transform=axes.transAxes,
            va="center",
            ha="left",
            fontsize=plotting.SMALL,
            color=curve.look.colour,
            linespacing=1.1,
        )
