"""Variance, bias bound and cost of most kinds of estimators on every backend, each measured when it is asked for.

Variance and bias bound are the statistics of one cell. The noise of a cell is fixed by its seed, so they repeat from
run to run to the last digits; they change with the code alone. (Code that draws the noise in another order moves the
bias bound by tens of per cent.) Times are samples, one a round, from which asv makes an interval. The first time that
is asked for is measured together with those of all estimators of its problem on its backend, in the same interleaved
rounds, so that they compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .workloads import (
    AHEAD,
    BACKENDS,
    DISCRETE,
    DISCRETE_ESTIMATORS,
    ELBO_ESTIMATORS,
    ESTIMATORS,
    FURTHER_ESTIMATORS,
    REAL_DATA,
    SLOW_TO_COMPILE,
    TEST_FUNCTION,
    cell,
    show,
)

if TYPE_CHECKING:
    from gradmeter.bench.cells import Cell
    from gradmeter.bench.rows import Row
    from gradmeter.bench.sweep.store import Store

#: In the folder that `setup_cache` makes: one for each run of asv, environment and commit.
STORE = Path("measured.sqlite")

#: A bias certified below this is rounding, whose ups and downs mean nothing.
EXACT = 1e-6
REPLICATES = 2**18
#: For the estimator that evaluates f for every coordinate.
FEWER_REPLICATES = 2**15

#: problem, backend, estimator
Case = tuple[str, str, str]
Samples = dict[str, Any]

CASES: tuple[Case, ...] = tuple(
    case
    for problem, estimators in (
        (REAL_DATA, ELBO_ESTIMATORS),
        (TEST_FUNCTION, (*ESTIMATORS, *FURTHER_ESTIMATORS)),
        (DISCRETE, DISCRETE_ESTIMATORS),
    )
    for backend in BACKENDS
    for estimator in estimators
    if (case := (problem, backend, estimator)) != SLOW_TO_COMPILE
)


def statistics(case: Case) -> Row:
    """Return the row of all parameter blocks of a cell; measure the cell if the store has no rows of it.

    Raises
    ------
    RuntimeError
        The cell could not be measured.
    """
    from gradmeter.bench.rows import ALL
    from gradmeter.bench.sweep.measuring import measure_cell

    asked = _cell(case)
    with _store() as store:
        if not store.rows_of(asked.key):
            show(f"measuring {asked.label()}")
            outcome = measure_cell(asked)
            store.finish(asked.key, outcome.rows, outcome.series, asked.description())
        rows = {row["block"]: row for row in store.rows_of(asked.key)}
    return _usable(rows[ALL])


def all_statistics() -> None:
    """Measure the statistics of all cells in this process: frameworks are imported once."""
    from gradmeter.bench.sweep.listener import Listener
    from gradmeter.bench.sweep.run import run

    class Shown(Listener):
        def cell_started(self, cell: Cell) -> None:
            show(f"measuring {cell.label()}")

    with _store() as store:
        run([_cell(case) for case in CASES], store, timing=False, listener=Shown())


def rounds(case: Case) -> dict[str, list[float]]:
    """Return the timing rounds of a cell: `seconds`, and `reference` (the reference workload in the same round).

    All cells of its problem and backend are timed, in the same rounds, if the store has no rounds of it.

    Raises
    ------
    RuntimeError
        The cell could not be timed.
    """
    key = _timing(_cell(case))
    with _store() as store:
        if not store.rows_of(key) and not store.series(key):
            _time([_cell(other) for other in CASES if other[:2] == case[:2]], store)
        for row in store.rows_of(key):
            _usable(row)
        return {name: values.tolist() for name, values in store.series(key).items()}


def _time(cells: list[Cell], store: Store) -> None:
    """Time cells in the same interleaved rounds, and store rounds or failures of all in one transaction."""
    from gradmeter.bench.measurement import cost
    from gradmeter.bench.sweep.measuring import failed_rows, now

    started = now()
    show(f"timing {len(cells)} estimators in the same rounds: {cells[0].problem.name} · {cells[0].backend}")
    contenders = cost.Contenders()
    for each in cells:
        contenders.add(each.key, cost.contender(each))
    costs, _ = cost.time_calls(contenders)
    store.add_timing(
        (_timing(each), failed_rows(each, "exception", found, started), {})
        if isinstance(found := costs[each.key], str)
        else (_timing(each), [], found.series)
        for each in cells
    )


def _cell(case: Case) -> Cell:
    costly = case[0] == REAL_DATA and case[2] == "measure-valued"
    return cell(*case, replicates=FEWER_REPLICATES if costly else REPLICATES)


def _timing(timed: Cell) -> str:
    """Return the store's key of a cell's timing rounds, which may be measured without its statistics."""
    return f"timing {timed.key}"


def _usable(row: Row) -> Row:
    if row["status"] != "ok":
        raise RuntimeError(f"{row['status']}: {row['reason']}")
    return row


@contextmanager
def _store() -> Iterator[Store]:
    """Open the store; wait while another process measures, so that no cell is measured twice and none while timing."""
    import filelock

    from gradmeter.bench.sweep.store import Store

    with filelock.FileLock(f"{STORE}.measuring"), Store.create(STORE) as store:
        yield store


class _Measured:
    """What is measured of each cell of a problem; its subclasses differ in the problem alone."""

    problem: str
    params: tuple[tuple[str, ...], tuple[str, ...]]
    param_names = ("backend", "estimator")
    timeout = 1800.0
    version = "2"

    def setup_cache(self) -> None:
        """Measure nothing unless asked to; for this method, asv runs the benchmarks of all subclasses in one folder."""
        if AHEAD:
            all_statistics()

    setup_cache.timeout = 1800.0  # type: ignore[attr-defined]

    def track_variance(self, backend: str, estimator: str) -> float:
        return float(statistics((self.problem, backend, estimator))["variance"])

    def track_bias_bound(self, backend: str, estimator: str) -> float:
        return max(EXACT, float(statistics((self.problem, backend, estimator))["bias_bound"]))

    def track_seconds(self, backend: str, estimator: str) -> Samples:
        return {"samples": rounds((self.problem, backend, estimator))["seconds"], "number": 1}

    def track_relative_time(self, backend: str, estimator: str) -> Samples:
        """Return the time over that of the reference workload in the same round.

        Most changes of the machine's speed cancel in this ratio.
        """
        timed = rounds((self.problem, backend, estimator))
        pairs = zip(timed["seconds"], timed["reference"], strict=True)
        return {"samples": [seconds / reference for seconds, reference in pairs], "number": 1}

    def track_work_normalised_variance(self, backend: str, estimator: str) -> Samples:
        case = (self.problem, backend, estimator)
        variance = statistics(case)["variance"]
        return {"samples": [variance * seconds for seconds in rounds(case)["seconds"]], "number": 1}

    track_variance.unit = "trace of the covariance"  # type: ignore[attr-defined]
    track_bias_bound.unit = "of the gradient's norm"  # type: ignore[attr-defined]
    track_seconds.unit = "seconds"  # type: ignore[attr-defined]
    track_relative_time.unit = "× reference workload"  # type: ignore[attr-defined]
    track_work_normalised_variance.unit = "variance × seconds"  # type: ignore[attr-defined]
    track_seconds.version = "3"  # type: ignore[attr-defined]
    track_relative_time.version = "3"  # type: ignore[attr-defined]
    track_work_normalised_variance.version = "3"  # type: ignore[attr-defined]


class RealData(_Measured):
    """Logistic regression on breast_cancer, 569 × 31, at q = N(0, I)."""

    problem = REAL_DATA
    params = (BACKENDS, ELBO_ESTIMATORS)
    skip_params = (SLOW_TO_COMPILE[1:],)


class TestFunction(_Measured):
    """Σ cos(2.5 z), D = 10, at q = N(1, 1)."""

    problem = TEST_FUNCTION
    params = (BACKENDS, (*ESTIMATORS, *FURTHER_ESTIMATORS))


class DiscreteLatents(_Measured):
    """A sigmoid belief network on digits, q a product of Bernoullis."""

    problem = DISCRETE
    params = (BACKENDS, DISCRETE_ESTIMATORS)
