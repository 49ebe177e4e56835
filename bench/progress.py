"""What a person sees while cells run: a progress bar on standard error, and a table at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradmeter.bench.cells import Cell
from gradmeter.bench.rows import ALL, Row
from gradmeter.bench.sweep.listener import Listener
from gradmeter.bench.terminal import bars, print_table

if TYPE_CHECKING:
    from gradmeter.bench.comparison import Change, Comparison
    from gradmeter.bench.sweep.store import Store


class _Bar(Listener):
    """Feeds a rich progress bar, and passes rows on."""

    def __init__(self, bar: Any, cells: int, rows: Listener) -> None:
        self._bar, self._rows = bar, rows
        self._task = bar.add_task("measuring", total=cells, detail="")
        self._label = ""

    def cell_started(self, cell: Cell) -> None:
        self._label = cell.label()
        self._bar.update(self._task, detail=self._label, refresh=True)

    def replicates(self, count: int) -> None:
        self._bar.update(self._task, detail=f"{self._label} · {count:,} replicates")

    def cell_finished(self, cell: Cell, rows: list[Row], new: bool) -> None:
        self._bar.advance(self._task)
        self._rows.cell_finished(cell, rows, new)

    def timing_started(self, cells: int, rounds: int) -> None:
        self._bar.update(self._task, detail="")
        self._task = self._bar.add_task("timing", total=rounds, detail=f"compiling {cells} cells")

    def timing_round(self, number: int) -> None:
        self._bar.update(self._task, completed=number, detail="interleaved rounds")


@contextmanager
def progress(cells: list[Cell], rows: Listener, printing: bool) -> Iterator[Listener]:
    """A listener that shows a progress bar where there is one; passes on to `rows`."""
    with bars(printing) as shown:
        yield rows if shown is None else _Bar(shown, len(cells), rows)


def show_table(rows: list[Row]) -> None:
    """The `all` rows as a table on standard output."""
    from gradmeter.bench.reading.names import telling_apart
    from gradmeter.bench.reading.numbers import bias, interval, seconds, significant, verdict

    table, named = [], telling_apart(rows)
    for row in rows:
        if row["block"] != ALL:
            continue
        known, variance = row["status"], row["reason"] or ""
        if row["status"] == "ok":
            known = f"{verdict(row['verdict'])} {bias(row)}".rstrip()
            variance = f"{significant(row['variance'])}  {interval(row['variance_low'], row['variance_high'])}"
            variance += "" if row["variance_flag"] == "ok" else f" {row['variance_flag']}"
        cell = (*named(row), row["backend"], str(row["num_samples"]))
        table.append((*cell, known, variance, seconds(row["seconds"])))
    print_table(("problem", "estimator", "backend", "S", "bias", "variance", "seconds"), table)


def show_parts(rows: list[Row], store: Store) -> None:
    """What of the variance is that of the samples of z, and what the minibatch's, as a table on standard output."""
    from gradmeter.bench.measurement.decomposition import from_series
    from gradmeter.bench.reading.names import telling_apart
    from gradmeter.bench.report.minibatch_table import HEADINGS, cells

    table, named = [], telling_apart(rows)
    for row in rows:
        parts = from_series(store.series(row["cell_key"])) if row["block"] == ALL else None
        if parts is not None:
            cell = (*named(row), row["backend"], str(row["num_samples"]))
            table.append((*cell, *cells(parts)))
    if table:
        print("\nvariance in parts")
        print_table(("problem", "estimator", "backend", *HEADINGS[1:]), table)


def show_comparison(comparison: Comparison) -> None:
    """What became of every cell that two stores share, as a table on standard output, and what to make of it."""
    from gradmeter.bench.comparison import METRICS, WORDS
    from gradmeter.bench.reading.numbers import times

    def told(change: Change, metric: str) -> str:
        ratio = change.ratios.get(metric)
        if ratio is None:
            return "" if change in comparison.backends else change.word(metric)
        flag = "" if ratio.sure else " (flagged)"
        return f"{change.word(metric)} {times(ratio.value, ratio.low, ratio.high)}{flag}"

    changes = (*comparison.cells, *comparison.backends)
    print_table(("cell", *METRICS), [(c.label, *(told(c, metric) for metric in METRICS)) for c in changes])
    counts = ", ".join(
        f"{sum(c.word(metric) == word for c in comparison.cells)} {word}{' variable' if metric == 'variance' else ''}"
        for metric, words in WORDS.items()
        for word in words
    )
    print(f"{len(comparison.cells)} cells: {counts}")
    for sentence in (*comparison.floors, *comparison.remarks):
        print(sentence)
    for which, cells in zip(("before", "after"), comparison.alone, strict=True):
        for cell in cells:
            print(f"measured only {which}: {cell}")
    for cell in comparison.failed:
        print(f"failed after: {cell}")
