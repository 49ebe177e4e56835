"""The result of a comparison: ratios by cell and by backend, with intervals, and a word for each.

With many cells some 95 % intervals exclude 1 by chance, so a change is reported only if its log ratio is `CALLED`
standard errors from 0.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from gradmeter.bench.reading.ratios import Ratio

#: Standard errors of the log ratio from which on a change is reported.
CALLED = 4.0
#: Standard errors in the half-width of a 95 % interval.
NINETY_FIVE = 1.96
#: Two computations that are equal but for the order of additions differ by less than this.
ROUNDING = 1e-9
#: The words for each metric if it increased and if it decreased.
WORDS = {"time": ("slower", "faster"), "variance": ("more", "less")}
METRICS = tuple(WORDS)


@dataclass(frozen=True)
class Change:
    """Ratios of the second store to the first, by metric, for one cell or for all cells of a backend.

    Attributes
    ----------
    label
        The cell or the backend, in words.
    columns
        The cell or the backend, for programs.
    ratios
        By metric, with 95 % intervals; None where it is unknown in one of the stores.
    """

    label: str
    columns: dict[str, Any]
    ratios: dict[str, Ratio | None]

    def word(self, metric: str) -> str:
        """Return the word for a metric's change; `same` unless noise explains it less often than once in 10,000."""
        ratio = self.ratios.get(metric)
        if ratio is None:
            return "not known"
        more, less = WORDS[metric]
        if _beyond(ratio.value, ratio.low):
            return more
        return less if _beyond(1.0 / ratio.value, 1.0 / ratio.high) else "same"

    def least(self, metric: str) -> float:
        """Return the smallest ratio that would be called a deterioration, given the interval; 1 where it is unknown."""
        ratio = self.ratios.get(metric)
        if ratio is None or ratio.low <= 0.0:
            return 1.0
        below = CALLED / NINETY_FIVE * math.log(ratio.value / ratio.low)
        return math.exp(min(below, 700.0))  # an interval without a lower end must not overflow

    @property
    def as_json(self) -> str:
        """The change as one line of JSON."""
        told = {
            metric: ratio and {"word": self.word(metric), "ratio": ratio.value, "low": ratio.low, "high": ratio.high}
            for metric, ratio in self.ratios.items()
        }
        return json.dumps({**self.columns, **told}, ensure_ascii=False)


@dataclass(frozen=True)
class Comparison:
    """The comparison of two stores.

    Attributes
    ----------
    cells
        A change for every cell measured in both.
    backends
        A change for every backend with enough timed cells: the median over these cells.
    alone
        Cells that only the first and only the second store measured, in words.
    failed
        Cells of the first store that failed in the second.
    shared
        Logarithm of the factor that was divided out of all times.
    floors
        Sentences on which differences are noise.
    remarks
        Sentences on other differences between the stores.
    """

    cells: list[Change]
    backends: list[Change]
    alone: tuple[list[str], list[str]]
    failed: list[str]
    shared: float = 0.0
    floors: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def _beyond(value: float, low: float) -> bool:
    """Return whether a ratio is `CALLED` standard errors above 1, given the lower end of its 95 % interval."""
    if low <= 0.0:
        return False
    return math.log(value) - CALLED / NINETY_FIVE * (math.log(value) - math.log(low)) > ROUNDING
