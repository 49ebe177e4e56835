"""Budgets of the whole program against its kernel, and of the quick suite from a cold start."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.measurement.kernel import StatisticsKernel
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.performance.goals.goal import Goal, Measured, ratio
from gradmeter.bench.performance.goals.kernels import present
from gradmeter.bench.sweep.run import run
from gradmeter.bench.sweep.store import Store

REPLICATES = 10**7


def overhead() -> Iterator[Goal]:
    """Yield the time of a cell of about 10^7 replicates, judged and stored, over the same blocks of the bare kernel."""
    never = StoppingCriteria(precision=1e-9, bias_bound=1e-9, max_replicates=REPLICATES)
    for backend, dimension in itertools.product(present(), (10, 100)):
        problem = make_problem(f"square[k=2,dim={dimension}]")
        cell = Cell(problem, make_estimator("pathwise"), backend, dtype="float32", goals=never)
        s = prepare(cell).setting
        kernel, roots, centre = StatisticsKernel(s), s.roots("main"), s.zeros()
        with tempfile.TemporaryDirectory() as folder:
            numbers = iter(range(10**6))
            counts: list[int] = []

            def whole() -> None:
                with Store.create(Path(folder) / f"{next(numbers)}.sqlite") as store:  # noqa: B023
                    rows = run([cell], store, timing=False)  # noqa: B023
                counts.append(rows[0]["replicates"])  # noqa: B023

            whole()
            blocks = range(0, counts[0] // s.replicates, kernel.chunk)

            def bare() -> None:
                for first in blocks:  # noqa: B023
                    kernel(roots, first, centre)  # noqa: B023

            measured = ratio(whole, bare, rounds=10 if dimension == 10 else 5)
        yield Goal(
            f"the whole program over its kernel: {backend}, D = {dimension}, {counts[0]:,} replicates",
            measured,
            most=1.03,
        )


def quick_suite() -> Iterator[Goal]:
    """Yield the seconds of `gradmeter run quick` in a separate process: with nothing compiled before, then again."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store.sqlite")
        command = [sys.executable, "-m", "gradmeter", "run", "quick", "--store", store]
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(Path(folder) / "compiled")}
        for name, limit in (("cold", 90.0), ("again", 2.0)):
            start = time.perf_counter()
            subprocess.run(command, env=environment, capture_output=True, check=True)
            taken = time.perf_counter() - start
            yield Goal(f"seconds of the quick suite, {name}", Measured(taken, taken, taken), most=limit)
