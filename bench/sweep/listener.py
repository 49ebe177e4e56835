"""What a run tells an observer, and how it is asked to stop."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

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


class Stop:
    """Whether a run was asked to stop; this base class never is, and leaves Ctrl-C to whoever called."""

    def __call__(self) -> bool:
        return False

    def raised(self) -> bool:
        """Return whether a `KeyboardInterrupt` is a request to stop, and not the doing of a measured class."""
        return True

    def at_once(self) -> AbstractContextManager[None]:
        """Return a context in which a request to stop raises `KeyboardInterrupt`."""
        return nullcontext()
