"""Memory does not grow with replicates."""

from __future__ import annotations

import pytest

from gradmeter.bench.performance.goals.scaling import peak_of
from tests.support import needs


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
    """At 10^7 replicates within 10 % of the peak at 10^6, which the fewest blocks are."""
    needs(backend)
    (few, small), (many, large) = (peak_of(backend, problem, replicates) for replicates in (10**6, 10**7))
    assert few < 2 * 10**6 < many <= 10**7
    assert large <= 1.1 * small
