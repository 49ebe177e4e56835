"""What a person sees while cells run: a progress bar on standard error, and a table at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gradmeter.bench.rows import ALL, Row
from gradmeter.bench.sweep.cells import Cell
from gradmeter.bench.sweep.run import Listener

if TYPE_CHECKING:
    from gradmeter.bench.comparison import Change, Comparison
    from gradmeter.bench.sweep.store import Store


#: Headings of columns of numbers.
RIGHT = ("S", "seconds")


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


@contextmanager
def bars(printing: bool) -> Iterator[Any]:
    """Progress bars, where standard error is a terminal on which nobody is `printing` rows; else None."""
    if not sys.stderr.isatty() or (printing and sys.stdout.isatty()):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    class Detail(TextColumn):
        def render(self, task: Any) -> Any:
            from rich.text import Text

            return Text(task.fields["detail"], overflow="ellipsis", no_wrap=True)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), Detail(""))
    # Not rich's redirection, which sends to standard error the rows that somebody reads from standard output.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        yield bar


def show_table(rows: list[Row]) -> None:
    """The `all` rows as a table on standard output."""
    from gradmeter.bench.report.names import telling_apart
    from gradmeter.bench.report.numbers import bias, interval, seconds, significant, verdict

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
    from gradmeter.bench.report.minibatch_table import HEADINGS, cells
    from gradmeter.bench.report.names import telling_apart

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
    from gradmeter.bench.report.numbers import times

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


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = RIGHT) -> None:
    """A table on standard output; columns of these headings are ranged right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(table)
