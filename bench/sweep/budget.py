"""Spend a time on the cells that are least certain.

Cells are measured in rounds. In the first round each may draw a few replicates; in each later one, those that are not
certain yet may draw four times as many, the least certain first. A round measures a cell anew from the same noise, so
its row depends on the number of replicates alone, and the rounds before cost a third of the last. The number of
analyses of a cell, and with it the level of its verdict, is that of the cap from the first round on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from gradmeter.bench.cells import Cell
from gradmeter.bench.rows import Row
from gradmeter.bench.sweep.executors import Executor
from gradmeter.bench.sweep.listener import Listener, Stop
from gradmeter.bench.sweep.measuring import with_remark
from gradmeter.bench.sweep.run import Rows, sweep
from gradmeter.bench.sweep.store import Store

#: Replicates that a cell may draw in the first round, and the factor from one round to the next.
FIRST, GROWTH = 2**14, 4
#: What the rows of an uncertain cell say.
ENDED = "the time was over before precision and bias bound were reached"


class Deadline(Stop):
    """A request to stop, or the end of the time."""

    def __init__(self, stop: Stop, seconds: float) -> None:
        self._stop, self._end = stop, time.monotonic() + seconds

    def __call__(self) -> bool:
        return self._stop() or self.over()

    def over(self) -> bool:
        return time.monotonic() > self._end

    def raised(self) -> bool:
        return self._stop.raised()

    def at_once(self) -> AbstractContextManager[None]:
        return self._stop.at_once()


def uncertainty(rows: Sequence[Row], cell: Cell) -> float:
    """Return by what factor the rows of a cell miss its criteria, at most 1 where they are met.

    It is the larger of the bias bound over the one asked for, where the verdict is inconclusive, and of the half-width
    of the interval of log variance over the precision asked for.
    """
    worst = 0.0
    for row in rows:
        if row["status"] != "ok":
            continue
        if row["verdict"] == "inconclusive":
            bound = row["bias_bound"]
            worst = max(worst, math.inf if bound is None else max(1.0 + 1e-9, bound / cell.goals.bias_bound))
        low, high = row["variance_low"], row["variance_high"]
        if row["variance_flag"] == "ok" and low:
            worst = max(worst, 0.5 * math.log(high / low) / cell.goals.precision)
    return worst


def steps(cell: Cell) -> Iterator[Cell]:
    """Yield the cell with the limits of replicates that its rounds have, the cap of its criteria last."""
    limit = FIRST
    while limit < cell.goals.max_replicates:
        yield replace(cell, stop_at=limit)
        limit *= GROWTH
    yield cell


def run_within(
    seconds: float,
    cells: Sequence[Cell],
    store: Store,
    timing: bool,
    listener: Listener,
    stop: Stop,
    executor: Executor,
    time_again: bool = False,
    minibatch_parts: bool = False,
    retry: Collection[str] = (),
) -> Rows:
    """Run cells as `gradmeter.bench.sweep.run.sweep` does, but measure no longer than this; timing comes afterwards.

    A store keeps of each cell the round with the most replicates, from which a later run goes on.

    Parameters
    ----------
    seconds
        Time for the statistics of all cells.
    cells, store, timing, listener, stop, executor, time_again, minibatch_parts, retry
        As in `run`.
    """
    deadline, budget = Deadline(stop, seconds), _Budget(cells, store, retry)
    while wanted := budget.next():
        rows = sweep(wanted, store, False, listener, deadline, executor, retry=retry)
        budget.take(wanted, rows)
        if deadline():
            break
    budget.remark()
    return sweep(budget.measured(), store, timing and not stop(), None, stop, executor, time_again, minibatch_parts)


class _Budget:
    """What is known of each cell: the round that was measured last, and by what its rows miss the criteria."""

    def __init__(self, cells: Sequence[Cell], store: Store, retry: Collection[str]) -> None:
        self._store = store
        self._rounds = {cell.key: list(steps(cell)) for cell in cells}
        self._level = dict.fromkeys(self._rounds, -1)
        self._uncertainty = dict.fromkeys(self._rounds, math.inf)
        for key, rounds in self._rounds.items():
            for level, cell in enumerate(rounds):
                known = store.rows_of(cell.key)
                if known and known[0]["status"] not in retry:
                    self._note(key, level, known)

    def _note(self, key: str, level: int, rows: Sequence[Row]) -> None:
        self._level[key], self._uncertainty[key] = level, uncertainty(rows, self._rounds[key][-1])

    def next(self) -> list[Cell]:
        """Return the cells of the next round, the least certain first; empty if all are certain."""
        left = [
            key
            for key, rounds in self._rounds.items()
            if self._uncertainty[key] > 1.0 and self._level[key] + 1 < len(rounds)
        ]
        lowest = min((self._level[key] for key in left), default=0)
        chosen = [key for key in left if self._level[key] == lowest]
        chosen.sort(key=self._uncertainty.__getitem__, reverse=True)
        return [self._rounds[key][lowest + 1] for key in chosen]

    def take(self, wanted: Sequence[Cell], rows: Rows) -> None:
        """Take note of the rows of a round, and forget those of the round before."""
        asked = {cell.key for cell in wanted}
        for key, rounds in self._rounds.items():
            level = self._level[key] + 1
            if level < len(rounds) and rounds[level].key in asked and (found := rows.of(rounds[level].key)):
                if level:
                    self._store.forget(rounds[level - 1].key)
                self._note(key, level, found)

    def remark(self) -> None:
        """Say in the rows of uncertain cells that the time was over."""
        for key, level in self._level.items():
            cell = self._rounds[key][level]
            if level < 0 or cell.stop_at is None or self._uncertainty[key] <= 1.0:
                continue
            rows = self._store.rows_of(cell.key)
            if rows and ENDED not in (rows[0]["reason"] or ""):
                self._store.add_timing([(cell.key, [with_remark(row, ENDED) for row in rows], {})])

    def measured(self) -> list[Cell]:
        """Return the cells of which something is known, as they were measured."""
        return [self._rounds[key][level] for key, level in self._level.items() if level >= 0]
