"""What a comparison says: ratios by cell and by backend, with intervals, and the word for each.

With many cells some 95 % intervals miss 1 by chance, so a change is called only where it is `CALLED` standard errors
from none.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from gradmeter.bench.reading.ratios import Ratio

#: Standard errors from no change at which one is called.
CALLED = 4.0
#: Those of a 95 % interval.
NINETY_FIVE = 1.96
#: Two exactly equal computations, apart from the order of additions.
ROUNDING = 1e-9
#: What each metric is called when it grew, and when it shrank.
WORDS = {"time": ("slower", "faster"), "variance": ("more", "less")}
METRICS = tuple(WORDS)


@dataclass(frozen=True)
class Change:
    """Ratios of the second store to the first, by metric: of one cell, or of all cells of a backend.

    Attributes
    ----------
    label : which cell or backend, in words.
    columns : the same for programs.
    ratios : by metric, with 95 % intervals; None where one store does not know it.
    """

    label: str
    columns: dict[str, Any]
    ratios: dict[str, Ratio | None]

    def word(self, metric: str) -> str:
        """What became of a metric, in a word; `same` unless noise explains it less often than once in 10,000."""
        ratio = self.ratios.get(metric)
        if ratio is None:
            return "not known"
        more, less = WORDS[metric]
        if _beyond(ratio.value, ratio.low):
            return more
        return less if _beyond(1.0 / ratio.value, 1.0 / ratio.high) else "same"

    @property
    def as_json(self) -> str:
        """One line."""
        told = {
            metric: ratio and {"word": self.word(metric), "ratio": ratio.value, "low": ratio.low, "high": ratio.high}
            for metric, ratio in self.ratios.items()
        }
        return json.dumps({**self.columns, **told}, ensure_ascii=False)


@dataclass(frozen=True)
class Comparison:
    """What two stores say of each other.

    Attributes
    ----------
    cells : a change for every cell measured in both.
    backends : a change for every backend with enough timed cells: the median over them.
    alone : cells that only the first and only the second store measured, in words.
    failed : those of the first store that the second tried and could not measure.
    shared : logarithm of what was divided out of all times.
    floors : sentences on what differences mean nothing.
    remarks : sentences on what else differs between the stores.
    """

    cells: list[Change]
    backends: list[Change]
    alone: tuple[list[str], list[str]]
    failed: list[str]
    shared: float = 0.0
    floors: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def _beyond(value: float, low: float) -> bool:
    """Whether a ratio is that many standard errors above 1, given the lower end of its 95 % interval."""
    if low <= 0.0:
        return False
    return math.log(value) - CALLED / NINETY_FIVE * (math.log(value) - math.log(low)) > ROUNDING
