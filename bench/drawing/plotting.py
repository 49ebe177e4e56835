"""Drawing with matplotlib and seaborn, as SVG to embed in a page: without fonts, styles or clashing ids.

Lengths are CSS pixels. Text stays text, never mathematics, and its width is estimated for a font at least as wide as
the reader's is likely to be.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gradmeter.bench.drawing.style import FAINT, INK, PAPER
from gradmeter.bench.reading import numbers

SIZE, SMALL = 12.0, 11.0
LINE = 1.25 * SMALL
_SETTINGS = {
    "font.family": ["DejaVu Sans"],
    "font.size": SIZE,
    "axes.labelsize": SIZE,
    "axes.titlesize": SIZE + 1.0,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "svg.fonttype": "none",
}


@contextmanager
def styled() -> Iterator[None]:
    """Apply the style of every figure, whatever the user's own matplotlibrc says."""
    import matplotlib
    import seaborn

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        with seaborn.axes_style("ticks"), matplotlib.rc_context(_SETTINGS):
            yield


def panel(width: float, height: float, left: float, right: float, top: float = 26.0, bottom: float = 42.0) -> Any:
    """Return a figure with one set of axes and these margins: (figure, axes)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72.0, height / 72.0), dpi=72)
    FigureCanvasAgg(figure)
    box = (left / width, bottom / height, 1.0 - (left + right) / width, 1.0 - (top + bottom) / height)
    axes = figure.add_axes(box)
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def svg(figure: Any, name: str) -> str:
    """Return the figure as an `<svg>` element; `name` makes its ids unique on the page."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's font will have it
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r'(width|height)="([\d.]+)pt"', r'\1="\2"', text, count=2)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    for placeholder, colour in ((INK, "currentColor"), (FAINT, "var(--grid)"), (PAPER, "var(--paper)")):
        text = text.replace(placeholder, colour)
    return re.sub(r"\n\s*", "\n", text)


def wrapped(name: str, most: float = math.inf) -> str:
    """Break a long `name[k=v,...]` before its options, and these into lines of at most `most` pixels."""
    first, newline, rest = name.partition("\n")
    head, bracket, tail = first.partition("[")
    if not bracket or len(first) <= 20:
        return name
    lines = [head, bracket]
    for option in re.findall("[^,]+,?", tail):
        if lines[-1] != bracket and text_width(lines[-1] + option) > most:
            lines.append("")
        lines[-1] += option
    return "\n".join(lines) + newline + rest


def text_width(text: str) -> float:
    """Return an upper estimate of the width of the longest line, in pixels."""
    return max(len(line) for line in text.split("\n")) * 0.6 * SMALL


def text_height(text: str) -> float:
    return LINE * (1 + text.count("\n"))


def log_ticks(low: float, high: float, fits: Callable[[list[float]], bool]) -> list[float]:
    """Return round numbers from `low` to `high` for a log axis: as many as `fits` allows, at least two if possible."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), *(((1,), n) for n in (2, 3, 5, 10, 20, 50, 100)))
    for digits, every in steps:
        ticks = [d * 10.0**e for e in exponents if e % every == 0 for d in digits]
        ticks = [t for t in ticks if low <= t <= high]
        if fits(ticks):
            break
    if len(ticks) >= 3 or (len(ticks) == 2 and high / low > 5.0):
        return ticks
    from matplotlib.ticker import MaxNLocator

    for most in range(6, 1, -1):  # less than a decade: use evenly spaced numbers
        even = [float(t) for t in MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= t <= high]
        if fits(even):
            return even if len(even) >= 2 else ticks
    return ticks


def log_axis(
    axis: Any,
    values: Sequence[float],
    write: Callable[[float], str] = numbers.significant,
    room: float = 0.06,
    at: Sequence[float] = (),
) -> None:
    """Make an axis (`axes.xaxis`, `axes.yaxis`) logarithmic, with plain labels.

    Parameters
    ----------
    values
        Values that the axis must show.
    write
        Formats a number.
    room
        Margin at each end, as a share of the length on the log scale.
    at
        Preferred ticks.
    """
    positive = [v for v in values if v > 0.0] or [1.0]
    low, high = min(positive), max(positive)
    margin = max((high / low) ** room, 1.04)
    low, high = low / margin, high * margin
    which = axis.axis_name
    getattr(axis.axes, f"set_{which}scale")("log")
    getattr(axis.axes, f"set_{which}lim")(low, high)
    fits = _fitting(axis, write)
    ticks_at(axis, at if at and fits(list(at)) else log_ticks(low, high, fits), write)


def ticks_at(axis: Any, ticks: Sequence[float], write: Callable[[float], str] = numbers.significant) -> None:
    """Set ticks at exactly these values."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FixedFormatter([tick_text(t, write) for t in ticks]))
    axis.set_minor_locator(NullLocator())


def _fitting(axis: Any, write: Callable[[float], str]) -> Callable[[list[float]], bool]:
    """Return a function that tells whether labels at given values do not overlap."""
    across = axis.axis_name == "x"

    def fits(ticks: list[float]) -> bool:
        points = [(t, 1.0) if across else (1.0, t) for t in ticks]
        places = [axis.axes.transData.transform(p)[0 if across else 1] for p in points]
        sizes = [text_width(tick_text(t, write)) + 10.0 if across else 2.2 * LINE for t in ticks]
        pairs = zip(places, places[1:], sizes, sizes[1:], strict=False)
        return all(right - left >= (a + b) / 2.0 for left, right, a, b in pairs)

    return fits


def linear_axis(axis: Any, values: Sequence[float]) -> None:
    """Set the limits and ticks of a linear axis; the ticks are the values themselves where there is room."""
    from matplotlib.ticker import MaxNLocator

    low, high = min(values), max(values)
    margin = 0.04 * (high - low or 1.0)
    getattr(axis.axes, f"set_{axis.axis_name}lim")(low - margin, high + margin)
    ticks = sorted(set(values))
    if not _fitting(axis, numbers.significant)(ticks):
        ticks = [float(t) for t in MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= t <= high]
    ticks_at(axis, ticks)


def tick_text(value: float, write: Callable[[float], str]) -> str:
    """Return a tick's label without the trailing zeros of three figures: 1 µs rather than 1.00 µs."""
    match = re.fullmatch(r"(-?[\d,]+)(\.\d+)?(.*)", write(value))
    if match is None:
        return write(value)
    decimals = (match[2] or "").rstrip("0").rstrip(".")
    return match[1].replace("-", "−") + decimals + match[3]


def spread(wanted: Sequence[float], sizes: Sequence[float], low: float, high: float) -> list[float]:
    """Return centres near the wanted ones, in their order, such that intervals of these sizes do not overlap.

    Neighbours that would overlap form a cluster, which is placed at the mean of the wanted positions of its members.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    clusters: list[tuple[list[int], float, float]] = []  # members, start, length
    for i in order:
        members, length = [i], sizes[i]
        start = max(low, min(wanted[i] - length / 2.0, high - length))
        while clusters and sum(clusters[-1][1:]) > start:
            before, _, extent = clusters.pop()
            members, length = [*before, *members], extent + length
            offset, total = 0.0, 0.0
            for m in members:
                total += wanted[m] - sizes[m] / 2.0 - offset
                offset += sizes[m]
            start = max(low, min(total / len(members), high - length))
        clusters.append((members, start, length))
    centres = [0.0] * len(wanted)
    for members, start, _ in clusters:
        for m in members:
            centres[m] = start + sizes[m] / 2.0
            start += sizes[m]
    return centres
