"""The application that commands belong to, and the arguments that several of them take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Optional

import typer
from typer import Argument, Option

from gradmeter.estimators.errors import UsageError

app = typer.Typer(
    name="gradmeter",
    help="Measure stochastic gradient estimators: is it unbiased, how large is its variance, what does it cost?",
    epilog="First: `gradmeter run`, then `gradmeter report`. An argument such as `cosine[k=2.5]` is a name with "
    "options; `gradmeter list` shows both. Exit status: 0; 1 where a cell failed, a gate tripped, a check went "
    "wrong or an audit found a bias; 2 for bad usage; 3 where the disk is full; 130 after Ctrl-C.",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StoreArgument = Annotated[Optional[Path], Argument(metavar="STORE", help="the store (default .gradmeter/store.sqlite)")]
PluginOption = Annotated[
    Optional[list[Path]],
    Option("--plugin", metavar="FILE.py", help="a file whose estimators, families and problems may be named; repeat"),
]
StoreOption = Annotated[Optional[Path], Option("--store", metavar="PATH", help="the store, as of `gradmeter run`")]


def completing(kind: str) -> Callable[[str], list[str]]:
    """Return what completes a name of this kind for a shell."""

    def complete(incomplete: str) -> list[str]:
        from gradmeter.bench import catalogue

        return [name for name in catalogue.names(kind) if name.startswith(incomplete)]

    return complete


def one_store(argument: Path | None, option: Path | None) -> Path | None:
    """Return the store that is named by the argument or by the option."""
    if argument is not None and option is not None:
        raise UsageError(f"STORE and --store both name the store to read, {argument} and {option}; leave one out")
    return option if argument is None else argument


def folder_of(text: str) -> Path:
    """Return the folder that `--output` names."""
    if not text:
        raise UsageError("--output is empty; give a folder")
    return Path(text)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"gradmeter {metadata.version('gradmeter')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def gradmeter(
    context: typer.Context,
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True, help="show the version")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
