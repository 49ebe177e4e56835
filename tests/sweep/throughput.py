"""What a sweep costs beyond its cells: `python -m tests.sweep.throughput`; prints one line a figure.

Tiny cells show the cost of a cell in process and in workers, larger ones how two workers share the work, and a single
one what isolation adds to a run. Compare figures of one run only, on an idle machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.measurement.cell import measure
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.sweep.choosing import executor
from gradmeter.bench.sweep.run import run
from gradmeter.bench.sweep.store import Store
from tests.cli.running import command, environment


def grid(seeds: int, replicates: int) -> list[Cell]:
    """Cells that draw this many replicates each, and differ in their seeds."""
    goals = StoppingCriteria(precision=1e-9, max_replicates=replicates)
    return [
        Cell(make_problem("square"), make_estimator("score-function"), seed=seed, goals=goals) for seed in range(seeds)
    ]


def seconds(cells: Sequence[Cell], **place: Any) -> float:
    """Return the time of a sweep with a store, without that of starting its processes."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Store.create(Path(folder) / "s") as store,
        executor(**place) as chosen,
    ):
        run(cells[:4], timing=False, executor=chosen)
        begun = time.perf_counter()
        run(cells, store, timing=False, executor=chosen)
        return time.perf_counter() - begun


def alone(cells: Sequence[Cell]) -> float:
    """Return the time of measuring the cells and nothing else."""
    begun = time.perf_counter()
    for cell in cells:
        measure(prepare(cell), cell.goals)
    return time.perf_counter() - begun


def whole_run(*options: str) -> float:
    """Return the least time of three runs of one cell from the command line."""
    few = ("--problem", "square", "--estimator", "pathwise", "--max-replicates", "4096", "--no-timing")
    times = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            subprocess.run(
                command("run", *few, *options), cwd=folder, env=environment(), capture_output=True, check=True
            )
            times.append(time.perf_counter() - begun)
    return min(times)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sweep.throughput", description=__doc__)
    parser.add_argument("--cells", type=int, default=2000, help="tiny cells")
    given = parser.parse_args()
    tiny = grid(given.cells, 64)
    bare = alone(tiny)
    for name, place in (("in process", {"in_process": True}), ("with 2 workers", {"workers": 2})):
        cost = seconds(tiny, **place)
        print(
            f"a tiny cell {name}: {1e3 * cost / len(tiny):.2f} ms, of which measuring {1e3 * bare / len(tiny):.2f} ms"
        )
    large = grid(40, 2**22)
    one, two = seconds(large, workers=1), seconds(large, workers=2)
    print(f"a cell of {one / len(large):.2f} s: 2 workers measure {one / two:.2f} times as many a second as 1")
    here, isolated = whole_run("--in-process"), whole_run("--workers", "1")
    print(f"a run of one cell: {here:.2f} s in process, {isolated:.2f} s isolated, {isolated - here:.2f} s more")
    return 0


if __name__ == "__main__":
    sys.exit(main())
