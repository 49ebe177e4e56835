"""`gradmeter list`: what there is."""

from __future__ import annotations

from typing import Annotated, Optional

import typer
from typer import Argument, Option

from gradmeter.bench.subcommands.app import PluginOption, app


@app.command("list")
def list_(
    kind: Annotated[
        Optional[str],
        Argument(
            metavar="KIND",
            help="problems, estimators, families, backends, suites, optimisers, methods, combinations (estimator × "
            "family × backend, with the reason where there is none) or columns (of results); without it, all but the "
            "last two",
        ),
    ] = None,
    json: Annotated[
        bool, Option("--json", help="one JSON object a line: kind, name, aliases, summary, options")
    ] = False,
    plugin: PluginOption = None,
) -> None:
    """Show what there is, with its options."""
    from gradmeter.bench import catalogue, plugin_files

    plugin_files.add(plugin)
    entries = catalogue.entries(kind)
    for line in catalogue.as_json(entries) if json else catalogue.as_text(entries):
        typer.echo(line)
