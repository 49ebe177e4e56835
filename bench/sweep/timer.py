"""Time cells together, in batches whose compiled functions fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gradmeter.bench.cells import Cell
from gradmeter.bench.measurement import cost
from gradmeter.bench.measurement.prepared import Prepared
from gradmeter.bench.measurement.timing import TOGETHER


class Timer:
    """Compiled functions of cells that wait to be timed, at most `TOGETHER` of them."""

    def __init__(self) -> None:
        self._contenders = cost.Contenders()

    def add(self, cell: Cell, prepared: Prepared | None = None) -> None:
        """Compile what timing a cell takes, if it is of the first batch."""
        if len(self._contenders) < TOGETHER and cell.key not in self._contenders:
            self._contenders.add(cell.key, cost.contender(cell, prepared))

    def time(
        self, cells: Sequence[Cell], each_round: Callable[[int], None] | None = None
    ) -> tuple[dict[str, cost.Cost | str], dict[str, np.ndarray]]:
        """Time a batch, and forget what was compiled; see `gradmeter.bench.measurement.cost.time_calls`."""
        wanted = {cell.key for cell in cells}
        self._contenders.keep(wanted)
        for cell in cells:
            self.add(cell)
        try:
            return cost.time_calls(self._contenders, each_round)
        finally:
            self._contenders = cost.Contenders()
