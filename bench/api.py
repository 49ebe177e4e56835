"""`gradmeter.measure`: the rows of the command line as a data frame, for notebooks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from gradmeter.bench.cells import NOISES, Cell, StoppingCriteria, check_choice, grid, values_of
from gradmeter.bench.checks.checking import check
from gradmeter.bench.problems import Problem
from gradmeter.bench.problems.user_model import Model
from gradmeter.bench.rows import to_frame
from gradmeter.bench.sweep.choosing import executor
from gradmeter.bench.sweep.listener import Listener
from gradmeter.bench.sweep.run import run
from gradmeter.bench.sweep.store import Store
from gradmeter.bench.terminal import progress
from gradmeter.estimators import Estimator, UsageError

__all__ = ["Model", "check", "measure", "minibatch_split"]


def _cells(noise: str, goals: StoppingCriteria, **axes: Any) -> list[Cell]:
    """Return the cells of a grid, given one value or several per axis."""
    values = {axis: values_of(axis, given) for axis, given in axes.items()}
    for axis, several in values.items():
        if not several and axis != "samples":
            raise UsageError(f"there is no {axis}; give at least one")
    return grid(**values, noise=check_choice("noise", noise, NOISES), goals=goals)


def measure(
    problem: str | Problem | Iterable[str | Problem],
    estimator: str | Estimator | Iterable[str | Estimator],
    backend: str | Iterable[str] = "numpy",
    *,
    device: str | Iterable[str] = "cpu",
    dtype: str | Iterable[str] = "float64",
    samples: int | Iterable[int] = (),
    seed: int | Iterable[int] = 0,
    noise: str = "native",
    precision: float = StoppingCriteria.precision,
    bias_bound: float = StoppingCriteria.bias_bound,
    max_replicates: int = StoppingCriteria.max_replicates,
    timing: bool = True,
    store: str | Path | None = None,
    workers: int | None = None,
    cell_timeout: float | str | None = None,
    cell_memory: int | str | None = None,
    scheduler: str | None = None,
    dask_local: int | None = None,
    in_process: bool | None = None,
) -> Any:
    """Measure a grid of cells.

    Without `workers`, `cell_timeout`, `cell_memory`, `scheduler` and `dask_local`, cells are measured one after
    another in this process. With any of them each is measured in a process that can be killed, to which your own
    classes are copied. The rows are the same.

    Parameters
    ----------
    problem, estimator
        Names as on the command line (`"cosine[k=2.5]"`), or objects; one or several.
    backend, device, dtype, samples, seed
        One value or several; the grid is their product. Without `samples`, each estimator gets the least S it takes.
    noise
        `native`, each framework's own generator, or `shared`, NumPy's draws for all.
    precision
        Half-width of the 95 % interval of the log variance that every parameter block must reach.
    bias_bound
        Certified relative bias to reach, a part of the gradient below 1.
    max_replicates
        The most replicates drawn for a cell's verdict, at least 64.
    timing
        Whether to time the cells after measuring them.
    store
        A store to read known cells from and to keep new ones in; None keeps nothing.
    workers
        Number of worker processes.
    cell_timeout
        Seconds after which the process of a cell is ended, or text such as `10m`; the cell's status is `timeout`.
    cell_memory
        Bytes that a cell may take, or text such as `2G`; on Linux.
    scheduler
        Address of a Dask scheduler.
    dask_local
        Number of workers of a Dask cluster on this machine.
    in_process
        Whether to measure in this process; by default, if none of the above is given.

    Returns
    -------
    pandas.DataFrame
        One row per cell and parameter block, and one for `all`. It prints as the table of `gradmeter run`.

    Raises
    ------
    UsageError
        A wrong name or value.
    """
    if not isinstance(timing, bool):
        raise UsageError(f"timing is {timing!r}; it must be True or False")
    if not isinstance(store, str | Path | None):
        raise UsageError(f"store is {store!r}; it must be the path of a file, or None")
    cells = _cells(
        noise,
        StoppingCriteria(precision, bias_bound, max_replicates),
        problem=problem,
        estimator=estimator,
        backend=backend,
        device=device,
        dtype=dtype,
        samples=samples,
        seed=seed,
    )
    from gradmeter.bench.reading.measured import Measured

    limits = (workers, cell_timeout, cell_memory, scheduler, dask_local)
    chosen = executor(
        workers=workers,
        cell_timeout=cell_timeout,
        cell_memory=cell_memory,
        scheduler=scheduler,
        dask_local=dask_local,
        in_process=all(limit is None for limit in limits) if in_process is None else in_process,
        cells=len(cells),
        backends={cell.backend for cell in cells},
    )
    opening = nullcontext() if store is None else Store.create(Path(store))
    with opening as opened, chosen, progress(cells, Listener(), False) as listener:
        return Measured(to_frame(run(cells, opened, timing, listener, executor=chosen)))


def minibatch_split(
    problem: str | Problem,
    estimator: str | Estimator,
    backend: str = "numpy",
    *,
    device: str = "cpu",
    dtype: str = "float64",
    samples: int | Iterable[int] = (),
    seed: int = 0,
    noise: str = "native",
    replicates: int = 2**16,
) -> Any:
    """Split the variance of a minibatch estimate into the parts of the samples of z and of the minibatch.

    Parameters
    ----------
    problem
        One with a `batch`, such as `"logistic-regression[batch=32]"`.
    replicates
        Pairs of estimates to measure it by (whole blocks, at least 64 of them).
    estimator, backend, device, dtype, samples, seed, noise
        As in `measure`, but only `samples` may have several values.

    Returns
    -------
    pandas.DataFrame
        One row per S and parameter block, and one for `all`: `sampling` + `minibatch` = `total`, each measured, with
        95 % intervals. Only `sampling` decreases as 1/S.

    Raises
    ------
    UsageError
        A wrong name or value.
    NotApplicable
        The estimator does not apply to the problem, or the problem draws no minibatch.
    """
    import pandas as pd

    from gradmeter.bench.measurement.minibatch import split

    cells = _cells(
        noise,
        StoppingCriteria(max_replicates=replicates),
        problem=[problem],
        estimator=[estimator],
        backend=[backend],
        device=[device],
        dtype=[dtype],
        samples=samples,
        seed=[seed],
    )
    return pd.DataFrame([row for cell in cells for row in split(cell)])
