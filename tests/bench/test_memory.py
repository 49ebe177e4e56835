"""Memory does not grow with replicates."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import needs

SCRIPT = """
import resource, sys
from bench.measurement.cell import measure, prepare
from bench.sweep.cells import Cell, Goals, make_estimator, make_problem
backend, problem, cap = sys.argv[1], sys.argv[2], int(sys.argv[3])
cell = Cell(make_problem(problem), make_estimator("pathwise"), backend, goals=Goals(1e-9, 1e-9, cap))
count = measure(prepare(cell), cell.goals).replicates
assert cap / 4 <= count <= cap or count <= 2**20, count
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(backend: str, problem: str, replicates: int) -> int:
    command = [sys.executable, "-c", SCRIPT, backend, problem, str(replicates)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout)


@pytest.mark.parametrize(
    ("backend", "problem"),
    [
        ("numpy", "square[k=2]"),
        pytest.param("numpy", "square[k=2,dim=100]", marks=pytest.mark.slow),
        pytest.param("torch", "square[k=2]", marks=pytest.mark.slow),
        pytest.param("jax", "square[k=2]", marks=pytest.mark.slow),
    ],
)
def test_peak_memory(backend: str, problem: str) -> None:
    """At 10^7 replicates within 10 % of the peak at 10^6, the fewest."""
    needs(backend)
    assert peak(backend, problem, 10**7) <= 1.1 * peak(backend, problem, 10**6)
