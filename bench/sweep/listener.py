"""The events that a run reports to an observer."""

from __future__ import annotations

from gradmeter.bench.cells import Cell
from gradmeter.bench.rows import Row


class Listener:
    """An observer of a run; this base class ignores all events."""

    def cell_started(self, cell: Cell) -> None:
        pass

    def replicates(self, count: int) -> None:
        pass

    def cell_finished(self, cell: Cell, rows: list[Row], new: bool) -> None:
        pass

    def timing_started(self, cells: int, rounds: int) -> None:
        pass

    def timing_round(self, number: int) -> None:
        pass
