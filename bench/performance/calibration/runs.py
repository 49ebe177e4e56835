"""Runs of the small suite, each timed by separate processes: identical runs, and runs with injected changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gradmeter.bench.performance.calibration.cells import PAIRS, cells
from gradmeter.bench.performance.calibration.plants import ChangedCells, noisier, plan, slowing
from gradmeter.bench.rows import ALL
from gradmeter.bench.sweep.run import run
from gradmeter.bench.sweep.store import Store

#: Number of processes that time a run, as `gradmeter run` followed by `gradmeter run --time-again` does.
PROCESSES = 2


def path(folder: Path, kind: str, number: int) -> Path:
    """Return the file of a run."""
    return folder / f"{kind}-{number:02d}.sqlite"


def plan_of(kind: str, number: int) -> ChangedCells:
    return plan(number, len(PAIRS), len(cells()) // len(PAIRS)) if kind == "injected" else ChangedCells()


def measure(folder: Path, kind: str, number: int, process: int) -> None:
    """Run the suite, or time it again; the file appears when the last process has ended.

    A run with injected noise needs the first identical run, which has the variances that the noise is scaled to.
    """
    chosen, suite = plan_of(kind, number), cells()
    if chosen.noisier:
        with Store.read(path(folder, "identical", 0)) as store:
            for i in chosen.noisier:
                rows = [r for r in store.rows([suite[i].key]) if r["block"] != ALL]
                suite[i] = noisier(suite[i], {r["block"]: r["variance"] for r in rows})
    slow = [(suite[i].problem.name, suite[i].problem.dimension, suite[i].backend) for i in chosen.slower]
    unfinished = path(folder, kind, number).with_suffix(".unfinished")
    if process == 0:
        unfinished.unlink(missing_ok=True)
    with (
        slowing(lambda ready: (ready.setting.path[0], ready.setting.dimension, ready.setting.backend.name) in slow),
        Store.create(unfinished) as store,
    ):
        rows = run(suite, store, time_again=process > 0)
    failures = {str(r["reason"]) for r in rows if r["status"] != "ok" or r["seconds"] is None}
    if failures:
        raise RuntimeError(f"a calibration run failed: {'; '.join(sorted(failures))}")
    if process == PROCESSES - 1:
        unfinished.rename(path(folder, kind, number))


def measure_apart(folder: Path, kind: str, number: int) -> None:
    """Run all processes of a run, unless its file exists."""
    if path(folder, kind, number).exists():
        return
    for process in range(PROCESSES):
        arguments = ["run", kind, str(number), str(process), "--folder", str(folder)]
        subprocess.run([sys.executable, "-m", "gradmeter.bench.performance.calibration", *arguments], check=True)
