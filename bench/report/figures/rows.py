"""A panel of named rows with points and intervals on a common log axis, and their numbers written beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gradmeter.bench.drawing import plotting
from gradmeter.bench.drawing.style import Style
from gradmeter.bench.reading import numbers
from gradmeter.bench.reading.ratios import Ratio

#: Pixels that the names of rows may take, and between them and the axis.
MOST_LEFT, MARGIN = 230.0, 12.0


#: The axis beside texts, and the whole panel without them, which then fills the page.
WITH_TEXTS, WIDE = 220.0, 1150.0


@dataclass
class Mark:
    """A point with its interval; `text` is written at the end of the row."""

    ratio: Ratio
    look: Style
    fill: str = "full"
    text: str = ""


@dataclass
class Line:
    """A row: its name, and marks that share a height (`text` empty) or have one each."""

    name: str
    marks: list[Mark] = field(default_factory=list)


def panel(name: str, lines: list[Line], x_label: str, write: Callable[[float], str] = numbers.times) -> str:
    """Return the panel as SVG, with a line at 1."""
    names = [plotting.wrapped(line.name, MOST_LEFT - MARGIN) for line in lines]
    texts = [m.text for line in lines for m in line.marks]
    left = min(MOST_LEFT, max(plotting.text_width(n) for n in names) + MARGIN)
    right = max([plotting.text_width(t) for t in texts if t], default=4.0) + 12.0
    heights = [
        max(plotting.text_height(n), (1 if not any(m.text for m in line.marks) else len(line.marks)) * plotting.LINE)
        + 8.0
        for n, line in zip(names, lines, strict=True)
    ]
    height = sum(heights) + 12.0 + 44.0
    width = left + (WITH_TEXTS if any(texts) else WIDE - left - right) + right
    figure, axes = plotting.panel(width, height, left, right, top=8.0, bottom=44.0)
    y = 0.0
    centres = []
    for line, extent in zip(lines, heights, strict=True):
        centres.append(y + extent / 2.0)
        several = any(m.text for m in line.marks)
        for i, mark in enumerate(line.marks):
            at = centres[-1] + ((i - (len(line.marks) - 1) / 2.0) * plotting.LINE if several else 0.0)
            axes.plot([mark.ratio.low, mark.ratio.high], [at, at], color=mark.look.colour, linewidth=1.4)
            axes.plot(
                [mark.ratio.value],
                [at],
                linestyle="",
                marker=mark.look.marker,
                color=mark.look.colour,
                fillstyle=mark.fill,
                markerfacecoloralt="none",
                markersize=7.5,
                clip_on=False,
                zorder=3,
            )
            if mark.text:
                axes.text(
                    1.0 + 10.0 / (width - left - right),
                    at,
                    mark.text,
                    transform=axes.get_yaxis_transform(),
                    va="center",
                    fontsize=plotting.SMALL,
                )
        y += extent
    ratios = [m.ratio for line in lines for m in line.marks]
    plotting.log_axis(axes.xaxis, [1.0, *(r.value for r in ratios), *_sane(ratios)], write)
    axes.axvline(1.0, color="#8a8a8a", linewidth=1.0, zorder=1)
    axes.set_ylim(y, 0.0)
    axes.set_yticks(centres, names)
    axes.tick_params(axis="y", length=0.0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(x_label)
    return plotting.svg(figure, name)


def _sane(ratios: list[Ratio]) -> list[float]:
    """Return the ends of the intervals, cut at ten times beyond the values: an axis should not follow them farther."""
    low, high = min(r.value for r in ratios), max(r.value for r in ratios)
    ends = [end for r in ratios for end in (r.low, r.high)]
    return [min(max(end, low / 10.0), high * 10.0) for end in ends]
