"""Mohamed et al. 2020, figures 2 and 3: where pathwise and the score function change places, by integration alone."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq

from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.integrate import integrate
from gradmeter.bench.sweep import suites
from tests.support import setting_of


def advantage(problem: str, k: float, block: str) -> float:
    """log of pathwise's exact variance over that of the score function with the optimal baseline."""
    variances = []
    for estimator in ("pathwise", "score-function[baseline=optimal]"):
        found = integrate(setting_of(f"{problem}[k={k!r},loc=1]", estimator, "numpy", 1))
        assert found is not None
        variances.append(found[block].variance[0])
    return float(np.log(variances[0] / variances[1]))


@pytest.mark.parametrize(
    ("problem", "block", "crossing"),
    [
        ("cosine", "loc", 1.0625),
        ("cosine", "log_scale", 1.2806),
        ("exponential", "loc", 0.358),
        ("exponential", "log_scale", 0.752),
    ],
)
def test_pathwise_loses_above_the_crossing(problem: str, block: str, crossing: float) -> None:
    grid = np.geomspace(0.12, 9.0, 12)
    signs = np.sign([advantage(problem, float(k), block) for k in grid])
    assert np.all(np.diff(signs) >= 0)  # one crossing
    assert signs[0] < 0 < signs[-1]
    found = brentq(lambda k: advantage(problem, k, block), 0.9 * crossing, 1.1 * crossing, xtol=1e-6)
    assert found == pytest.approx(crossing, abs=1e-3 if crossing < 1 else 1e-4)


def test_the_suite_holds_both_figures() -> None:
    cells = suites.load("mohamed2020").cells
    points = {(cell.problem.name, cell.problem.k) for cell in cells}  # type: ignore[attr-defined]
    assert {name for name, _ in points} == {"square", "cosine", "exponential"}
    assert {k for name, k in points if name == "square"} >= {-3.0, 0.0, 3.0}
    assert len({cell.estimator for cell in cells}) == 6
    assert all(infeasible(cell) is None for cell in cells)
