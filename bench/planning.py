"""What a run would cost: time from what a store has measured before, memory from the sizes of arrays."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from gradmeter.bench.cells import Cell
from gradmeter.bench.durations import duration
from gradmeter.bench.feasibility import foreseen
from gradmeter.bench.measurement.kernel import block_size
from gradmeter.bench.rows import ALL, Row
from gradmeter.bench.sweep.store import Store

#: Seconds of a cell, its compilation included, where the store has none like it; and of its timing.
GUESS = {"numpy": 1.0, "torch": 5.0, "jax": 3.0}
TIMING = 1.0
#: Bytes of a process that has imported a framework, and arrays of the size of a block that are alive at a time.
FRAMEWORK = {"numpy": 120 * 2**20, "torch": 400 * 2**20, "jax": 350 * 2**20}
ALIVE = 6


@dataclass(frozen=True)
class Plan:
    """Lines of a table, one for each problem, estimator and backend, and a sentence on all of it."""

    headings: tuple[str, ...]
    lines: list[tuple[str, ...]]
    summary: str


def expected(cells: Sequence[Cell], store: Store | None, workers: int, timing: bool) -> Plan:
    """Return the plan of a run.

    Parameters
    ----------
    cells
        Cells of the run.
    store
        Where times are taken from, and known cells are found.
    workers
        Processes that measure at the same time.
    timing
        Whether cells are timed, too.
    """
    history = _History(store.rows() if store else ())
    known = {cell.key for cell in cells if store and store.rows_of(cell.key)}
    left = [cell for cell in cells if cell.key not in known and foreseen(cell) is None]
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in left:
        groups.setdefault((cell.problem.name, cell.estimator.name, cell.backend), []).append(cell)
    lines: list[tuple[str, ...]] = []
    total, guessed = 0.0, 0
    for names, group in groups.items():
        times = [history.seconds(cell) for cell in group]
        guesses = sum(time is None for time in times)
        seconds = sum(GUESS[names[2]] if time is None else time for time in times)
        memory = max(memory_of(cell) for cell in group)
        total, guessed = total + seconds, guessed + guesses
        mark = "about " if guesses else ""
        lines.append((*names, f"{len(group):,}", f"{mark}{duration(seconds)}", f"{memory / 2**20:,.0f} MiB"))
    most = max((memory_of(cell) for cell in left), default=0)
    said = [
        f"{len(left):,} cells to measure, {len(known):,} known, {len(cells) - len(left) - len(known):,} not applicable",
        f"about {duration(total / workers)} with {workers} worker{'s' * (workers != 1)}",
        *([f"then {duration(TIMING * len(left))} of timing"] if timing and left else []),
        f"about {most * workers / 2**20:,.0f} MiB of memory",
    ]
    guess = f" ({guessed:,} cells are unlike all in the store; their time is a guess)" if guessed else ""
    return Plan(("problem", "estimator", "backend", "cells", "time", "memory"), lines, "; ".join(said) + guess)


class _History:
    """Seconds that measured cells took, by problem, estimator and backend."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._seconds: dict[Any, list[float]] = {}
        for row in rows:
            if row["block"] == ALL and row["status"] == "ok":
                begun, ended = (datetime.datetime.fromisoformat(row[name]) for name in ("started", "finished"))
                for key in ((row["problem"], row["estimator"], row["backend"]), (row["problem"], row["backend"])):
                    self._seconds.setdefault(key, []).append((ended - begun).total_seconds())

    def seconds(self, cell: Cell) -> float | None:
        names = cell.problem.name, cell.estimator.name, cell.backend
        found = self._seconds.get(names) or self._seconds.get((names[0], names[2]))
        return median(found) if found else None


def memory_of(cell: Cell) -> int:
    """Return about how many bytes a process takes that measures this cell."""
    width = cell.problem.expectation().width(cell.problem.dimension)
    block = block_size(width, cell.num_samples) * width * cell.num_samples
    return FRAMEWORK[cell.backend] + ALIVE * block * (4 if cell.dtype == "float32" else 8)
