"""Where cells are measured: in this process, in worker processes, or on a cluster (`gradmeter.bench.sweep.cluster`)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gradmeter.bench.cells import Cell
from gradmeter.bench.measurement.timing import TOGETHER
from gradmeter.bench.sweep.listener import Listener, Stop
from gradmeter.bench.sweep.measuring import Ended, Outcome, measure_cell
from gradmeter.bench.sweep.processes import TICK, Limits, NotBegun, WorkerProcess, wait
from gradmeter.bench.sweep.server import start_server
from gradmeter.bench.sweep.splitting import parts_of
from gradmeter.estimators import UsageError

if TYPE_CHECKING:
    from typing import Self

    from gradmeter.bench.measurement.cost import Cost
    from gradmeter.bench.sweep.timer import Timer

#: Costs by cell key, and the series of the shared rounds.
Timed = tuple[dict[str, "Cost | str"], dict[str, np.ndarray]]
#: A cell, or None where nothing has ended for a while, with what became of it.
Found = tuple[Cell, Any] | None
#: Seconds beyond the time limits of its cells after which timing is given up.
SPARE = 60.0
#: Processes in a row that may die before they begin.
MOST_LOST = 5


class Executor(Protocol):
    """Measures cells, in any order, and times them."""

    @property
    def width(self) -> int:
        """Number of cells that are measured at the same time."""
        ...

    def measure(self, cells: Iterable[Cell], listener: Listener, stop: Stop) -> Iterator[Found]:
        """Yield each cell with its `Outcome` or `Ended` as it ends; None now and then while nothing ends.

        The iterator ends early where a stop is asked for; cells that are being measured then are given up.
        """
        ...

    def parts(self, cells: Iterable[Cell], listener: Listener, stop: Stop) -> Iterator[Found]:
        """Yield each cell with the parts of its variance, None where it cannot be split, or an `Ended`."""
        ...

    def compile(self, cell: Cell, outcome: Outcome) -> None:
        """Begin to compile what timing a cell takes, if it is worth while before all statistics are there."""
        ...

    def time(self, cells: Sequence[Cell], listener: Listener, stop: Stop) -> Timed | None:
        """Time cells together while nothing else runs; None where a stop was asked for."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None:
        """End every process."""
        ...


