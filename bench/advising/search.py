"""Spend a time on finding the best of several cells: on those that may still be the best.

All cells are measured with few replicates. Those whose variance does not rule them out are timed together. Then the
best one and those not significantly worse are measured anew with four times as many replicates, and timed again, as
long as there is time and the order is not settled.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from gradmeter.bench.advising.agreement import worded
from gradmeter.bench.cells import Cell
from gradmeter.bench.measurement.prepared import Prepared
from gradmeter.bench.reading.ratios import Ratio
from gradmeter.bench.reading.results import Result, cleaned, load
from gradmeter.bench.report.ranking import Ranking, rank
from gradmeter.bench.rows import Row
from gradmeter.bench.sweep.budget import Deadline
from gradmeter.bench.sweep.executors import Found, InThisProcess, Timed
from gradmeter.bench.sweep.listener import Listener, Stop
from gradmeter.bench.sweep.run import run
from gradmeter.bench.sweep.store import Store

#: Replicates that a cell may draw in the first round, and the factor from one round to the next.
FIRST, GROWTH = 2**12, 4
#: Part of the time for the first round; the timing and the later rounds need the rest.
SHARE = 0.55
#: Factor over the least variance × S beyond which a cell is not timed, unless it is the second best.
HOPELESS = 100.0
#: Candidates that have to be measured for a recommendation, if there are as many.
FEWEST_COMPARED = 2
#: Two cells are as good as equal if the upper end of their ratio's interval is below this.
CLOSE = 1.05
#: Up to this lower end, the order of two cells is not settled if a variance is flagged as unreliable.
FLAGGED = 3.0
#: Time of a replicate that is measured over its time in bulk.
OVERHEAD = 4.0
#: Times that a cell is compiled in a round.
COMPILED = 3
#: Columns and series that a cell keeps when it is measured anew.
COLUMNS = ("seconds", "seconds_low", "seconds_high", "latency", "latency_low", "latency_high", "compile_seconds")
SERIES = ("seconds", "latency", "reference", "process")


class Search:
    """The measurements of some cells, within a time.

    Attributes
    ----------
    ranking
        The order of the cells that were measured.
    missing
        The cells that there was no time for.
    """

    def __init__(self, cells: Sequence[Cell], seconds: float, store: Store) -> None:
        self._cells, self._store = cells, store
        self._end = time.monotonic() + seconds
        #: By number of the cell: the cell as it was measured last, and its rows.
        self._now: dict[int, tuple[Cell, list[Row]]] = {}
        with _Keeping() as executor:
            self._first(executor)
            self._time(executor)
            while wanted := self._next():
                self._again(wanted, executor)

    @property
    def rows(self) -> list[Row]:
        return [worded(row) for i in sorted(self._now) for row in self._now[i][1]]

    @property
    def missing(self) -> list[Cell]:
        return [cell for i, cell in enumerate(self._cells) if i not in self._now]

    @property
    def ranking(self) -> Ranking:
        """The one ranking of these cells; empty if there are none."""
        found, _ = load(self._store, map(cleaned, self.rows))
        return next(iter(rank(found)), Ranking(""))

    @property
    def settled(self) -> bool:
        """Whether the best cell is significantly better than all others, or as good as equal."""
        ranking = self.ranking
        return ranking.best is not None and not list(_open(ranking))

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _first(self, executor: InThisProcess) -> None:
        cells = [replace(c, stop_at=FIRST) if c.goals.max_replicates > FIRST else c for c in self._cells]
        deadline = Deadline(Stop(), SHARE * self._left())
        for i, cell in enumerate(cells):
            if i and deadline():
                break
            self._now[i] = cell, run([cell], self._store, False, executor=executor)

    def _time(self, executor: InThisProcess) -> None:
        found = {r["cell_key"]: r["variance"] * r["num_samples"] for r in self._results() if r.measured}
        if len(found) < FEWEST_COMPARED <= len(self._cells) and self.missing:
            return  # nothing is recommended
        least = HOPELESS * min((size for size in found.values() if size), default=0.0)
        ordered = sorted(found, key=lambda key: found[key])
        wanted = {*ordered[:2], *(key for key in ordered if found[key] <= least)}
        chosen = [i for i, (cell, _) in self._now.items() if cell.key in wanted]
        self._take(run([self._now[i][0] for i in chosen], self._store, executor=executor))

    def _results(self) -> list[Result]:
        return load(self._store, map(cleaned, self.rows))[0]

    def _next(self) -> list[int]:
        """Return the cells to measure anew.

        These are the cells whose order is open and those with a bias that too few replicates were left to confirm;
        none if the time is not enough.
        """
        ranking = self.ranking
        open_ = {r["cell_key"] for r in _open(ranking)}
        keys = {ranking.best["cell_key"], *open_} if ranking.best is not None and open_ else set()
        keys |= {c.key for c, rows in self._now.values() if _suspected(rows, c.goals.bias_bound)}
        wanted = [i for i, (c, _) in self._now.items() if c.key in keys and c.stop_at]
        takes = sum(_seconds(self._now[i][1]) for i in wanted)
        return wanted if takes < self._left() else []

    def _again(self, wanted: Sequence[int], executor: InThisProcess) -> None:
        for i in wanted:
            cell, before = self._now[i]
            assert cell.stop_at is not None
            more = GROWTH * max(cell.stop_at, before[0]["replicates"] or 0)
            new = replace(cell, stop_at=more if more < cell.goals.max_replicates else None)
            rows = [_timed(row, before[0]) for row in run([new], self._store, False, executor=executor)]
            if new.not_stored is None:
                series = {n: a for n, a in self._store.series(cell.key).items() if n in SERIES}
                self._store.add_timing([(new.key, rows, series)])
            self._now[i] = new, rows
        stored = [self._now[i][0] for i in wanted if self._now[i][0].not_stored is None]
        self._take(run(stored, self._store, executor=executor, time_again=True))

    def _take(self, rows: Iterable[Row]) -> None:
        """Take note of the rows of cells that are known."""
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(row["cell_key"], []).append(row)
        self._now = {i: (cell, found.get(cell.key, before)) for i, (cell, before) in self._now.items()}


def _open(ranking: Ranking) -> Iterator[Result]:
    """Yield the results that may be better than the best one, by more than a little."""
    best = ranking.best
    for result in ranking.ranked[1:]:
        ratio: Ratio | None = None if best is None else ranking.against(result, best)
        if ratio is None:
            continue
        undecided = round(ratio.low, 2) <= 1.0 and ratio.high > CLOSE
        flagged = best is not None and {best["variance_flag"], result["variance_flag"]} != {"ok"}
        if undecided or (flagged and ratio.low <= FLAGGED):
            yield result


def _suspected(rows: Sequence[Row], bound: float) -> bool:
    """Return whether the bias seems to be larger than the bound, and the verdict is still open."""
    whole = rows[-1]
    return whole["verdict"] == "inconclusive" and (whole["bias_low"] or 0.0) > bound


def _seconds(rows: Sequence[Row]) -> float:
    """Return the seconds that a cell will take in its next round, compilation and timing included."""
    row = rows[-1]
    return GROWTH * OVERHEAD * (row["replicates"] or 0) * (row["seconds"] or 0.0) + 3.0 * (
        row["compile_seconds"] or 0.0
    )


def _timed(row: Row, before: Row) -> Row:
    columns = {name: before[name] for name in COLUMNS}
    both = row["variance"] is not None and columns["seconds"] is not None
    return {**row, **columns, "work_normalised_variance": row["variance"] * columns["seconds"] if both else None}


class _Keeping(InThisProcess):
    """Keeps prepared cells from when they are measured until they are timed in a later run."""

    def __init__(self) -> None:
        self._prepared: dict[str, tuple[Cell, Prepared]] = {}

    def measure(self, cells: Iterable[Cell], listener: Listener, stop: Stop) -> Iterator[Found]:
        for found in super().measure(cells, listener, stop):
            prepared = None if found is None else getattr(found[1], "prepared", None)
            if found is not None and prepared is not None:
                self._prepared[found[0].key] = found[0], prepared
            yield found

    def time(self, cells: Sequence[Cell], listener: Listener, stop: Stop) -> Timed | None:
        for cell in cells:
            if cell.key in self._prepared:
                self._timer.add(*self._prepared[cell.key])
        self._prepared.clear()
        return super().time(cells, listener, stop)
