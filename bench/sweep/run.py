"""Run cells: statistics first, with every row stored at once; then timing, alone and interleaved.

Cells run one after another in this process. `measure_cell` takes a cell and returns plain data, so that an executor can
send it to a worker process.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradmeter.bench.cells import Cell
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.identity.owner import brought, of_the_user
from gradmeter.bench.rows import ALL, Row, row
from gradmeter.bench.sweep import environment
from gradmeter.bench.sweep.listener import Listener
from gradmeter.bench.sweep.splitting import add_parts
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import NotApplicable, UsageError
from gradmeter.estimators.errors import contained, one_line, typed

if TYPE_CHECKING:
    from gradmeter.bench.measurement.cost import Compiler

FAILED = ("nonfinite", "exception", "out-of-memory", "timeout", "crashed")


class Stopped(Exception):
    """A request to stop between timing rounds; an incomplete set of rounds is discarded."""


@dataclass
class Outcome:
    """One cell's rows and arrays and, if it can be timed, the prepared cell."""

    rows: list[Row]
    series: dict[str, np.ndarray] = field(default_factory=dict)
    prepared: Any = None


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def failed_rows(cell: Cell, status: str, reason: str, started: str) -> list[Row]:
    """Return the rows of a cell that could not be measured."""
    common = _common(cell, started)
    blocks = (*cell.problem.blocks, ALL)
    return [row(**common, block=block, status=status, reason=reason) for block in blocks]


def _common(cell: Cell, started: str) -> dict[str, Any]:
    return {
        **cell.description(),
        "versions": environment.versions(cell.backend),
        "machine": environment.machine(),
        "code_version": environment.code_version(),
        "content": cell.content,
        "cell_key": cell.key,
        "started": started,
        "finished": now(),
    }


def measure_cell(cell: Cell, each: Callable[[int], None] | None = None) -> Outcome:
    """Measure one cell's statistics. Nothing but an interrupt is raised: a failure becomes a row with its status."""
    outcome = _measured(cell, each)
    if cell.not_stored is not None:
        outcome.rows = [_with_reason(r, cell.not_stored) for r in outcome.rows]
    return outcome


def _with_reason(found: Row, reason: str) -> Row:
    return {**found, "reason": "; ".join(filter(None, (found["reason"], reason)))}


def _measured(cell: Cell, each: Callable[[int], None] | None) -> Outcome:
    started = now()
    from gradmeter.bench.measurement.stream import NonFinite

    try:
        from gradmeter.bench.measurement.cell import measure
        from gradmeter.bench.measurement.prepared import prepare

        with contained():
            prepared = prepare(cell)
            measured = measure(prepared, cell.goals, each)
    except NotApplicable as error:
        return Outcome(failed_rows(cell, "n/a", str(error), started))
    except (NonFinite, FloatingPointError) as error:
        return Outcome(failed_rows(cell, "nonfinite", str(error), started))
    except Exception as error:  # a cell that raises must not stop the others
        status = "out-of-memory" if _is_out_of_memory(error) else "exception"
        # A UsageError is already a sentence for the user.
        said = one_line(error, 500) if isinstance(error, UsageError) else f"{typed(error, 500)}{place_of(error)}"
        return Outcome(failed_rows(cell, status, said, started))
    common = {
        **_common(cell, started),
        "replicates": measured.replicates,
        "status": "ok",
        "evaluations": prepared.evaluations,
        "threads": prepared.setting.backend.threads,
    }
    rows = []
    for block, columns in measured.blocks.items():
        reason = "; ".join(filter(None, (*prepared.remarks, columns.pop("reason", None)))) or None
        rows.append(row(**common, **columns, block=block, reason=reason))
    series = {f"squared_norm:{block}": values for block, values in measured.squared_norms.items()}
    return Outcome(rows, series, prepared)


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means lack of memory; each framework words it in its own way."""
    said = ("RESOURCE_EXHAUSTED", "out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(words in one_line(error, 10_000) for words in said)


def place_of(error: BaseException) -> str:
    """Return where in a user's own code an exception was raised, in brackets; empty if it was raised elsewhere."""
    place, traceback = "", error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if of_the_user(frame.f_globals.get("__name__")):
            code = frame.f_code
            place = f" (in {code.co_qualname}, line {traceback.tb_lineno} of {Path(code.co_filename).name})"
        traceback = traceback.tb_next
    return place


