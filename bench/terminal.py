"""Terminal output: progress bars, tables, and the handling of Ctrl-C."""

from __future__ import annotations

import io
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gradmeter.bench.cells import Cell
from gradmeter.bench.durations import duration
from gradmeter.bench.rows import Row
from gradmeter.bench.sweep.listener import Listener, Stop
from gradmeter.bench.sweep.measuring import FAILED
from gradmeter.estimators.errors import printable

#: Seconds between two lines about progress.
BETWEEN_LINES = 30.0
#: Headings of numeric columns, which are aligned right.
RIGHT = ("S", "seconds")


@contextmanager
def bars(printing: bool) -> Iterator[Any]:
    """Provide progress bars in a notebook, or if standard error is a terminal to which no rows are being printed."""
    notebook = in_notebook()
    if not notebook and (not sys.stderr.isatty() or (printing and sys.stdout.isatty())):
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    class Detail(TextColumn):
        def render(self, task: Any) -> Any:
            from rich.text import Text

            return Text(printable(task.fields["detail"]), overflow="ellipsis", no_wrap=True)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), Detail(""))
    # Turn off rich's redirection, which would send rows for standard output to standard error.
    if notebook:
        yield _Notebook(Progress(*columns, console=Console(file=io.StringIO(), width=110, color_system=None)))
        return
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        yield bar


def in_notebook() -> bool:
    """Return whether the output of this process goes to a Jupyter notebook."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and type(get_ipython()).__name__ == "ZMQInteractiveShell"


class _Notebook:
    """The bars of rich, drawn as text in one output of a notebook. rich itself draws there with ipywidgets only."""

    def __init__(self, bars: Any) -> None:
        from IPython.display import Pretty, display

        self._bars, self._pretty, self._last = bars, Pretty, 0.0
        self._shown = display(Pretty(""), display_id=True)

    def add_task(self, description: str, **fields: Any) -> Any:
        task = self._bars.add_task(description, **fields)
        self._draw(at_once=True)
        return task

    def update(self, task: Any, **fields: Any) -> None:
        self._bars.update(task, **{name: value for name, value in fields.items() if name != "refresh"})
        self._draw()

    def advance(self, task: Any) -> None:
        self._bars.advance(task)
        self._draw(at_once=True)

    def _draw(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._last > 0.2:
            self._last = now
            with self._bars.console.capture() as text:
                self._bars.console.print(self._bars.get_renderable())
            self._shown.update(self._pretty(text.get()))


class _Counting(Listener):
    """Counts cells, and passes rows on."""

    def __init__(self, cells: int, rows: Listener) -> None:
        self._cells, self._rows = cells, rows
        self._ended = self._new = self._failed = 0
        self._since = time.monotonic()

    def cell_finished(self, cell: Cell, rows: list[Row], new: bool) -> None:
        self._ended += 1
        self._new += new
        self._failed += rows[0]["status"] in FAILED
        self._rows.cell_finished(cell, rows, new)

    def pace(self) -> str:
        """Return the rate, the time left and the failures so far, in words."""
        rate, said = self._new / max(1e-9, time.monotonic() - self._since), []
        if self._new > 1:
            left = (self._cells - self._ended) / rate
            said = [f"{rate:.3g} a second", f"{duration(left)} left" if left else ""]
        return ", ".join(filter(None, [*said, f"{self._failed:,} failed" if self._failed else ""]))


class _Bar(_Counting):
    """Feeds a rich progress bar."""

    def __init__(self, bar: Any, cells: int, rows: Listener) -> None:
        super().__init__(cells, rows)
        self._bar = bar
        self._task = bar.add_task("measuring", total=cells, detail="")
        self._label = ""

    def cell_started(self, cell: Cell) -> None:
        self._label = cell.label()
        self._show(refresh=True)

    def replicates(self, count: int) -> None:
        self._show(f"{count:,} replicates")

    def _show(self, more: str = "", refresh: bool = False) -> None:
        detail = " · ".join(filter(None, [self.pace(), self._label, more]))
        self._bar.update(self._task, detail=detail, refresh=refresh)

    def cell_finished(self, cell: Cell, rows: list[Row], new: bool) -> None:
        self._bar.advance(self._task)
        super().cell_finished(cell, rows, new)

    def timing_started(self, cells: int, rounds: int) -> None:
        self._bar.update(self._task, detail="")
        self._task = self._bar.add_task("timing", total=rounds, detail=f"compiling {cells} cells")

    def timing_round(self, number: int) -> None:
        self._bar.update(self._task, completed=number, detail="interleaved rounds")


class _Lines(_Counting):
    """Prints a line now and then, where there is no terminal."""

    _last = 0.0

    def cell_finished(self, cell: Cell, rows: list[Row], new: bool) -> None:
        super().cell_finished(cell, rows, new)
        if time.monotonic() - max(self._since, self._last) > BETWEEN_LINES:
            self._last = time.monotonic()
            said = ", ".join(filter(None, [f"{self._ended:,} of {self._cells:,} cells", self.pace()]))
            print(f"gradmeter: {said}", file=sys.stderr)


@contextmanager
def progress(cells: list[Cell], rows: Listener, printing: bool) -> Iterator[Listener]:
    """Yield a listener that shows a progress bar, or lines where there is no terminal.

    Parameters
    ----------
    cells
        Cells of the run.
    rows
        Listener that everything is passed on to.
    printing
        Whether result rows are printed, too.
    """
    with bars(printing) as shown:
        yield _Lines(len(cells), rows) if shown is None else _Bar(shown, len(cells), rows)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = RIGHT) -> None:
    """Print a table on standard output, with the columns of the headings in `right` aligned right.

    Parameters
    ----------
    headings
        Headings of the columns.
    rows
        Cells of every row.
    right
        Headings of the columns that are aligned right.
    """
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=200)
    console.print(make_table(headings, rows, right))


def make_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = RIGHT) -> Any:
    """Return a table for rich to print."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


class Interrupts(Stop):
    """Whether Ctrl-C, or a signal that ends processes, asked to stop.

    Parameters
    ----------
    current
        What is finished first, such as `step`, until a second signal; None if a run stops at once.
    """

    def __init__(self, current: str | None = None) -> None:
        self._current, self._asked, self._raising = current, False, False

    def __call__(self) -> bool:
        return self._asked

    def raised(self) -> bool:
        return self._asked

    @contextmanager
    def at_once(self) -> Iterator[None]:
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def _handle(self, number: int, frame: Any) -> None:
        again, self._asked = self._asked, True
        if self._raising or (again and self._current is not None):
            raise KeyboardInterrupt
        if not again and self._current is not None:
            print(f"gradmeter: finishing the current {self._current}; Ctrl-C again stops at once", file=sys.stderr)

    @contextmanager
    def heard(self) -> Iterator[Interrupts]:
        """Listen to signals."""
        names = ("SIGINT", "SIGTERM", "SIGHUP")
        before = {s: signal.signal(s, self._handle) for name in names if (s := getattr(signal, name, None)) is not None}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
