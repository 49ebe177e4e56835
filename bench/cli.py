"""The command line. Rows go to standard output, everything else to standard error; an error is one plain line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer import Argument, Option

from estimators.errors import UsageError, unknown

FAILED, USAGE, DISK_FULL, INTERRUPTED = 1, 2, 3, 130

app = typer.Typer(
    name="gradvar",
    help="Measure stochastic gradient estimators: is it unbiased, how large is its variance, what does it cost?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StoreArgument = Annotated[Optional[Path], Argument(help="the store (default .gradvar/store.sqlite)")]


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"gradvar {metadata.version('gradvar')}")
        raise typer.Exit


@app.callback()
def gradvar(
    version: Annotated[bool, Option("--version", callback=_version, is_eager=True, help="show the version")] = False,
) -> None:
    pass


@app.command("list")
def list_(
    kind: Annotated[
        Optional[str], Argument(help="problems, estimators, families, backends, suites or combinations")
    ] = None,
    json: Annotated[bool, Option("--json", help="one JSON object a line: kind, name, summary, options")] = False,
) -> None:
    """Show what there is."""
    from bench import catalogue

    entries = catalogue.entries(kind)
    for line in catalogue.as_json(entries) if json else catalogue.as_text(entries):
        typer.echo(line)


@app.command()
def run(
    suite: Annotated[
        Optional[str], Argument(help="a suite's name, or a TOML file; `quick` if nothing is given")
    ] = None,
    problem: Annotated[
        Optional[list[str]], Option(help="a problem, `name[option=value,...]`; repeat for a grid")
    ] = None,
    estimator: Annotated[Optional[list[str]], Option(help="an estimator, likewise; all that apply if absent")] = None,
    backend: Annotated[Optional[list[str]], Option(help="numpy, torch or jax; repeat for several")] = None,
    device: Annotated[Optional[list[str]], Option(help="cpu or cuda")] = None,
    dtype: Annotated[Optional[list[str]], Option(help="float64 or float32")] = None,
    samples: Annotated[Optional[list[str]], Option(help="S, samples an estimate; every draw counts")] = None,
    seed: Annotated[Optional[list[str]], Option(help="seed of the noise (default 0)")] = None,
    precision: Annotated[
        Optional[str], Option(help="half-width of log variance at 95 % to reach (default 0.05)")
    ] = None,
    bias_bound: Annotated[Optional[str], Option(help="certified relative bias to reach (default 0.01)")] = None,
    max_replicates: Annotated[
        Optional[str], Option(help="where to stop regardless (default 2^20; whole blocks, at least 64)")
    ] = None,
    noise: Annotated[Optional[str], Option(help="native: each framework's generator; shared: NumPy's draws")] = None,
    no_timing: Annotated[bool, Option("--no-timing", help="leave the timing columns empty")] = False,
    store: Annotated[Optional[Path], Option(help="where results are kept (default .gradvar/store.sqlite)")] = None,
    json: Annotated[bool, Option("--json", help="rows on standard output, one JSON object a line")] = False,
) -> None:
    """Measure estimators. Cells already in the store are shown, not measured again."""
    from bench import commands

    cells = commands.plan(
        suite, problem, estimator, backend, device, dtype, samples, seed, precision, bias_bound, max_replicates, noise
    )
    raise typer.Exit(commands.run(cells, store, timing=not no_timing, json=json))


@app.command()
def report(
    store: StoreArgument = None,
    output: Annotated[Path, Option(help="folder to write report.html, report.md and results.csv to")] = Path("report"),
) -> None:
    """Render what a store holds as one HTML page, and its tables as Markdown."""
    from bench import commands

    commands.report(store, output)


@app.command()
def export(
    store: StoreArgument = None,
    format: Annotated[str, Option(help="csv or parquet")] = "csv",
    output: Annotated[Optional[Path], Option(help="file to write (default: standard output for csv)")] = None,
) -> None:
    """Write the rows of a store as CSV or Parquet."""
    from bench import commands

    commands.export(store, format, output)


def fail(message: str, status: int) -> int:
    """The one way an error is shown."""
    print(f"gradvar: error: {' '.join(message.split())}", file=sys.stderr)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    command = typer.main.get_command(app)
    try:
        result: Any = command.main(list(arguments) if arguments is not None else None, "gradvar", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except UsageError as error:
        return fail(str(error), USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return fail("interrupted; finished rows are kept, the same command goes on from there", INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away: no complaint at exit
        return 0
    except _usage_exception() as error:
        return fail(_click_message(error), USAGE)
    except OSError as error:
        from bench.sweep.store import DiskFull

        return fail(str(error), DISK_FULL if isinstance(error, DiskFull) or error.errno == 28 else FAILED)


def _usage_exception() -> type[Exception]:
    """typer's base class of usage errors, wherever this version of it keeps it."""
    return next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _click_message(error: Any) -> str:
    """A usage error in one line, naming the nearest right option or command."""
    context = getattr(error, "ctx", None)
    wrong = getattr(error, "option_name", None)
    if wrong is not None and context is not None and type(error).__name__ == "NoSuchOption":
        return str(
            unknown("option", wrong, [name for p in context.command.params for name in p.opts if name[:2] == "--"])
        )
    message = error.format_message()
    if message.startswith("No such command"):
        return str(unknown("command", message.split("'")[1], ["list", "run", "report", "export"]))
    return message.rstrip(".") + "; see gradvar --help"


if __name__ == "__main__":
    sys.exit(main())
