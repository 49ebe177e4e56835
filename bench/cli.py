"""The command line. Rows go to standard output, everything else to standard error; an error is one plain line."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn, Optional

import typer
from typer import Argument, Option

from gradmeter.estimators.errors import UsageError, printable, unknown

USAGE, DISK_FULL, INTERRUPTED = 2, 3, 130
LONGEST_MESSAGE = 1000
#: Set by the shells' completion.
COMPLETION = "_GRADMETER_COMPLETE"
#: By command, what an interrupted one leaves.
KEPT = {
    "run": "; finished rows are kept, the same command goes on from there",
    "fit": "; if there are checkpoints, the same command with --resume goes on from them",
}

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


def _completing(kind: str) -> Callable[[str], list[str]]:
    """Return what completes a name of this kind for a shell."""

    def complete(incomplete: str) -> list[str]:
        from gradmeter.bench import catalogue

        return [name for name in catalogue.names(kind) if name.startswith(incomplete)]

    return complete


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


@app.command()
def run(
    suite: Annotated[
        Optional[str],
        Argument(
            metavar="SUITE",
            help="a suite's name, or a TOML file; `quick` if nothing is given",
            autocompletion=_completing("suites"),
        ),
    ] = None,
    problem: Annotated[
        Optional[list[str]],
        Option(
            metavar="P[k=v,...]",
            help="a problem, `name[option=value,...]`; repeat for a grid",
            autocompletion=_completing("problems"),
        ),
    ] = None,
    estimator: Annotated[
        Optional[list[str]],
        Option(
            metavar="E[k=v,...]",
            help="an estimator, likewise; if absent, all that apply and are not biased by nature",
            autocompletion=_completing("estimators"),
        ),
    ] = None,
    backend: Annotated[
        Optional[list[str]], Option(metavar="numpy|torch|jax", help="repeat for several (default numpy)")
    ] = None,
    device: Annotated[Optional[list[str]], Option(metavar="cpu|cuda", help="where it computes (default cpu)")] = None,
    dtype: Annotated[
        Optional[list[str]], Option(metavar="float64|float32", help="precision of its arithmetic (default float64)")
    ] = None,
    samples: Annotated[
        Optional[list[str]],
        Option(
            metavar="S", help="samples an estimate; every draw counts (default: the least that the estimator takes)"
        ),
    ] = None,
    seed: Annotated[Optional[list[str]], Option(metavar="N", help="seed of the noise (default 0)")] = None,
    precision: Annotated[
        Optional[str], Option(metavar="0.05", help="half-width of log variance at 95 % to reach (default 0.05)")
    ] = None,
    bias_bound: Annotated[
        Optional[str], Option(metavar="0.01", help="certified relative bias to reach (default 0.01)")
    ] = None,
    max_replicates: Annotated[
        Optional[str], Option(metavar="N", help="the most replicates drawn for a verdict (default 2^20; at least 64)")
    ] = None,
    noise: Annotated[
        Optional[str], Option(metavar="native|shared", help="native: each framework's generator; shared: NumPy's draws")
    ] = None,
    no_timing: Annotated[bool, Option("--no-timing", help="leave the timing columns empty")] = False,
    time_again: Annotated[
        bool, Option("--time-again", help="time cells that are in the store once more, in this process; both count")
    ] = False,
    minibatch_parts: Annotated[
        bool, Option("--minibatch-parts", help="split the variance where a batch is drawn; also in the report")
    ] = False,
    store: Annotated[
        Optional[Path], Option(metavar="PATH", help="where results are kept (default .gradmeter/store.sqlite)")
    ] = None,
    budget: Annotated[
        Optional[str],
        Option(
            metavar="TIME",
            help="measure for this time, such as 10m, the least certain cells most (default: each until it is certain)",
        ),
    ] = None,
    plan: Annotated[bool, Option("--plan", help="show cells, time and memory, and run nothing")] = False,
    yes: Annotated[bool, Option("--yes", help="run more than 100,000 cells without asking")] = False,
    workers: Annotated[
        Optional[str],
        Option(metavar="N", help="processes that measure at the same time (default: one a processor, at most 4)"),
    ] = None,
    cell_timeout: Annotated[
        Optional[str], Option(metavar="TIME", help="end a cell after this time, such as 90s or 10m (default: never)")
    ] = None,
    cell_memory: Annotated[
        Optional[str], Option(metavar="SIZE", help="memory that a cell may take, such as 2G (default: no limit)")
    ] = None,
    scheduler: Annotated[
        Optional[str], Option(metavar="ADDRESS", help="measure on the Dask cluster of this scheduler")
    ] = None,
    dask_local: Annotated[
        Optional[str], Option(metavar="N", help="measure on a Dask cluster of N workers on this machine")
    ] = None,
    in_process: Annotated[
        bool, Option("--in-process", help="measure in this process, where a debugger sees it and a crash ends the run")
    ] = False,
    retry: Annotated[
        Optional[str],
        Option(metavar="STATUS,...", help="measure stored cells of these statuses again, e.g. crashed,timeout"),
    ] = None,
    plugin: PluginOption = None,
    json: Annotated[bool, Option("--json", help="rows on standard output, one JSON object a line")] = False,
) -> int:
    """Measure estimators. Cells already in the store are shown, not measured again.

    Options that repeat make a grid; beside a SUITE they choose among its cells. For example:

    gradmeter run --problem 'cosine[k=2.5]' --estimator pathwise --backend jax
    """
    if not in_process:
        from gradmeter.bench.sweep import server

        server.start_server()  # it imports what measuring takes while this process plans
    from gradmeter.bench import commands, durations, plugin_files
    from gradmeter.bench.sweep import choosing

    plugin_files.add(plugin)
    cells = commands.plan(
        suite,
        problem=problem,
        estimator=estimator,
        backend=backend,
        device=device,
        dtype=dtype,
        samples=samples,
        seed=seed,
        precision=precision,
        bias_bound=bias_bound,
        max_replicates=max_replicates,
        noise=noise,
        most=None if yes or plan else commands.MOST_CELLS,
    )
    split = minibatch_parts or commands.splits(suite, cells)
    executor = choosing.executor(
        workers=workers,
        cell_timeout=cell_timeout,
        cell_memory=cell_memory,
        scheduler=scheduler,
        dask_local=dask_local,
        in_process=in_process,
        plugins=plugin or (),
        cells=len(cells),
    )
    if plan:
        commands.show_plan(cells, store, executor.width, timing=not no_timing)
        return 0
    return commands.run(
        cells,
        store,
        executor,
        budget=None if budget is None else durations.seconds("budget", budget),
        timing=not no_timing,
        time_again=time_again,
        minibatch_parts=split,
        retry=retry,
        json=json,
    )


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

    commands.report(_one_store(store, named), _folder(output))


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

    commands.export(_one_store(store, named), format, output)


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


@app.command()
def fit(
    context: typer.Context,
    problem: Annotated[
        str,
        Argument(
            metavar="PROBLEM",
            help="a problem, `name[option=value,...]`",
            show_default=False,
            autocompletion=_completing("problems"),
        ),
    ],
    estimator: Annotated[
        Optional[list[str]],
        Option(
            metavar="E[k=v,...]",
            help="an estimator of the gradient; may repeat (by default pathwise and "
            "score-function[baseline=leave-one-out], for a bound iwae and dreg; none beside a method)",
            autocompletion=_completing("estimators"),
        ),
    ] = None,
    method: Annotated[
        Optional[list[str]],
        Option(
            metavar="M[k=v,...]",
            help="an exact method: em, cavi or svi; may repeat",
            autocompletion=_completing("methods"),
        ),
    ] = None,
    optimiser: Annotated[
        Optional[list[str]], Option(metavar="sgd|adam|natural", help="what follows the gradient (default adam)")
    ] = None,
    learning_rate: Annotated[
        Optional[list[str]], Option(metavar="RATE", help="the optimiser's first step size")
    ] = None,
    steps: Annotated[Optional[str], Option(metavar="N", help="iterations (default 1000; of vae 2000)")] = None,
    samples: Annotated[Optional[list[str]], Option(metavar="S", help="samples an estimate (default 10)")] = None,
    backend: Annotated[
        Optional[list[str]], Option(metavar="numpy|torch|jax", help="repeat for several (default numpy)")
    ] = None,
    device: Annotated[Optional[str], Option(metavar="cpu|cuda", help="where it computes (default cpu)")] = None,
    dtype: Annotated[
        Optional[str], Option(metavar="float64|float32", help="precision of its arithmetic (default float64)")
    ] = None,
    noise: Annotated[
        Optional[str], Option(metavar="native|shared", help="native: each framework's generator; shared: NumPy's draws")
    ] = None,
    seed: Annotated[Optional[list[str]], Option(metavar="N", help="seed of the noise (default 0)")] = None,
    every: Annotated[
        Optional[str], Option(metavar="M", help="iterations between rows (default: ever more of them)")
    ] = None,
    replicates: Annotated[
        Optional[str],
        Option(metavar="R", help="replicates to measure the variance by, 0 for none (default 1024)"),
    ] = None,
    checkpoint: Annotated[
        Optional[str],
        Option(metavar="N", help="iterations between checkpoints (default: a tenth of them, 1000 at most)"),
    ] = None,
    resume: Annotated[bool, Option("--resume", help="go on from the checkpoints in --output")] = False,
    refit: Annotated[
        Optional[str], Option(metavar="N", help="iterations between warm-ups of an estimator that learns (default 100)")
    ] = None,
    output: Annotated[str, Option(metavar="DIR", help="folder to write rows, parameters and the page to")] = "fit",
    plugin: PluginOption = None,
    json: Annotated[bool, Option("--json", help="rows on standard output, one JSON object a line")] = False,
) -> int:
    """Maximise an objective by estimators and exact methods.

    They run side by side from the problem's λ; rows, parameters and a page with the curves are written to --output.
    Ctrl-C keeps what was fitted; the same command with --resume goes on from there. For example:

    gradmeter fit 'bayesian-gaussian-mixture[at=start]' --method cavi --method svi
    """
    from gradmeter.bench import plugin_files
    from gradmeter.bench.fit import command

    folder = _folder(output)
    plugin_files.add(plugin)
    found = command.plans(
        problem,
        estimator=estimator,
        method=method,
        optimiser=optimiser,
        learning_rate=learning_rate,
        samples=samples,
        backend=backend,
        device=device,
        dtype=dtype,
        noise=noise,
        seed=seed,
        steps=steps,
        every=every,
        replicates=replicates,
        refit=refit,
        checkpoint=checkpoint,
    )
    return command.fit(found, folder, json, context.obj, resume)


@app.command()
def check(
    target: Annotated[
        str,
        Argument(
            metavar="TARGET",
            help="`module:Class`, `path.py:Class`, or `path.py` for all in it; with default options",
            show_default=False,
        ),
    ],
    json: Annotated[bool, Option("--json", help="one JSON object a check: kind, name, check, status, message")] = False,
) -> int:
    """Check a family, an integrand, a problem or an estimator of yours.

    Derivatives are compared with numerical ones, samples with the density, an exact gradient with E f worked out in
    another way; of an estimator only the form (its attributes, and the arguments of its methods), for its estimates
    are checked where it is measured. Each check is `ok`, `wrong` or `not checked`; exit status 1 where one is wrong.
    For example:

    gradmeter check mine.py:MyFamily
    """
    from gradmeter.bench.checks import command

    return command.run(target, json)


@app.command()
def audit(
    targets: Annotated[
        list[str],
        Argument(
            metavar="TARGET...",
            help="functions that return a gradient: `module:function` or `path.py:function`",
            show_default=False,
        ),
    ],
    exact: Annotated[
        Optional[str],
        Option(metavar="FILE.npz", help="reference: the exact gradient, as a file of arrays or as module:name"),
    ] = None,
    problem: Annotated[
        Optional[str],
        Option(
            metavar="P[k=v,...]",
            help="reference: a problem with its exact gradient",
            autocompletion=_completing("problems"),
        ),
    ] = None,
    objective: Annotated[
        Optional[str],
        Option(metavar="MODULE:FUNCTION", help="reference: a deterministic function of the parameters, differentiated"),
    ] = None,
    against: Annotated[
        Optional[str], Option(metavar="MODULE:FUNCTION", help="reference: another gradient; do the two agree?")
    ] = None,
    parameters: Annotated[
        Optional[str],
        Option(metavar="FILE.npz", help="the gradient's first argument, as a file of arrays or as module:name"),
    ] = None,
    backend: Annotated[
        Optional[str], Option(metavar="auto|numpy|torch|jax", help="the gradient's framework (default auto)")
    ] = None,
    rng: Annotated[
        Optional[str],
        Option(
            metavar="auto|key|generator|seed|global",
            help="the randomness that it takes; global: nothing, the global generators are seeded (default auto)",
        ),
    ] = None,
    samples: Annotated[
        Optional[str], Option(metavar="S", help="passed on as num_samples if it takes that; helps to name a fault")
    ] = None,
    seconds: Annotated[Optional[str], Option(metavar="T", help="the most seconds for each (default 30)")] = None,
    replicates: Annotated[
        Optional[str], Option(metavar="N", help="the most gradients of each (default 2^20; at least 64)")
    ] = None,
    bias_bound: Annotated[
        Optional[str], Option(metavar="0.01", help="certified relative bias to reach (default 0.01)")
    ] = None,
    precision: Annotated[
        Optional[str], Option(metavar="0.05", help="half-width of log variance at 95 % to reach (default 0.05)")
    ] = None,
    seed: Annotated[Optional[str], Option(metavar="N", help="seed of all randomness (default 0)")] = None,
    store: Annotated[Optional[Path], Option(metavar="PATH", help="store to add the rows to (default: none)")] = None,
    strict: Annotated[bool, Option("--strict", help="exit with status 1 where a verdict is inconclusive, too")] = False,
    json: Annotated[bool, Option("--json", help="one JSON object a gradient")] = False,
) -> int:
    """Audit gradients of yours, or of a library: biased or not, and how variable?

    A gradient is a function `f(rng)`, or `f(parameters, rng)`, that returns arrays. Exit status 1 where one is biased,
    or disagrees with --against. For example:

    gradmeter audit mine.py:gradient --problem 'square[k=2]' --seconds 10
    """
    from gradmeter.bench.audit import command

    return command.run(
        targets,
        exact=exact,
        problem=problem,
        objective=objective,
        against=against,
        parameters=parameters,
        backend=backend,
        rng=rng,
        samples=samples,
        seconds=seconds,
        replicates=replicates,
        bias_bound=bias_bound,
        precision=precision,
        seed=seed,
        store=store,
        strict=strict,
        json=json,
    )


@app.command()
def new(
    kind: Annotated[str, Argument(metavar="KIND", help="estimator", show_default=False)],
    name: Annotated[str, Argument(metavar="NAME", help="its name, such as my-own", show_default=False)],
    output: Annotated[str, Option(metavar="DIR", help="folder to write the two files to")] = ".",
) -> None:
    """Write the file of a new estimator, and tests that it passes once its formula is filled in. For example:

    gradmeter new estimator my-own
    """
    from gradmeter.bench import scaffold

    for path in scaffold.new(kind, name, _folder(output)):
        typer.echo(path)


def _one_store(argument: Path | None, option: Path | None) -> Path | None:
    if argument is not None and option is not None:
        raise UsageError(f"STORE and --store both name the store to read, {argument} and {option}; leave one out")
    return option if argument is None else argument


def _folder(text: str) -> Path:
    if not text:
        raise UsageError("--output is empty; give a folder")
    return Path(text)


def fail(message: str, status: int) -> int:
    """The one way an error is shown: a line, its middle left out where somebody's input made it endless."""
    line = " ".join(printable(message).split())
    if len(line) > LONGEST_MESSAGE:
        line = f"{line[: LONGEST_MESSAGE // 2]} … {line[-LONGEST_MESSAGE // 2 :]}"
    print(f"gradmeter: error: {line}", file=sys.stderr)
    return status


