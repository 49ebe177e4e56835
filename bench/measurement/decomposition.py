"""Storage of the two parts of a minibatch estimate's variance beside a cell's rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.rows import ALL

#: Prefix of the names of these arrays in a store; the parameter block follows.
SERIES = "parts:"
#: The parts do not add up beyond this many half-widths of 95 % intervals: by chance once in 1,000.
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
    """The two parts of a variance, and the variance itself.

    Attributes
    ----------
    replicates
        Number of pairs of estimates.
    sampling, minibatch
        E_B[Var_z(ĝ | B)] and Var_B(E_z[ĝ | B]).
    total
        Var ĝ, measured on other noise.
    sure
        Whether neither the sampling part nor the total was flagged.
    """

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
        """Whether the sum of the parts is the total, within their errors."""
        errors = math.hypot(*(part.half_width for part in (self.sampling, self.minibatch, self.total)))
        return abs(self.sum - self.total.value) <= APART * errors


def as_series(split: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Convert the result of `split` to arrays by name."""
    found = {}
    for row in split:
        numbers = [row[part + end] for part in ("sampling", "minibatch", "total") for end in ("", "_low", "_high")]
        sure = row["sampling_flag"] == row["total_flag"] == "ok"
        found[SERIES + row["block"]] = np.asarray([row["replicates"], *numbers, sure], dtype=float)
    return found


def from_series(series: Mapping[str, np.ndarray], block: str = ALL) -> Parts | None:
    """Return the parts of a parameter block; None where they were not measured."""
    numbers = series.get(SERIES + block)
    if numbers is None or len(numbers) != 11 or not np.all(np.isfinite(numbers)):
        return None
    first, *rest, last = (float(number) for number in numbers)
    return Parts(int(first), Part(*rest[:3]), Part(*rest[3:6]), Part(*rest[6:]), last == 1.0)
