"""`gradmeter run`: measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

from typer import Argument, Option

from gradmeter.bench.subcommands.app import PluginOption, app, completing


@app.command()
def run(
    suite: Annotated[
        Optional[str],
        Argument(
            metavar="SUITE",
            help="a suite's name, or a TOML file; `quick` if nothing is given",
            autocompletion=completing("suites"),
        ),
    ] = None,
    problem: Annotated[
        Optional[list[str]],
        Option(
            metavar="P[k=v,...]",
            help="a problem, `name[option=value,...]`; repeat for a grid",
            autocompletion=completing("problems"),
        ),
    ] = None,
    estimator: Annotated[
        Optional[list[str]],
        Option(
            metavar="E[k=v,...]",
            help="an estimator, likewise; if absent, all that apply and are not biased by nature",
            autocompletion=completing("estimators"),
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
        backends={cell.backend for cell in cells},
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
        suite=suite,
    )
