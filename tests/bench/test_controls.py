"""Planted bugs: every one comes out `biased`, and by as much as theory says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gradmeter.bench.cells import Cell, make_estimator
from gradmeter.bench.controls import CONTROLS
from gradmeter.bench.sweep import suites
from gradmeter.estimators import backends
from gradmeter.estimators.backends.backend import Backend
from tests.support import draws, estimate, make_cell, measured, needs

CELLS = suites.load("controls").cells
ON_NUMPY = [cell for cell in CELLS if cell.backend == "numpy"]
#: On the other backends, each bug once: on the first of its problems.
ELSEWHERE = list({(c.backend, c.estimator): c for c in reversed(CELLS) if c.backend != "numpy"}.values())
#: Chance that a size below is missed by right code with fresh seeds; the seeds are fixed. 16 of them.
FALSE_ALARM = 1e-6


def assert_biased(cell: Cell) -> None:
    needs(cell.backend)
    assert measured(cell)["all"]["verdict"] == "biased"


def capped(cell: Cell) -> Cell:
    """Their bias shows at once."""
    return replace(cell, goals=replace(cell.goals, max_replicates=2**15))


def test_the_suite_has_every_bug_on_every_backend() -> None:
    assert {type(cell.estimator) for cell in CELLS} == set(CONTROLS.values())
    for name in backends.NAMES:
        assert {cell.estimator for cell in CELLS if cell.backend == name} == {cell.estimator for cell in CELLS}


@pytest.mark.parametrize("cell", ON_NUMPY, ids=Cell.label)
def test_numpy(cell: Cell) -> None:
    assert_biased(capped(cell))


@pytest.mark.parametrize("cell", ELSEWHERE, ids=Cell.label)
@pytest.mark.matrix
def test_elsewhere(cell: Cell, eager: None) -> None:
    assert_biased(capped(cell))


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=Cell.label)
def test_the_whole_suite(cell: Cell) -> None:
    assert_biased(cell)


K, LOC, SCALE, SAMPLES = 1.37, -0.6, 0.83, 8


def relative_bias(backend: Backend, estimator: str, problem: str, samples: int = SAMPLES) -> dict[str, tuple[Any, Any]]:
    """(E ĝ − g)/g and its standard error, from 200,000 estimates."""
    cell = make_cell(problem, estimator, samples)
    expectation, parameters, exact = cell.problem.expectation(), cell.problem.parameters(), cell.problem.exact()
    assert exact is not None
    noise = draws(cell.estimator.noise_specs(expectation, samples, cell.problem.dimension), 200_000)
    found = estimate(backend, cell.estimator, expectation, parameters, noise)
    return {
        name: (
            (g.mean(axis=0) - exact.gradient[name]) / exact.gradient[name],
            g.std(axis=0) / np.abs(exact.gradient[name]) / math.sqrt(len(g)),
        )
        for name, g in found.items()
    }


@pytest.mark.parametrize(
    ("estimator", "loc", "log_scale", "slack"),
    [
        ("injected-self-included-baseline", -1 / 8, -1 / 8, 0.0),
        ("injected-in-sample-coefficient", -2 / 8, -0.43, 0.01),
        ("injected-in-sample-coefficient[form=ratio]", -3 / 10, -0.46, 0.01),
    ],
)
def test_sizes(backend: Backend, estimator: str, loc: float, log_scale: float, slack: float) -> None:
    """Square, S = 8: −g/S, −2g/S and −3g/(S + 2) in ∂loc; those of ∂log σ are known to two digits."""
    found = relative_bias(backend, estimator, f"square[k={K},loc={LOC},scale={SCALE}]")
    far = stats.norm.isf(FALSE_ALARM / 2)
    (size,), (error,) = found["loc"]
    assert abs(size - loc) < far * error
    (size,), (error,) = found["log_scale"]
    assert abs(size - log_scale) < far * error + slack


def test_other_sizes(numpy_backend: Backend) -> None:
    """What their docstrings say, on the square in two dimensions where they need it."""
    square = f"square[k={K},loc={LOC},scale={SCALE},dim=2]"
    exact: Any = make_cell(square, "pathwise").problem.exact()
    for name in ("loc", "log_scale"):
        gone = relative_bias(numpy_backend, "injected-naive-exchange", square, 1)[name]
        np.testing.assert_array_equal(gone[0], [-1.0, -1.0])
    cancelled = relative_bias(numpy_backend, "injected-differentiated-sampler", square, 1)
    np.testing.assert_allclose(cancelled["loc"][0], [-1.0, -1.0], atol=1e-12)
    expected = -exact.objective / exact.gradient["log_scale"] - 1.0
    assert np.all(np.abs(cancelled["log_scale"][0] - expected) < 6 * cancelled["log_scale"][1])
    opposite = relative_bias(numpy_backend, "injected-opposite-biases", square, 1)["loc"]
    assert np.all(
        np.abs(opposite[0] * exact.gradient["loc"] - [0.1, -0.1]) < 6 * opposite[1] * np.abs(exact.gradient["loc"])
    )


def test_opposite_biases_cancel_in_a_sum(numpy_backend: Backend) -> None:
    """So that a test which sums over parameters first would see nothing; the verdict does not sum."""
    cell = make_cell("square[k=2,dim=3]", "injected-opposite-biases", max_replicates=2**15)
    expectation, parameters = cell.problem.expectation(), cell.problem.parameters()
    noise = draws(cell.estimator.noise_specs(expectation, 1, 3), 1000)
    injected = estimate(numpy_backend, cell.estimator, expectation, parameters, noise)["loc"]
    right = estimate(numpy_backend, make_estimator("pathwise"), expectation, parameters, noise)["loc"]
    np.testing.assert_allclose((injected - right).sum(axis=1), 0.0, atol=1e-12)
    rows = measured(cell)
    assert rows["loc"]["verdict"] == rows["all"]["verdict"] == "biased"
    assert rows["log_scale"]["verdict"] == "unbiased"
