"""Split the variance of measured cells into the parts of sampling and of the minibatch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gradmeter.bench.cells import Cell
from gradmeter.bench.feasibility import foreseen
from gradmeter.estimators import NotApplicable

#: Most replicates: enough for a variance, where a bias bound may have needed many more.
MOST = 2**16


def draws_minibatch(cell: Cell) -> bool:
    """Return whether the cell can be measured and its problem draws data anew for every estimate."""
    return foreseen(cell) is None and cell.problem.draws_inputs


def parts_of(cell: Cell) -> dict[str, np.ndarray] | None:
    """Return the parts of a cell's variance as series, from at most `MOST` replicates; None if it cannot be split."""
    from gradmeter.bench.measurement.decomposition import as_series
    from gradmeter.bench.measurement.minibatch import split
    from gradmeter.bench.measurement.stream import NonFinite

    same = replace(cell, goals=replace(cell.goals, max_replicates=min(cell.goals.max_replicates, MOST)))
    try:
        return as_series(split(same))
    except (NotApplicable, NonFinite):  # the cell's own row reports the fault
        return None