def run(
    cells: Iterable[Cell],
    store: Store | None = None,
    timing: bool = True,
    listener: Listener | None = None,
    stop: Callable[[], bool] = lambda: False,
    time_again: bool = False,
    minibatch_parts: bool = False,
) -> list[Row]:
    """Measure the cells that the store does not have, NumPy's first, and return the rows of all cells in their order.

    Equal cells of the catalogue are one cell. Each object of a user's makes a cell of its own, but objects of equal
    content are measured once. A cell whose content cannot be hashed is measured and not stored.

    Parameters
    ----------
    cells : the cells.
    store : where results are kept; None keeps them in memory only.
    timing : whether to fill in the timing columns, after all statistics.
    listener : observer of the run.
    stop : called between cells and between timing rounds; if it returns true, the run ends there.
    time_again : whether to time cells that another process has timed before; the earlier rounds are kept.
    minibatch_parts : whether to split the variance of cells that draw a minibatch; the parts are kept only in a store.
    """
    from gradmeter.bench.measurement import cost

    cells, listener = _distinct(cells), listener or Listener()
    rows: dict[str, list[Row]] = {}
    with cost.Compiler() as compiler:
        # Other cells compile while those of NumPy, which need no compilation, are measured.
        in_turn = sorted(cells, key=lambda cell: cell.backend != "numpy")
        new = [cell for cell in in_turn if not (store and store.rows_of(cell.key))]
        for cell in new[1:]:  # the first runs at once
            if cell.backend == "jax" and not (brought(cell.problem) or brought(cell.estimator)):
                compiler.ahead(cell.key, cell.backend, functools.partial(_compile, cell))
        for cell in in_turn:
            known = rows.get(cell.key) or (store.rows_of(cell.key) if store else [])
            if known and not _worth_another_try(cell, known):
                rows[cell.key] = known
                listener.cell_finished(cell, known, new=False)
                continue
            if stop():
                break
            compiler.wait(cell.key)
            listener.cell_started(cell)
            outcome = _measure_and_store(cell, store, listener)
            rows[cell.key] = outcome.rows
            if timing and outcome.prepared is not None:
                compiler.add(cell.key, cost.cell(outcome.prepared))
            listener.cell_finished(cell, outcome.rows, new=True)
        if minibatch_parts and store:
            add_parts([cell for cell in cells if cell.not_stored is None], rows, store, listener, stop)
        if timing and not stop():
            _time(cells, rows, compiler, store, listener, stop, time_again)
    return [r for cell in cells for r in rows.get(cell.key, [])]


def _distinct(cells: Iterable[Cell]) -> list[Cell]:
    def own(value: Any) -> int | None:
        return id(value) if brought(value) else None

    return list({(cell.key, own(cell.problem), own(cell.estimator)): cell for cell in cells}.values())


def _compile(cell: Cell) -> None:
    """Compile the statistics of a cell; raise if it cannot be measured."""
    from gradmeter.bench.measurement.kernel import StatisticsKernel
    from gradmeter.bench.measurement.prepared import prepare

    setting = prepare(cell).setting
    StatisticsKernel(setting)(setting.roots("pilot"), 0, setting.zeros())


def _worth_another_try(cell: Cell, known: list[Row]) -> bool:
    """Return whether the reason of an n/a row is gone, for example since a framework was installed."""
    return known[0]["status"] == "n/a" and infeasible(cell) is None


def _measure_and_store(cell: Cell, store: Store | None, listener: Listener) -> Outcome:
    if store is None or cell.not_stored is not None:
        return measure_cell(cell, listener.replicates)
    if store.start(cell.key, {**cell.description(), "goals": vars(cell.goals)}) >= 2:
        outcome = Outcome(failed_rows(cell, "crashed", "started twice and never ended", now()))
    else:
        try:
            outcome = measure_cell(cell, listener.replicates)
        except KeyboardInterrupt:
            store.abandon(cell.key)
            raise
    store.finish(cell.key, outcome.rows, outcome.series)
    return outcome


def _time(
    cells: list[Cell],
    rows: dict[str, list[Row]],
    compiler: Compiler,
    store: Store | None,
    listener: Listener,
    stop: Callable[[], bool],
    again: bool,
) -> None:
    """Fill in the timing columns of cells that lack them, or of all cells with `again`."""

    def wanted(cell: Cell) -> bool:
        first = rows[cell.key][0]
        return first["status"] == "ok" and (again or first["seconds"] is None) and infeasible(cell) is None

    untimed = [cell for cell in cells if wanted(cell)]
    if not untimed:
        return
    from gradmeter.bench.measurement import cost
    from gradmeter.bench.measurement.prepared import prepare
    from gradmeter.bench.measurement.timing import ROUNDS

    listener.timing_started(len(untimed), ROUNDS)
    for cell in untimed:
        if cell.key not in compiler:  # measured by an earlier run that ended before timing
            compiler.add(cell.key, cost.cell(prepare(cell)))

    def each_round(number: int) -> None:
        listener.timing_round(number)
        if number < ROUNDS and stop():
            raise Stopped

    try:
        costs, shared = cost.time_calls(compiler, each_round, stop)
    except Stopped:
        return
    timed, stored = [], {cell.key for cell in cells if cell.not_stored is None}
    for key, found in costs.items():
        if isinstance(found, str):
            rows[key] = [_with_reason(r, found) for r in rows[key]]
            continue
        if store:
            found = found.after(store.series(key), rows[key][0]["compile_seconds"])
        rows[key] = [{**r, **found.columns(r["variance"])} for r in rows[key]]
        timed += [(key, rows[key], found.series)] if key in stored else []
    if store:
        store.add_timing(timed)
        if shared:
            store.put_series(f"timing {now()}", shared)
