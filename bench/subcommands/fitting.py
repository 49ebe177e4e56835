"""`gradmeter fit`: maximise an objective."""

from __future__ import annotations

from typing import Annotated, Optional

import typer
from typer import Argument, Option

from gradmeter.bench.subcommands.app import PluginOption, app, completing, folder_of


@app.command()
def fit(
    context: typer.Context,
    problem: Annotated[
        str,
        Argument(
            metavar="PROBLEM",
            help="a problem, `name[option=value,...]`",
            show_default=False,
            autocompletion=completing("problems"),
        ),
    ],
    estimator: Annotated[
        Optional[list[str]],
        Option(
            metavar="E[k=v,...]",
            help="an estimator of the gradient; may repeat (by default pathwise and "
            "score-function[baseline=leave-one-out], for a bound iwae and dreg; none beside a method)",
            autocompletion=completing("estimators"),
        ),
    ] = None,
    method: Annotated[
        Optional[list[str]],
        Option(
            metavar="M[k=v,...]",
            help="an exact method: em, cavi or svi; may repeat",
            autocompletion=completing("methods"),
        ),
    ] = None,
    optimiser: Annotated[
        Optional[list[str]],
        Option(metavar="sgd|adam|natural|von|iblr", help="what follows the gradient (default adam)"),
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

    folder = folder_of(output)
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
