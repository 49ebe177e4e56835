"""Split the variance of measured cells into the parts of sampling and of the minibatch, stored beside their rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from gradmeter.bench.cells import Cell
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.rows import Row
from gradmeter.bench.sweep.listener import Listener
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import NotApplicable

#: Most replicates: enough for a variance, where a bias bound may have needed many more.
MOST = 2**16


def draws_minibatch(cell: Cell) -> bool:
    """Return whether the cell can be measured and its problem draws data anew for every estimate."""
    return infeasible(cell) is None and cell.problem.draws_inputs


def add_parts(
    cells: Iterable[Cell],
    rows: dict[str, list[Row]],
    store: Store,
    listener: Listener,
    stop: Callable[[], bool],
) -> None:
    """Split each measured cell that draws a minibatch and is not yet split, from at most `MOST` replicates."""
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
        except (NotApplicable, NonFinite):  # the cell's own row reports the fault
            continue