class _Messages(io.TextIOWrapper):
    """Standard error, where a full disk or a reader that has gone changes no exit status."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return len(text)


def script() -> NoReturn:
    """`gradmeter` as a process. After Ctrl-C it waits for no thread: one that compiles would delay it, or abort it."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if sys.stderr is not None:
            sys.stderr = _Messages(sys.stderr.buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)
        if COMPLETION in os.environ:  # a shell asks what completes a line; typer answers and exits
            app(prog_name="gradmeter")
        status = main()
    except KeyboardInterrupt:
        status = fail("interrupted", INTERRUPTED)
    if status == INTERRUPTED:
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(status)
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    _prepare_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    # Not command.main(), which exits the process at a broken pipe and has an exit status of its own for it.
    try:
        with command.make_context("gradmeter", list(given), obj=given) as context:
            status = command.invoke(context) or 0
        sys.stdout.flush()
        return int(status)
    except typer.Exit as done:
        return done.exit_code
    except UsageError as error:
        return fail(str(error), USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return fail("interrupted" + KEPT.get(given[0] if given else "", ""), INTERRUPTED)
    except BrokenPipeError:  # the reader has seen enough: no complaint, not at exit either
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return 0
    except _usage_exception() as error:
        return fail(_click_message(error, " ".join(["gradmeter", *given[:1]])), USAGE)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return fail(f"no room to write: {error.strerror}", DISK_FULL)
        return fail(str(error), USAGE)


def _prepare_streams() -> None:
    """A closed stream swallows what is written; every other one takes any text, whatever the locale says."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def _usage_exception() -> type[Exception]:
    """typer's base class of usage errors, wherever this version of it keeps it."""
    return next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _click_message(error: Any, path: str) -> str:
    """A usage error of the command `path` in one line, naming the nearest right option or command."""
    message, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
    if context is not None and type(error).__name__ == "NoSuchOption":
        options = [name for p in context.command.params for name in p.opts if name.startswith("--")]
        return str(unknown("option", error.option_name, options, f"{context.command_path} --help"))
    if context is not None and message.startswith("No such command"):
        return str(unknown("command", message.split("'")[1], context.command.list_commands(context)))
    return f"{message}; see {path} --help"


if __name__ == "__main__":
    script()
