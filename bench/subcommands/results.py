"""What is done with stores: `gradmeter report`, `export`, `compare`, `merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

from typer import Argument, Option

from gradmeter.bench.subcommands.app import StoreArgument, StoreOption, app, folder_of, one_store


@app.command()
def report(
    store: StoreArgument = None,
    named: StoreOption = None,
    output: Annotated[
        str, Option(metavar="DIR", help="folder to write report.html, report.md and results.csv to")
    ] = "report",
) -> None:
    """Render a store as HTML, and its tables as Markdown."""
    from gradmeter.bench import commands

    commands.report(one_store(store, named), folder_of(output))


@app.command()
def export(
    store: StoreArgument = None,
    named: StoreOption = None,
    format: Annotated[str, Option(metavar="csv|parquet", help="what to write")] = "csv",
    output: Annotated[
        Optional[Path], Option(metavar="FILE", help="file to write (default: standard output for csv)")
    ] = None,
) -> None:
    """Write the rows of a store as CSV or Parquet."""
    from gradmeter.bench import commands

    commands.export(one_store(store, named), format, output)


@app.command()
def compare(
    before: Annotated[Path, Argument(metavar="BEFORE", help="the store to compare with", show_default=False)],
    after: Annotated[Path, Argument(metavar="AFTER", help="the store that is newer", show_default=False)],
    fail: Annotated[
        Optional[list[str]],
        Option(
            metavar="METRIC:RATIO",
            help="exit with status 1 where it grew past this, e.g. time:1.25 or variance:1.05; may repeat",
        ),
    ] = None,
    json: Annotated[bool, Option("--json", help="one JSON object a cell, and one a backend")] = False,
) -> int:
    """Compare two stores: what became slower or more variable.

    Or faster, or less variable: cell by cell, with intervals. Times are ratios to the reference workload timed in the
    same rounds of each store. A change is called where it is four standard errors from none; a gate trips where one is
    called and its interval reaches the limit.
    """
    from gradmeter.bench import commands

    return commands.compare(before, after, fail or [], json)


@app.command()
def merge(
    stores: Annotated[list[Path], Argument(metavar="STORE...", help="the stores, two or more", show_default=False)],
    output: Annotated[Path, Option(metavar="FILE", help="the new store", show_default=False)],
) -> None:
    """Put the cells of several stores into a new one.

    A cell that two of them hold with the same statistics is one cell, with the timing rounds of both if they were made
    on one machine. Where they differ, nothing is merged.
    """
    from gradmeter.bench import commands

    commands.merge(stores, output)
