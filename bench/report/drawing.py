"""Drawing with matplotlib and seaborn, as SVG that stands inside a page: no fonts, no styles, no ids of its own.

Lengths are CSS pixels. Text stays text, never mathematics, and is measured in a font at least as wide as the
reader's is likely to be.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from bench.report import numbers
from bench.report.style import FAINT, INK, PAPER

SIZE, SMALL = 11.0, 10.0
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
    """The style of every figure; whatever the reader's own matplotlibrc says."""
    import matplotlib
    import seaborn

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        with seaborn.axes_style("ticks"), matplotlib.rc_context(_SETTINGS):
            yield


def panel(width: float, height: float, left: float, right: float, top: float = 26.0, bottom: float = 42.0) -> Any:
    """A figure of one set of axes with these margins: (figure, axes)."""
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
    """The figure as an `<svg>` element; `name` keeps its ids apart from those of others on the page."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's font will have it
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
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


def wrapped(name: str) -> str:
    """A long estimator name on two lines."""
    head, bracket, tail = name.partition("[")
    return f"{head}\n{bracket}{tail}" if bracket and len(name) > 20 else name


def text_width(text: str, size: float = SMALL) -> float:
    """Pixels that the longest line takes, at most."""
    return max(len(line) for line in text.split("\n")) * 0.615 * size


def text_height(text: str) -> float:
    return LINE * (1 + text.count("\n"))


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers between two positive ones, evenly spread on a log axis where they can be."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 5), (1, 3), (1,)):
        ticks = [d * 10.0**e for e in range(first, last + 1) for d in digits]
        ticks = [t for t in ticks if low <= t <= high]
        if len(ticks) <= most:
            break
    else:
        step = math.ceil(len(ticks) / most)
        ticks = [t for t in ticks if round(math.log10(t)) % step == 0]
    if len(ticks) >= 2:
        return ticks
    exponent = math.floor(math.log10(max(high - low, 1e-300)))
    step_size = next((m * 10.0**exponent for m in (5, 2, 1, 0.5) if (high - low) / (m * 10.0**exponent) >= 2), 0.0)
    if not step_size or math.ceil(low / step_size) * step_size > high:
        return [low, high]
    start = math.ceil(low / step_size)
    return [i * step_size for i in range(start, math.floor(high / step_size) + 1)]


def log_axis(axis: Any, values: Sequence[float], write: Callable[[float], str] = numbers.significant) -> None:
    """Make an axis (`axes.xaxis`, `axes.yaxis`) logarithmic, wide enough for the values, with plain labels."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    positive = [v for v in values if v > 0.0] or [1.0]
    low, high = min(positive), max(positive)
    margin = max((high / low) ** 0.06, 1.04)
    low, high = low / margin, high * margin
    which = axis.axis_name
    getattr(axis.axes, f"set_{which}scale")("log")
    getattr(axis.axes, f"set_{which}lim")(low, high)
    ticks = log_ticks(low, high)
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter([tick_text(t, write) for t in ticks]))
    axis.set_minor_locator(NullLocator())


def tick_text(value: float, write: Callable[[float], str]) -> str:
    """A tick's label without the zeros that three figures bring: 1 µs and not 1.00 µs."""
    text = write(value)
    number, space, unit = text.partition(" ")
    mantissa, e, power = number.partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return mantissa + e + power + space + unit


def spread(wanted: Sequence[float], sizes: Sequence[float], low: float, high: float) -> list[float]:
    """Centres near the wanted ones, in their order, such that intervals of these sizes do not overlap.

    Neighbours that would overlap form a cluster, which settles at the mean of where its members want to be.
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
