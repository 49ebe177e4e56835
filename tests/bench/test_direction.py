"""The columns on the direction and the length of E ĝ relative to g, against gradients whose mean is known."""

from __future__ import annotations

import numpy as np
import pytest

from gradmeter.bench.measurement.direction import cosine, integrated_scale, sampled_scale
from gradmeter.bench.rows import ALL
from tests.support import make_cell, measured


def test_the_cosine_and_the_factor_of_a_known_mean() -> None:
    exact, mean = np.array([3.0, 4.0]), np.array([4.0, 3.0])
    nothing = np.zeros(2)
    assert cosine(mean, nothing, exact) == pytest.approx(24.0 / 25.0, abs=1e-15)
    assert integrated_scale(mean, nothing, exact) == pytest.approx((24.0 / 25.0,) * 3, abs=1e-15)
    groups = np.tile(mean, (64, 1)) + np.outer(np.linspace(-1.0, 1.0, 64), exact)
    factor, low, high = sampled_scale(groups, exact) or (0.0, 0.0, 0.0)
    assert factor == pytest.approx(24.0 / 25.0, abs=1e-12)
    assert factor - low == pytest.approx(high - factor)
    assert factor - low == pytest.approx(
        1.99834 * np.sqrt(np.linspace(-1, 1, 64).var(ddof=1) / 64), rel=1e-5
    )  # t of 63 d.f.


def test_nothing_is_said_without_a_direction() -> None:
    zero, one = np.zeros(2), np.ones(2)
    assert cosine(one, zero, zero) is None
    assert cosine(1e-17 * one, 1e-16 * one, one) is None
    assert sampled_scale(np.ones((64, 2)), zero) is None
    assert integrated_scale(one, zero, zero) is None


@pytest.mark.parametrize("problem", ["three-bernoullis", "square"])  # by integration, and by sampling
def test_a_row_says_that_a_bias_is_a_pure_scale(problem: str) -> None:
    samples = 4 if problem == "square" else 2
    cell = make_cell(problem, "injected-self-included-baseline", samples)
    row = measured(cell)[ALL]
    assert row["scale_low"] <= (samples - 1) / samples <= row["scale_high"]
    assert row["cosine"] == pytest.approx(1.0, abs=1e-12 if row["certificate"] == "integration" else 0.01)
