"""Terminal output: progress bars, tables, and the handling of Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

#: Headings of numeric columns, which are aligned right.
RIGHT = ("S", "seconds")


@contextmanager
def bars(printing: bool) -> Iterator[Any]:
    """Provide progress bars if standard error is a terminal to which no rows are being printed; else None."""
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
    # Turn off rich's redirection, which would send rows for standard output to standard error.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar:
        yield bar


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = RIGHT) -> None:
    """Print a table on standard output, with the columns of the headings in `right` aligned right."""
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


@contextmanager
def stop_at_interrupt(current: str = "cell") -> Iterator[Any]:
    """Provide a function that tells whether Ctrl-C asked to stop after the current cell (or whatever `current` names).

    A second Ctrl-C stops at once.
    """
    asked = False

    def handle(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        print(f"gradmeter: finishing the current {current}; Ctrl-C again stops at once", file=sys.stderr)

    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
