"""Run cells: statistics first, with rows stored as cells end; then timing, alone and interleaved."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from gradmeter.bench.cells import Cell
from gradmeter.bench.feasibility import foreseen
from gradmeter.bench.rows import Row
from gradmeter.bench.sweep import devices, environment
from gradmeter.bench.sweep.listener import Listener, Stop
from gradmeter.bench.sweep.measuring import Ended, Outcome, failed_rows, now, with_remark
from gradmeter.bench.sweep.splitting import draws_minibatch
from gradmeter.bench.sweep.store import DiskFull, Store

if TYPE_CHECKING:
    from gradmeter.bench.sweep.executors import Executor

#: State of the card at one moment, by backend and device; None on the CPU.
Cards = dict[tuple[str, str], dict[str, Any] | None]
#: Seconds that a finished cell may wait for others to be stored in the same transaction.
LONGEST_WAIT = 0.1


def run(cells: Iterable[Cell], *more: Any, **options: Any) -> list[Row]:
    """Return the rows of `sweep` as a list: for those that fit in memory.

    Parameters
    ----------
    cells
        The cells.
    more, options
        The other parameters of `sweep`, in its order or by name.
    """
    return list(sweep(cells, *more, **options))


def sweep(
    cells: Iterable[Cell],
    store: Store | None = None,
    timing: bool = True,
    listener: Listener | None = None,
    stop: Stop | None = None,
    executor: Executor | None = None,
    time_again: bool = False,
    minibatch_parts: bool = False,
    retry: Collection[str] = (),
) -> Rows:
    """Measure the cells that the store does not have, and return the rows of all cells in their order.

    Rows that are in the store are not held in memory, however many they are.

    Objects of equal content are measured once. A cell whose content cannot be hashed is measured and not stored.

    Parameters
    ----------
    cells
        The cells.
    store
        Where results are kept; None keeps them in memory only.
    timing
        Whether to fill in the timing columns, after all statistics.
    listener
        Observer of the run.
    stop
        Whether the run is asked to end; cells that have ended are kept.
    executor
        Where cells are measured; in this process if absent.
    time_again
        Whether to time cells that another process has timed before; the earlier rounds are kept.
    minibatch_parts
        Whether to split the variance of cells that draw a minibatch; the parts are kept only in a store.
    retry
        Statuses of stored rows whose cells are measured again.
    """
    from gradmeter.bench.sweep.executors import InThisProcess

    running = _Run(list(cells), store, listener or Listener(), stop or Stop(), executor or InThisProcess(), retry)
    running.measure(timing)
    if minibatch_parts and store:
        running.split()
    if timing:
        running.time(time_again)
    return running.rows


class Rows:
    """The rows of cells, in the order of the cells. They are read from the store each time; others are in memory.

    Attributes
    ----------
    cells
        The cells.
    status
        By key of what has ended, its status.
    """

    def __init__(self, cells: list[Cell], store: Store | None) -> None:
        self.cells, self._store = cells, store
        self.status: dict[str, str] = {}
        self._untimed: set[str] = set()
        self._held: dict[str, list[Row]] = {}

    def put(self, key: str, rows: list[Row], stored: bool) -> None:
        """Take note of a cell's rows."""
        self.status[key] = rows[0]["status"]
        if rows[0]["seconds"] is None:
            self._untimed.add(key)
        else:
            self._untimed.discard(key)
        if stored and self._store:
            self._held.pop(key, None)
        else:
            self._held[key] = rows

    def of(self, key: str) -> list[Row]:
        """Return a cell's rows; empty if it has not ended."""
        if key in self._held:
            return self._held[key]
        return self._store.rows_of(key) if self._store and key in self.status else []

    def stored(self, key: str) -> bool:
        return key not in self._held

    def timed(self, key: str) -> bool:
        return key not in self._untimed

    def __iter__(self) -> Iterator[Row]:
        return (row for cell in self.cells for row in self.of(cell.key))


class _AtMost:
    """Cells that are told one by one, and how many they are at most."""

    def __init__(self, count: int, cells: Iterator[Cell]) -> None:
        self._count, self._cells = count, cells

    def __iter__(self) -> Iterator[Cell]:
        return self._cells

    def __length_hint__(self) -> int:
        return self._count