class Closing:
    """A context manager that calls `close` at its end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        pass


class InThisProcess(Closing):
    """Measures one cell after another in this process: for debugging, notebooks, and objects that cannot be copied."""

    width = 1

    @functools.cached_property
    def _timer(self) -> Timer:
        from gradmeter.bench.sweep.timer import Timer

        return Timer()

    def measure(self, cells: Iterable[Cell], listener: Listener, stop: Stop) -> Iterator[Found]:
        return self._each(functools.partial(measure_cell, each=listener.replicates), cells, listener, stop)

    def parts(self, cells: Iterable[Cell], listener: Listener, stop: Stop) -> Iterator[Found]:
        return self._each(parts_of, cells, listener, stop)

    def _each(
        self, work: Callable[[Cell], Any], cells: Iterable[Cell], listener: Listener, stop: Stop
    ) -> Iterator[Found]:
        for cell in cells:
            if stop():
                return
            listener.cell_started(cell)
            try:
                with stop.at_once():
                    found = work(cell)
            except KeyboardInterrupt:
                if stop():
                    return
                if stop.raised():
                    raise
                found = Ended("exception", "it raises KeyboardInterrupt")
            yield cell, found

    def compile(self, cell: Cell, outcome: Outcome) -> None:
        if outcome.prepared is not None:
            self._timer.add(cell, outcome.prepared)

    def time(self, cells: Sequence[Cell], listener: Listener, stop: Stop) -> Timed | None:
        try:
            with stop.at_once():
                return self._timer.time(cells, listener.timing_round)
        except KeyboardInterrupt:
            if stop():
                return None
            raise


class InWorkers(Closing):
    """Measures cells in worker processes, and compiles for timing in a further one at the same time.

    A cell whose process dies is measured once more, alone, after all others: whoever killed the process, or took its
    memory, is gone by then. If its process dies again, the cell is `crashed`.

    Parameters
    ----------
    workers
        Number of processes that measure.
    limits
        What a cell may take.
    helpers
        Number of further processes for each cell that is large.
    backends
        Backends that the processes share from the start.
    """

    def __init__(
        self, workers: int = 1, limits: Limits | None = None, helpers: int = 0, backends: Iterable[str] = ()
    ) -> None:
        self.width, self._limits, self._helpers = workers, limits or Limits(), helpers
        self._idle: list[WorkerProcess] = []
        self._busy: dict[WorkerProcess, Cell] = {}
        self._lost, self._backends = 0, tuple(backends)
        self._timer = TimerProcess(self._limits)

    def measure(self, cells: Iterable[Cell], listener: Listener, stop: Stop) -> Iterator[Found]:
        return self._each("measured", cells, listener, stop, self._helpers)

    def parts(self, cells: Iterable[Cell], listener: Listener, stop: Stop) -> Iterator[Found]:
        return self._each("parts", cells, listener, stop)

    def _each(self, work: str, cells: Iterable[Cell], listener: Listener, stop: Stop, *more: Any) -> Iterator[Found]:
        died: list[Cell] = []
        try:
            for cell, found in self._rounds(work, iter(cells), self.width, listener, stop, *more):
                if isinstance(found, Ended) and found.status == "crashed":
                    died.append(cell)
                else:
                    yield (cell, found) if cell else None
            for cell, found in self._rounds(work, iter(died), 1, listener, stop, *more):
                if isinstance(found, Ended) and found.status == "crashed":
                    found = found.twice()
                yield (cell, found) if cell else None
        finally:
            for process in self._busy:
                process.kill()
            self._busy.clear()

    def _rounds(
        self, work: str, cells: Iterator[Cell], width: int, listener: Listener, stop: Stop, *more_arguments: Any
    ) -> Iterator[Any]:
        """Yield (cell, result) as each ends, and (None, None) now and then; keep `width` processes at work."""
        more = True
        while more or self._busy:
            while more and len(self._busy) < width:
                cell = next(cells, None)
                if stop():
                    return
                if cell is None:
                    more = False
                    break
                listener.cell_started(cell)
                self._start(work, cell, *more_arguments)
            self._timer.go_on()
            wait([*self._busy, *self._timer.waiting])
            if stop():
                return
            ended = [process for process in self._busy if process.done()]
            if len(self._busy) == 1:
                for process in self._busy:
                    if process.progress is not None:
                        listener.replicates(process.progress)
            for process in ended:
                cell = self._busy.pop(process)
                try:
                    found = process.result()
                except NotBegun as error:
                    self._lost += 1
                    if self._lost >= MOST_LOST:
                        raise UsageError(f"worker processes do not start: {error}; try --in-process") from None
                    self._start(work, cell, *more_arguments)
                    continue
                self._lost = 0
                if isinstance(found, Ended) or (isinstance(found, Outcome) and found.spoilt):
                    process.kill()
                else:
                    self._idle.append(process)
                yield cell, found
            if not ended:
                yield None, None

    def _start(self, work: str, cell: Cell, *more: Any) -> None:
        if not self._idle:
            start_server(self._backends)  # not before the first cell that has to be measured
            self._idle.append(WorkerProcess(self._limits))
        process = self._idle.pop()
        self._busy[process] = cell
        process.start(work, cell, *more, seconds=self._limits.seconds)

    def compile(self, cell: Cell, outcome: Outcome) -> None:
        self._timer.add(cell)

    def time(self, cells: Sequence[Cell], listener: Listener, stop: Stop) -> Timed | None:
        for process in self._idle:  # nothing else runs while cells are timed
            process.kill()
        self._idle.clear()
        return self._timer.time(cells, listener, stop)

    def close(self) -> None:
        for process in [*self._idle, *self._busy]:
            process.kill()
        self._timer.close()


class TimerProcess:
    """A process that compiles what timing takes while others measure, and then times."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._process = WorkerProcess(limits)
        self._pending: list[Cell] = []
        self._added = 0
        self._compiling: Cell | None = None
        self._failed: dict[str, str] = {}

    @property
    def waiting(self) -> list[WorkerProcess]:
        return [self._process] if self._compiling is not None else []

    def add(self, cell: Cell) -> None:
        if self._added < TOGETHER:  # the first batch alone fits in memory
            self._added += 1
            self._pending.append(cell)

    def go_on(self) -> None:
        """Take note of what was compiled, and begin to compile what comes next."""
        if self._compiling is not None and self._process.done():
            found = self._result()
            if isinstance(found, Ended):
                self._failed[self._compiling.key] = f"not timed: {found.reason}"
            self._compiling = None
        if self._compiling is None and self._pending:
            self._compiling = self._pending.pop(0)
            self._process.start("compiled", self._compiling, seconds=self._limits.seconds)

    def _result(self) -> Any:
        try:
            found = self._process.result()
        except NotBegun as error:
            found = Ended("crashed", str(error))
        if isinstance(found, Ended):
            self._process.kill()
            self._process = WorkerProcess(self._limits)
        return found

    def time(self, cells: Sequence[Cell], listener: Listener, stop: Stop) -> Timed | None:
        while self._pending or self._compiling is not None:
            self.go_on()
            wait(self.waiting)
            if stop():
                return None
        failed = {cell.key: self._failed[cell.key] for cell in cells if cell.key in self._failed}
        left = [cell for cell in cells if cell.key not in failed]
        if not left:
            return dict(failed), {}
        limit = self._limits.seconds
        self._process.start("timed", left, seconds=None if limit is None else limit * len(left) + SPARE)
        shown = None
        while not self._process.done():
            wait([self._process], TICK)
            if stop():
                self._process.kill()
                return None
            if self._process.progress != shown:
                shown = self._process.progress
                listener.timing_round(shown or 0)
        found = self._result()
        if isinstance(found, Ended):
            return {**failed, **{cell.key: f"not timed: {found.reason}" for cell in left}}, {}
        costs, shared = found
        return {**failed, **costs}, shared

    def close(self) -> None:
        self._process.kill()
