"""Measure one cell: its statistics as rows, whatever happens."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gradmeter.bench.cells import Cell
from gradmeter.bench.identity.owner import of_the_user
from gradmeter.bench.rows import ALL, Row, row
from gradmeter.bench.sweep import devices, environment
from gradmeter.estimators import NotApplicable, UsageError
from gradmeter.estimators.errors import contained, one_line, typed

#: Statuses of a cell that could not be measured although it should have been.
FAILED = ("nonfinite", "exception", "out-of-memory", "timeout", "crashed")


@dataclass
class Outcome:
    """What the measurement of one cell came to.

    Attributes
    ----------
    rows, series
        Rows and arrays to store.
    prepared
        The prepared cell, where it can be timed in this process.
    spoilt
        Whether its process should measure no further cell: a class of the user's may have changed the process.
    """

    rows: list[Row]
    series: dict[str, np.ndarray] = field(default_factory=dict)
    prepared: Any = None
    spoilt: bool = False


@dataclass(frozen=True)
class Ended:
    """Why work came to no result: the status and the reason of the rows."""

    status: str
    reason: str

    def twice(self) -> Ended:
        """Return what becomes of a cell whose second process died, too."""
        return Ended(self.status, f"{self.reason}, and so did a process before it")


def now() -> str:
    """Return the time in UTC, to the millisecond, in ISO format."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def failed_rows(cell: Cell, status: str, reason: str, started: str) -> list[Row]:
    """Return the rows of a cell that could not be measured.

    Parameters
    ----------
    cell
        The cell.
    status
        Status of the rows.
    reason
        One line.
    started
        When the measurement began, as `now` returns it.
    """
    common = _common(cell, started)
    blocks = (*cell.problem.blocks, ALL)
    return [with_remark(row(**common, block=block, status=status, reason=reason), cell.not_stored) for block in blocks]


def with_remark(found: Row, remark: str | None) -> Row:
    """Return a row whose reason ends with a remark, if there is one."""
    return {**found, "reason": "; ".join(filter(None, (found["reason"], remark)))} if remark else found


def _common(cell: Cell, started: str) -> dict[str, Any]:
    return {
        **cell.description(),
        "versions": environment.versions(cell.backend),
        "machine": environment.machine(cell.backend, cell.device),
        "code_version": environment.code_version(),
        "content": cell.content,
        "cell_key": cell.key,
        "started": started,
        "finished": now(),
    }


def measure_cell(cell: Cell, each: Callable[[int], None] | None = None, **options: Any) -> Outcome:
    """Measure one cell's statistics. Nothing but an interrupt is raised: a failure becomes a row with its status.

    Parameters
    ----------
    cell
        The cell.
    each
        Callback that receives the number of replicates so far.
    options
        Further arguments of `gradmeter.bench.measurement.cell.measure`.
    """
    started = now()
    from gradmeter.bench.measurement.stream import NonFinite

    try:
        from gradmeter.bench.measurement.cell import measure
        from gradmeter.bench.measurement.prepared import prepare

        with contained():
            prepared = prepare(cell)
            before = devices.state(cell.backend, cell.device)
            measured = measure(prepared, cell.goals, each, stop_at=cell.stop_at, **options)
    except NotApplicable as error:
        return Outcome(failed_rows(cell, "n/a", str(error), started))
    except (NonFinite, FloatingPointError) as error:
        return Outcome(failed_rows(cell, "nonfinite", str(error), started))
    except Exception as error:  # a cell that raises must not stop the others
        status = "out-of-memory" if _is_out_of_memory(error) else "exception"
        # A UsageError is already a sentence for the user.
        said = one_line(error, 500) if isinstance(error, UsageError) else f"{typed(error, 500)}{place_of(error)}"
        return Outcome(failed_rows(cell, status, said, started))
    states = devices.between(before, devices.state(cell.backend, cell.device))
    common = {
        **_common(cell, started),
        "device_state": states,
        "replicates": measured.replicates,
        "status": "ok",
        "evaluations": prepared.evaluations,
        "threads": prepared.setting.backend.threads,
    }
    rows = []
    for block, columns in measured.blocks.items():
        remarks = *prepared.remarks, columns.pop("reason", None), devices.slowed(states), cell.not_stored
        reason = "; ".join(filter(None, remarks)) or None
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