class _Run(Listener):
    """The state of one run. It listens to its executor, and stores what has waited long enough meanwhile."""

    def __init__(
        self,
        cells: list[Cell],
        store: Store | None,
        listener: Listener,
        stop: Stop,
        executor: Executor,
        retry: Collection[str],
    ) -> None:
        self.cells, self.store, self.listener, self.stop, self.executor = cells, store, listener, stop, executor
        self.retry = frozenset(retry)
        for cell in cells:
            _ = cell.key  # before anything is measured: that may change an object of the user's, and with it the key
        self.rows = Rows(cells, store)
        #: Cells by key that are measured as one.
        self._equal: dict[str, list[Cell]] = {}
        #: Cells that have ended and are not stored yet, and when the first of them ended.
        self._ended: list[tuple[Cell, Outcome]] = []
        self._since = 0.0

    def measure(self, timing: bool) -> None:
        started = now()
        try:
            for found in self.executor.measure(_AtMost(len(self.cells), self._new()), self, self.stop):
                if found is not None:
                    cell, outcome = found
                    if isinstance(outcome, Ended):
                        outcome = Outcome(failed_rows(cell, outcome.status, outcome.reason, started))
                    self._keep(cell, outcome)
                    if timing and outcome.rows[0]["status"] == "ok":
                        self.executor.compile(cell, outcome)
                self._flush(LONGEST_WAIT)
        finally:
            self._flush()

    def _new(self) -> Iterator[Cell]:
        """Yield the cells that have to be measured; those that are known, or cannot be measured, end here."""
        for cell in self.cells:
            equal = self._equal.setdefault(cell.key, [])
            equal.append(cell)
            if len(equal) > 1:
                if cell.key in self.rows.status:
                    self.listener.cell_finished(cell, self.rows.of(cell.key), new=False)
                continue
            known = self.store.rows_of(cell.key) if self.store else []
            reason = foreseen(cell)
            if known and not self._once_more(known, reason):
                self.rows.put(cell.key, known, stored=True)
                self.listener.cell_finished(cell, known, new=False)
            elif reason is not None:
                self._keep(cell, Outcome(failed_rows(cell, "n/a", reason, now())))
            else:
                yield cell

    def _once_more(self, known: list[Row], reason: str | None) -> bool:
        """Return whether a known cell is to be measured again.

        It is where that was asked for, and where it could not be measured before and can be now, for example since a
        framework was installed.
        """
        status = known[0]["status"]
        return status in self.retry or (status == "n/a" and reason is None)

    def _keep(self, cell: Cell, outcome: Outcome) -> None:
        if not self._ended:
            self._since = time.monotonic()
        self._ended.append((cell, outcome))

    def _flush(self, wait: float = 0.0) -> None:
        """Store what has ended, in one transaction, if the first of it has waited this long; then tell the listener."""
        if not self._ended or time.monotonic() - self._since < wait:
            return
        ended, self._ended = self._ended, []
        try:
            self._store(ended)
        except DiskFull:
            if len(ended) == 1:
                raise
            for one in ended:  # as many as there is room for
                self._store([one])

    def _store(self, ended: list[tuple[Cell, Outcome]]) -> None:
        left_out: dict[str, str] = {}
        if self.store:
            left_out = self.store.finish_many(
                [
                    (cell.key, outcome.rows, outcome.series, {**cell.description(), "goals": vars(cell.goals)})
                    for cell, outcome in ended
                    if cell.not_stored is None
                ]
            )
        for cell, outcome in ended:
            reason, rows = left_out.get(cell.key), outcome.rows
            if reason is not None:
                rows = [with_remark(row, f"not stored: {reason}") for row in rows]
            self.rows.put(cell.key, rows, stored=cell.not_stored is None and reason is None)
            for place, equal in enumerate(self._equal[cell.key]):
                self.listener.cell_finished(equal, rows, new=place == 0)

    def cell_started(self, cell: Cell) -> None:
        self._flush(LONGEST_WAIT)
        self.listener.cell_started(cell)

    def replicates(self, count: int) -> None:
        self._flush(LONGEST_WAIT)
        self.listener.replicates(count)

    def _distinct(self) -> list[Cell]:
        return [equal[0] for equal in self._equal.values()]

    def split(self) -> None:
        """Store the parts of the variance of measured cells that draw a minibatch and are not split yet."""
        from gradmeter.bench.measurement.decomposition import from_series

        assert self.store is not None
        store = self.store
        wanted = [
            cell
            for cell in self._distinct()
            if self.rows.stored(cell.key)
            and self.rows.status.get(cell.key) == "ok"
            and draws_minibatch(cell)
            and from_series(store.series(cell.key)) is None
        ]
        for found in self.executor.parts(wanted, self.listener, self.stop):
            if found is not None and isinstance(found[1], dict):
                store.put_series(found[0].key, found[1])

    def time(self, again: bool) -> None:
        """Fill in the timing columns of cells that lack them, or of all cells with `again`."""
        from gradmeter.bench.measurement.timing import ROUNDS, TOGETHER

        def wanted(cell: Cell) -> bool:
            ok = self.rows.status.get(cell.key) == "ok"
            return ok and (again or not self.rows.timed(cell.key)) and foreseen(cell) is None

        untimed = [cell for cell in self._distinct() if wanted(cell)]
        if not untimed or self.stop():
            return
        batches = [untimed[i : i + TOGETHER] for i in range(0, len(untimed), TOGETHER)]
        self.listener.timing_started(len(untimed), ROUNDS * len(batches))
        for done, batch in enumerate(batches):
            before = _cards(batch)
            timed = self.executor.time(batch, _Later(self.listener, done * ROUNDS), self.stop)
            if timed is None:
                return
            self._fill_in(batch, *timed, before, _cards(batch))

    def _fill_in(
        self, batch: list[Cell], costs: dict[str, Any], shared: dict[str, Any], before: Cards, after: Cards
    ) -> None:
        new = []
        for cell in batch:
            known, found = self.rows.of(cell.key), costs[cell.key]
            if isinstance(found, str):
                self.rows.put(cell.key, [with_remark(row, found) for row in known], stored=False)
                continue
            if self.store:
                found = found.after(self.store.series(cell.key), known[0]["compile_seconds"])
            place = cell.backend, cell.device
            where = {"machine": environment.machine(*place)}
            states = devices.between(before[place], after[place], "timing_")
            rows = [devices.with_states({**row, **found.columns(row["variance"]), **where}, states) for row in known]
            if self.rows.stored(cell.key):
                new.append((cell.key, rows, found.series))
            self.rows.put(cell.key, rows, stored=self.rows.stored(cell.key))
        if self.store:
            self.store.add_timing(new)
            if shared:
                self.store.put_series(f"timing {now()}", shared)


def _cards(cells: list[Cell]) -> Cards:
    places = {(cell.backend, cell.device) for cell in cells}
    return {place: devices.state(*place) for place in places}


class _Later(Listener):
    """Tells a listener of the rounds of one batch as those of all."""

    def __init__(self, listener: Listener, before: int) -> None:
        self._listener, self._before = listener, before

    def timing_round(self, number: int) -> None:
        self._listener.timing_round(self._before + number)
