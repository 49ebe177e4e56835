"""Budgets as the number of draws grows: cost in proportion to it, memory constant."""

from __future__ import annotations

import itertools
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.measurement.kernel import StatisticsKernel
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.performance.goals.goal import Goal, Measured
from gradmeter.bench.performance.goals.kernels import present, setting

DRAWS = tuple(10**p for p in (6, 7, 8, 9))
REPLICATES = 1000
#: What grows -> (D, S, replicates) for a number of draws of noise.
AXES = {
    "replicates": lambda draws: (100, 1, draws // 100),
    "S": lambda draws: (10, draws // (10 * REPLICATES), REPLICATES),
    "D": lambda draws: (draws // REPLICATES, 1, REPLICATES),
}


def linear() -> Iterator[Goal]:
    """Yield the slope of log seconds on log draws, fitted over 10^6 to 10^9 draws, as replicates, S or D grow.

    Seconds consist of a fixed overhead and a price per draw; the remark states both.
    """
    for backend, (axis, sizes) in itertools.product(present(), AXES.items()):
        seconds = np.array([_seconds(backend, *sizes(draws)) for draws in DRAWS])
        draws = np.array(DRAWS, dtype=float)
        (slope, _), covariance = np.polyfit(np.log(draws), np.log(seconds), 1, cov=True)
        half = 1.96 * float(np.sqrt(covariance[0, 0]))
        price = seconds[-1] / draws[-1]
        yield Goal(
            f"seconds against draws, slope over 10^6 to 10^9: {backend}, growing {axis}",
            Measured(float(slope), float(slope) - half, float(slope) + half),
            least=0.95,
            most=1.05,
            remark=f"{1e9 * price:.2f} ns a draw, overhead {1e3 * max(0.0, seconds[0] - price * draws[0]):.2g} ms",
        )


def _seconds(backend: str, dimension: int, samples: int, replicates: int) -> float:
    """Return the seconds for this many replicates, scaled from whole compiled calls, the fastest of several."""
    s = setting(f"square[k=2,dim={dimension}]", "pathwise", backend, samples)
    kernel, roots, centre = StatisticsKernel(s), s.roots("timing"), s.zeros()
    per_call = s.replicates * kernel.chunk
    calls = max(1, round(replicates / per_call))
    kernel(roots, 0, centre)
    fastest, spent = np.inf, 0.0
    while spent < 1.0:
        start = time.perf_counter()
        for i in range(calls):
            kernel(roots, i * kernel.chunk, centre)
        taken = time.perf_counter() - start
        fastest, spent = min(fastest, taken), spent + taken
    return fastest * replicates / (calls * per_call)


_PEAK = """
import sys
from gradmeter.bench.performance.goals.scaling import peak, prepared
from gradmeter.bench.measurement.cell import measure
ready, goals = prepared(sys.argv[1], sys.argv[2], int(sys.argv[3]))
print(measure(ready, goals).replicates, peak())
"""


def peak() -> int:
    """Return the peak memory of this process in kB. On Linux getrusage would include the parent's peak."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def prepared(backend: str, problem: str, replicates: int) -> Any:
    """Return a cell that stops only at this many replicates, and its stopping criteria.

    Parameters
    ----------
    backend
        Name of the backend.
    problem
        `name[k=v,...]`.
    replicates
        Number of replicates.
    """
    never = StoppingCriteria(precision=1e-9, bias_bound=1e-9, max_replicates=replicates)
    return prepare(Cell(make_problem(problem), make_estimator("pathwise"), backend, goals=never)), never


def peak_of(backend: str, problem: str, replicates: int) -> tuple[int, int]:
    """Return the replicates (whole blocks, at least 64) and peak memory in kB of a process that measures one cell.

    Parameters
    ----------
    backend
        Name of the backend.
    problem
        `name[k=v,...]`.
    replicates
        Number of replicates.
    """
    command = [sys.executable, "-c", _PEAK, backend, problem, str(replicates)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    count, kilobytes = (int(word) for word in done.stdout.split())
    return count, kilobytes


def memory() -> Iterator[Goal]:
    """Yield the peak memory at 10^8 replicates over that at 10^6, which are 64 blocks."""
    for backend in present():
        (few, small), (many, large) = (peak_of(backend, "square[k=2]", replicates) for replicates in (10**6, 10**8))
        both = Measured(large / small, large / small, large / small)
        remark = f"{large / 1024:.0f} MiB at {many:,} replicates, {small / 1024:.0f} MiB at {few:,}"
        yield Goal(f"peak memory, 100 times the replicates: {backend}, D = 1", both, most=1.05, remark=remark)
