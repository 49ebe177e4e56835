"""Cells in worker processes and on a cluster: the same rows, and nothing that a cell does ends the run."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import gradmeter
from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.measurement.cell import measure
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.problems.test_functions import Square
from gradmeter.bench.sweep import processes, sharing
from gradmeter.bench.sweep.choosing import executor
from gradmeter.bench.sweep.listener import Listener, Stop
from gradmeter.bench.sweep.processes import Limits
from gradmeter.bench.sweep.run import run
from gradmeter.bench.sweep.store import Store
from gradmeter.estimators import UsageError
from tests.cli.running import Result, Run, environment, measured, process
from tests.support import needs
from tests.sweep import poisons

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
FEW = StoppingCriteria(max_replicates=2**12)
GRID = ("--problem", "square", "--problem", "cosine", "--estimator", "pathwise", "--estimator", "score-function")


def grid(seeds: int) -> list[Cell]:
    estimators = [make_estimator(name) for name in ("pathwise", "score-function")]
    return [
        Cell(make_problem("square"), each, seed=seed, num_samples=2, goals=FEW)
        for seed in range(seeds)
        for each in estimators
    ]


@pytest.fixture(scope="module")
def rows_of_one_process() -> list[dict[str, Any]]:
    return measured(run(grid(3), timing=False))


@pytest.mark.parametrize(
    "place",
    [
        {"workers": 1},
        {"workers": 2},
        pytest.param({"workers": 8}, marks=pytest.mark.slow),
        pytest.param({"dask_local": 1}, marks=pytest.mark.slow),
        pytest.param({"dask_local": 2}),
        pytest.param({"dask_local": 4}, marks=pytest.mark.slow),
    ],
)
def test_rows_do_not_depend_on_where_they_are_measured(
    place: dict[str, int], rows_of_one_process: list[dict[str, Any]], tmp_path: Path
) -> None:
    with executor(**place) as chosen, Store.create(tmp_path / "s") as store:
        backwards = run(grid(3)[::-1], store, timing=False, executor=chosen)
        found = run(grid(3), store, timing=False, executor=chosen)
    assert measured(found) == rows_of_one_process
    assert len(backwards) == len(found)


@pytest.mark.parametrize("backend", ["numpy", pytest.param("torch", marks=pytest.mark.slow), "jax"])
def test_processes_that_share_a_cell_give_its_row(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    needs(backend)
    goals = StoppingCriteria(precision=1e-9, max_replicates=2**17)
    cell = Cell(make_problem("square[dim=3]"), make_estimator("score-function"), backend, goals=goals)
    prepared = prepare(cell)
    alone = measure(prepared, goals)
    monkeypatch.setattr(sharing, "TIMED", 1)
    monkeypatch.setattr(sharing, "WORTH", 0.0)
    monkeypatch.setattr(sharing, "PIECE", 1e-6)  # one call
    helpers = sharing.Helpers(cell, 2, Limits())
    try:
        shared = measure(prepared, goals, kernel=functools.partial(sharing.SharedKernel, helpers=helpers))
        assert len(helpers._idle) == 2
    finally:
        helpers.close()
    assert shared.blocks == alone.blocks
    assert all(np.array_equal(shared.squared_norms[name], q) for name, q in alone.squared_norms.items())


@pytest.mark.slow
def test_a_dask_worker_that_is_killed_costs_no_cell() -> None:
    class Killing(Listener):
        ended = 0

        def cell_finished(self, cell: Cell, rows: list[dict[str, Any]], new: bool) -> None:
            self.ended += 1
            if self.ended in (4, 12):
                next(iter(chosen._cluster.workers.values())).process.process._process.kill()  # type: ignore[attr-defined]

    cells = grid(10)
    whole = measured(run(cells, timing=False))
    with executor(dask_local=2) as chosen:
        found = run(cells, timing=False, executor=chosen, listener=Killing())
    assert measured(found) == whole


@pytest.mark.slow
def test_a_cell_on_a_cluster_ends_with_its_run(tmp_path: Path) -> None:
    """Also where its Dask worker goes on, as on a cluster of others."""
    import distributed

    endless = StoppingCriteria(precision=1e-9, max_replicates=2**40)
    cell = Cell(make_problem("square"), make_estimator("score-function"), goals=endless)

    class Soon(Stop):
        """Asked for once the cell is being measured."""

        def __call__(self) -> bool:
            return bool(measuring())

    def measuring() -> list[int]:
        found = client.run(lambda: [p.pid for p in multiprocessing.active_children() if "Fork" in type(p).__name__])
        return [pid for pids in found.values() for pid in pids]

    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as local,
        distributed.Client(local, set_as_default=False) as client,
        executor(scheduler=local.scheduler_address) as chosen,
    ):
        assert run([cell], timing=False, executor=chosen, stop=Soon()) == []
        for _ in range(100):
            if not measuring():
                return
            time.sleep(0.1)
    pytest.fail("the cell is still being measured")


def poisoned(place: dict[str, int]) -> None:
    names = list(poisons.POISONS)
    problems: list[Any] = [x for name in names for x in ("square", poisons.problem(name))] + ["cosine"]
    cells = [
        Cell(make_problem(p) if isinstance(p, str) else p, make_estimator("pathwise"), seed=i, goals=FEW)
        for i, p in enumerate(problems)
    ]
    with executor(**place, cell_timeout=2, cell_memory="512M") as chosen:
        rows = run(cells, timing=False, executor=chosen)
    assert len(rows) == 3 * len(cells)
    found = {row["problem"]: (row["status"], row["reason"] or "") for row in rows}
    for name, (_, status, reason) in poisons.POISONS.items():
        assert found[name][0] == status, (name, found[name])
        assert reason in found[name][1]
    assert {row["status"] for row in rows if row["problem"] in ("square", "cosine")} == {"ok"}


@pytest.mark.parametrize(
    "place",
    [
        pytest.param({"workers": 1}, marks=pytest.mark.slow),
        {"workers": 2},
        pytest.param({"dask_local": 2}, marks=pytest.mark.slow),
    ],
)
def test_poisons_are_recorded_and_all_other_cells_finish(
    place: dict[str, int], capfd: pytest.CaptureFixture[str]
) -> None:
    poisoned(place)
    assert "Traceback" not in capfd.readouterr().err


def test_a_worker_that_is_killed_from_outside_once_costs_no_cell(rows_of_one_process: list[dict[str, Any]]) -> None:
    class Killing(Listener):
        """Kills the first process that measures, once."""

        done = False

        def cell_finished(self, cell: Cell, rows: list[dict[str, Any]], new: bool) -> None:
            if not self.done:
                busy = next(iter(chosen._busy), None)  # type: ignore[attr-defined]
                if busy is not None and busy._process is not None:
                    self.done = True
                    busy._process.kill()

    killing = Killing()
    with executor(workers=2) as chosen:
        found = run(grid(3), timing=False, executor=chosen, listener=killing)
    assert killing.done
    assert measured(found) == rows_of_one_process


def test_timing_has_a_process_of_its_own(tmp_path: Path) -> None:
    with executor(workers=2) as chosen, Store.create(tmp_path / "s") as store:
        rows = run(grid(1), store, executor=chosen)
        assert all(row["seconds"] > 0 and row["latency"] > 0 for row in rows)
        assert store.rows() == sorted(store.rows(), key=lambda row: row["finished"])
        assert len(store.timing_runs()) == 1


def test_classes_of_a_script_need_no_guard(tmp_path: Path) -> None:
    """A worker does not run the script again, and knows its classes."""
    (tmp_path / "script.py").write_text(
        "from dataclasses import dataclass\n"
        "import gradmeter\n"
        "from gradmeter.bench.problems.test_functions import Square\n"
        "print('once')\n"
        "@dataclass(frozen=True)\n"
        "class Mine(Square):\n"
        "    name = 'mine'\n"
        "here = gradmeter.measure(Mine(), 'pathwise', max_replicates=4096, timing=False)\n"
        "there = gradmeter.measure(Mine(), 'pathwise', max_replicates=4096, timing=False, workers=2)\n"
        "print(list(here['variance']) == list(there['variance']), list(there['status']))\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment(), capture_output=True, encoding="utf-8"
    )
    assert done.stdout.splitlines() == ["once", "True ['ok', 'ok', 'ok']"], done.stderr


def test_what_a_cell_prints_is_not_among_the_rows(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(
        "from dataclasses import dataclass\n"
        "from gradmeter.bench.problems.test_functions import Square, SquareIntegrand\n"
        "class Talking(SquareIntegrand):\n"
        "    def derivative(self, xp, data, z):\n"
        "        print('hello')\n"
        "        return super().derivative(xp, data, z)\n"
        "@dataclass(frozen=True)\n"
        "class Loud(Square):\n"
        "    name = 'loud'\n"
        "    integrand = Talking()\n"
    )
    few = ("--estimator", "pathwise", "--max-replicates", "4096", "--no-timing", "--json")
    result = process("run", "--plugin", "loud.py", "--problem", "loud", *few, cwd=tmp_path)
    assert result.status == 0, result.err
    assert [row["problem"] for row in result.rows] == ["loud"] * 3


def test_no_process_is_left_after_a_run_whose_parent_was_killed(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import os, sys, gradmeter, threading\n"
        "from gradmeter.bench.sweep.executors import InWorkers\n"
        "from gradmeter.bench.sweep import processes\n"
        "done = processes.WorkerProcess.done\n"
        "def tell(self):\n"
        "    if self.pid is not None:\n"
        "        print(self.pid, flush=True)\n"
        "    return done(self)\n"
        "processes.WorkerProcess.done = tell\n"
        "gradmeter.measure('square', 'score-function', max_replicates=2**40, precision=1e-9, timing=False, workers=1)\n"
    )
    with subprocess.Popen(
        [sys.executable, "slow.py"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, encoding="utf-8"
    ) as running:
        assert running.stdout is not None
        worker = int(running.stdout.readline())
        os.kill(worker, 0)
        running.kill()
        running.wait()
    for _ in range(100):
        if not _alive(worker):
            return
        time.sleep(0.1)
    pytest.fail("the worker process is still there")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers is '0'"),
        ({"workers": 2, "in_process": True}, "--workers and --in-process exclude each other"),
        ({"cell_timeout": "soon"}, "cell timeout is 'soon'; it must be a time such as 90s, 10m or 2h"),
        ({"cell_memory": "lots"}, "cell memory is 'lots'; it must be a size such as 500M or 2G"),
        ({"cell_timeout": 5, "in_process": True}, "--cell-timeout needs a process that can be ended"),
        ({"scheduler": "tcp://127.0.0.1:1"}, "there is no Dask scheduler at tcp://127.0.0.1:1"),
    ],
)
def test_a_wrong_choice_is_refused(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradmeter.bench.sweep.cluster.PATIENCE", 1)
    with pytest.raises(UsageError, match=r"^[^\n]*$") as caught:
        executor(**options)
    assert message in str(caught.value)


def test_processes_that_do_not_start_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_serve", os._exit)  # which takes one argument, so that it raises
    with executor(workers=1) as chosen, pytest.raises(UsageError, match="worker processes do not start"):
        run(grid(1), timing=False, executor=chosen)


def test_a_plan_runs_nothing(run_cli: Run, tmp_path: Path) -> None:
    result = run_cli("run", *GRID, "--plan", "--workers", "2")
    assert result.status == 0
    assert "4 cells to measure, 0 known, 0 not applicable" in result.out
    assert list(tmp_path.iterdir()) == []
    assert run_cli("run", *GRID, "--max-replicates", "4096", "--no-timing").status == 0
    again = run_cli("run", *GRID, "--max-replicates", "4096", "--plan", "--in-process")
    assert "0 cells to measure, 4 known" in again.out


def test_a_huge_grid_asks_first(run_cli: Run, tmp_path: Path) -> None:
    seeds = [f"--seed={seed}" for seed in range(400)]
    sizes = [f"--samples={size}" for size in range(2, 300)]
    result = run_cli("run", *GRID, *seeds, *sizes)
    assert result.status == 2
    assert "these are 476,800 cells, more than 100,000; add --yes to run them" in result.err
    assert list(tmp_path.iterdir()) == []


def test_failures_are_measured_again_where_asked(tmp_path: Path) -> None:
    one = grid(1)[:1]
    with Store.create(tmp_path / "s") as store:
        (good,) = [run(one, store, timing=False)]
        bad = [{**row, "status": "timeout", "variance": None} for row in good]
        store.add_timing([(one[0].key, bad, {})])
        assert [row["status"] for row in run(one, store, timing=False)] == ["timeout"] * 3
        assert [row["status"] for row in run(one, store, timing=False, retry=["crashed"])] == ["timeout"] * 3
        assert measured(run(one, store, timing=False, retry=["crashed", "timeout"])) == measured(good)
        assert measured(store.rows()) == measured(good)


def test_a_budget_of_time_says_what_is_not_certain(run_cli: Run, tmp_path: Path) -> None:
    wanted = ("run", "--problem", "square", "--estimator", "score-function", "--precision", "1e-9")
    wanted = (*wanted, "--max-replicates", "2^40")
    short = run_cli(*wanted, "--budget", "0.1s", "--no-timing", "--json", "--in-process")
    assert short.status == 0
    assert "the time was over" in short.rows[-1]["reason"]
    replicates = short.rows[-1]["replicates"]
    longer = run_cli(*wanted, "--budget", "1s", "--no-timing", "--json", "--in-process")
    assert longer.rows[-1]["replicates"] > replicates
    with Store.read(tmp_path / ".gradmeter" / "store.sqlite") as store:
        assert store.rows() == longer.rows  # the shorter measurement is gone


def test_a_signal_ends_a_run_and_keeps_what_has_ended(tmp_path: Path) -> None:
    (tmp_path / "kept.toml").write_text(
        '[[grid]]\nproblem = ["square"]\nestimator = ["pathwise"]\nmax_replicates = 4096\n'
        '[[grid]]\nproblem = ["cosine"]\nestimator = ["score-function"]\n'
        "precision = 1e-9\nmax_replicates = 1000000000000\n"
    )
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        result = _signalled(tmp_path, number)
        assert result.status == 130
        assert [row["problem"] for row in result.rows] == ["square"] * 3
        assert "finished rows are kept" in result.err
        assert "Traceback" not in result.err


def _signalled(folder: Path, number: int) -> Result:
    from tests.cli.running import command

    with subprocess.Popen(
        command("run", "kept.toml", "--no-timing", "--json", "--workers", "1"),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        out = "".join(running.stdout.readline() for _ in range(3))
        time.sleep(0.3)
        running.send_signal(number)
        watchdog = threading.Timer(30.0, running.kill)
        watchdog.start()
        out += running.stdout.read()
        status = running.wait()
        watchdog.cancel()
        return Result(status, out, running.stderr.read())


@dataclass(frozen=True)
class Own(Square):
    name: ClassVar[str] = "own"
    kept: Any = field(default=None, compare=False)


def test_what_cannot_be_sent_is_a_row_and_the_others_finish() -> None:
    frame = gradmeter.measure(
        [Own(threading.Lock()), "square"], "pathwise", max_replicates=2**12, timing=False, workers=2
    )
    assert frame["status"].tolist() == ["exception"] * 3 + ["ok"] * 3
    assert "it cannot be sent to a worker process: TypeError: cannot pickle" in frame["reason"][0]


class Endless:
    """Pickling it does not end before the test does."""

    over: ClassVar[threading.Event] = threading.Event()

    def __reduce__(self) -> Any:
        self.over.wait()
        return Endless, ()


def test_pickling_that_never_ends_costs_one_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PICKLING", 0.5)
    problems = [Own(Endless()), "square"]
    frame = gradmeter.measure(problems, "pathwise", max_replicates=2**12, timing=False, workers=1)
    Endless.over.set()
    assert frame["status"].tolist() == ["timeout"] * 3 + ["ok"] * 3
    assert frame["reason"][0].startswith("it cannot be sent to a worker process: pickling it did not end within 0.5 s")


def test_a_class_of_the_users_keeps_its_key_when_it_was_sent(tmp_path: Path) -> None:
    def keys(workers: int | None) -> set[str]:
        frame = gradmeter.measure(
            [Own(1), Own(2), "square"],
            "pathwise",
            max_replicates=2**12,
            timing=False,
            workers=workers,
            store=tmp_path / "s",
        )
        return set(frame["cell_key"])

    first = keys(2)
    assert len(first) == 3
    assert keys(2) == keys(None) == first
    with Store.read(tmp_path / "s") as store:
        assert len(store.rows()) == 9
