"""Splitting the variance of cells that are measured: what of it is the minibatch's. Kept beside their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from gradmeter.bench.rows import Row
from gradmeter.bench.sweep.cells import Cell
from gradmeter.bench.sweep.listener import Listener
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import NotApplicable

#: Replicates: enough for a variance, where a bias bound may have asked for many more.
MOST = 2**16


def draws_minibatch(cell: Cell) -> bool:
    """Whether the cell's problem draws data anew for every estimate."""
    return cell.impossible() is None and cell.problem.draws_inputs


def add_parts(
    cells: Iterable[Cell],
    rows: dict[str, list[Row]],
    store: Store,
    listener: Listener,
    stop: Callable[[], bool],
) -> None:
    """Split every cell that was measured, draws a minibatch and has not been split, within its own cap or `MOST`."""
    from gradmeter.bench.measurement.decomposition import as_series, from_series
    from gradmeter.bench.measurement.minibatch import split
    from gradmeter.bench.measurement.stream import NonFinite

    for cell in cells:
        found = rows.get(cell.key)
        if not found or found[0]["status"] != "ok" or not draws_minibatch(cell):
            continue
        if from_series(store.series(cell.key)) is not None:
            continue
        if stop():
            return
        listener.cell_started(cell)
        same = replace(cell, goals=replace(cell.goals, max_replicates=min(cell.goals.max_replicates, MOST)))
        try:
            store.put_series(cell.key, as_series(split(same)))
        except (NotApplicable, NonFinite):  # the cell's own row says what of it is wrong
            continue
