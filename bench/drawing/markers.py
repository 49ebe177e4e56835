"""Small pictures inside tables: an estimator's marker, and its position on a log scale."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from gradmeter.bench.drawing.style import Style


@functools.cache
def path(marker: str) -> str:
    """Return the outline of a matplotlib marker as the `d` of an SVG path, about 10 pixels wide and centred at 0."""
    from matplotlib.markers import MarkerStyle

    style = MarkerStyle(marker)
    support_and_tails = style.get_path().transformed(style.get_transform()).transformed(_scale(9.0))
    letters = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}
    parts = []
    for points, code in support_and_tails.iter_segments(simplify=False):
        numbers = " ".join(f"{v:.2f}" for v in points) if code != 79 else ""
        parts.append(letters[int(code)] + numbers)
    return "".join(parts)


def _scale(factor: float) -> Any:
    from matplotlib.transforms import Affine2D

    return Affine2D().scale(factor, -factor)


@dataclass(frozen=True)
class IntervalBar:
    """The positions of a value and its interval on a scale, in per cent of its width."""

    at: float
    low: float
    high: float
    look: Style

    @property
    def path(self) -> str:
        return path(self.look.marker)


@dataclass(frozen=True)
class Scale:
    """A log scale above a table; `decades` are the positions of powers of ten, in per cent."""

    low: float
    high: float
    decades: tuple[float, ...]

    def place(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(100.0 * min(max(share, 0.0), 1.0), 2)

    def strip(self, value: float, low: float, high: float, look: Style) -> IntervalBar | None:
        if value <= 0.0:
            return None
        return IntervalBar(self.place(value), self.place(low), self.place(high), look)


def scale(values: Iterable[float | None]) -> Scale | None:
    """Return a scale that covers all positive values with a margin; None where there are none."""
    positive = [v for v in values if v is not None and v > 0.0]
    if not positive:
        return None
    low, high = min(positive), max(positive)
    margin = max((high / low) ** 0.06, 1.3)
    whole = Scale(low / margin, high * margin, ())
    powers = range(math.ceil(math.log10(whole.low)), math.floor(math.log10(whole.high)) + 1)
    return Scale(whole.low, whole.high, tuple(whole.place(10.0**p) for p in powers))
