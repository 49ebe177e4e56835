"""Choose where cells are measured, from what a person asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gradmeter.bench.durations import seconds, size
from gradmeter.bench.sweep.executors import Executor, InThisProcess, InWorkers
from gradmeter.bench.sweep.processes import Limits
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import short
from gradmeter.estimators.options import number

#: Most worker processes that are started unasked: each imports the frameworks that it meets.
UNASKED = 4
MOST_WORKERS = 1024
#: Bytes without which no cell can begin.
LEAST_MEMORY = 2**24


def processors() -> int:
    """Return the number of processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def executor(
    *,
    workers: Any = None,
    cell_timeout: Any = None,
    cell_memory: Any = None,
    scheduler: str | None = None,
    dask_local: Any = None,
    in_process: bool = False,
    plugins: Sequence[Path] = (),
    cells: int | None = None,
    backends: Iterable[str] = (),
) -> Executor:
    """Return where cells are measured.

    Parameters
    ----------
    workers
        Number of worker processes; if absent, one for each processor, but at most 4.
    cell_timeout
        Time after which the process of a cell is ended, in seconds or as text such as `10m`.
    cell_memory
        Memory that a cell may take, in bytes or as text such as `2G`; on Linux.
    scheduler
        Address of a Dask scheduler.
    dask_local
        Number of workers of a Dask cluster on this machine.
    in_process
        Whether cells are measured in this process.
    plugins
        Files that worker processes import, as `--plugin`.
    cells
        Number of cells, if known; where workers are more, several share the blocks of a cell that is large.
    backends
        Backends of the cells, if known.

    Raises
    ------
    UsageError
        A value is wrong, or two exclude each other.
    """
    limits = Limits(
        None if cell_timeout is None else seconds("cell timeout", cell_timeout),
        None if cell_memory is None else size("cell memory", cell_memory),
        tuple(plugins),
    )
    if limits.memory is not None and limits.memory < LEAST_MEMORY:
        raise UsageError(f"cell memory is '{short(cell_memory)}'; it must be at least {LEAST_MEMORY // 2**20}M")
    if limits.memory is not None and not sys.platform.startswith("linux"):
        raise UsageError("--cell-memory needs Linux; leave it out")
    given = {"--workers": workers, "--scheduler": scheduler, "--dask-local": dask_local}
    places = [name for name, value in given.items() if value is not None] + ["--in-process"] * in_process
    if len(places) > 1:
        raise UsageError(f"{places[0]} and {places[1]} exclude each other; leave one out")
    if in_process:
        for name, limit in (("--cell-timeout", limits.seconds), ("--cell-memory", limits.memory)):
            if limit is not None:
                raise UsageError(f"{name} needs a process that can be ended; leave out --in-process")
        return InThisProcess()
    if scheduler is not None or dask_local is not None:
        from gradmeter.bench.sweep.cluster import OnDask

        local = None if dask_local is None else number("--dask-local", dask_local, int, 1, MOST_WORKERS)
        return OnDask(scheduler, local, limits)
    wanted = min(processors(), UNASKED) if workers is None else number("workers", workers, int, 1, MOST_WORKERS)
    at_once = max(1, min(wanted, wanted if cells is None else cells))
    return InWorkers(at_once, limits, wanted // at_once - 1, backends)
