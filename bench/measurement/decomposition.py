"""The two parts of a minibatch estimate's variance as they are kept beside a cell's rows, and read again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.rows import ALL

#: What the names of a store's arrays of parts begin with; then the parameter block.
SERIES = "parts:"
#: Beyond this many half-widths of 95 % the parts do not add up: 1 in 1,000 by chance.
APART = 3.2905 / 1.9600


@dataclass(frozen=True)
class Part:
    """A variance and its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return 0.5 * (self.high - self.low)


@dataclass(frozen=True)
class Parts:
    """E_B[Var_z(ĝ | B)], Var_B(E_z[ĝ | B]) and Var ĝ, the last one on other noise; `sure` where no flag was raised."""

    replicates: int
    sampling: Part
    minibatch: Part
    total: Part
    sure: bool

    @property
    def sum(self) -> float:
        return self.sampling.value + self.minibatch.value

    @property
    def add_up(self) -> bool:
        """Whether the sum is the total, as far as their errors allow."""
        errors = math.hypot(*(part.half_width for part in (self.sampling, self.minibatch, self.total)))
        return abs(self.sum - self.total.value) <= APART * errors


def as_series(split: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """What `split` found, as arrays by name."""
    found = {}
    for row in split:
        numbers = [row[part + end] for part in ("sampling", "minibatch", "total") for end in ("", "_low", "_high")]
        sure = row["sampling_flag"] == row["total_flag"] == "ok"
        found[SERIES + row["block"]] = np.asarray([row["replicates"], *numbers, sure], dtype=float)
    return found


def from_series(series: Mapping[str, np.ndarray], block: str = ALL) -> Parts | None:
    """The parts of a parameter block; None where they were not measured."""
    numbers = series.get(SERIES + block)
    if numbers is None or len(numbers) != 11 or not np.all(np.isfinite(numbers)):
        return None
    first, *rest, last = (float(number) for number in numbers)
    return Parts(int(first), Part(*rest[:3]), Part(*rest[3:6]), Part(*rest[6:]), last == 1.0)
