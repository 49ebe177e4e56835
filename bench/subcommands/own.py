"""What is done with code of the user's: `gradmeter check`, `audit`, `new`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from typer import Argument, Option

from gradmeter.bench.subcommands.app import app, completing, folder_of


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
            autocompletion=completing("problems"),
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

    for path in scaffold.new(kind, name, folder_of(output)):
        typer.echo(path)
