"""The baseline that knows which rows came: unbiased whatever it learned, and what it learns."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.problems.regression.logistic import LogisticIntegrand
from gradmeter.estimators import Expectation, Normal, NotApplicable
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.input_baseline import RIDGE, fitted, learn
from gradmeter.estimators.noise import Noise
from tests.support import estimate, expectation_of, make_cell, measured, single, tensor

INPUT, MOVING = "score-function[baseline=input-dependent]", "score-function[baseline=moving-average]"


@pytest.mark.parametrize("samples", [1, 2])
def test_unbiased_over_every_minibatch(backend: Backend, samples: int) -> None:
    """Four rows, all pairs of them, z by quadrature: for each pair the gradient of its own E f, and on average that
    of the whole data, whatever the frozen state."""
    design, response = np.asarray([[0.7], [-1.3], [0.4], [2.1]]), np.asarray([1.0, 0.0, 0.0, 1.0])
    data = {"design": design, "response": response}
    whole = Expectation(Normal(), LogisticIntegrand(), data, "sampled")
    drawn = Expectation(Normal(), LogisticIntegrand(), {**data, "batch": np.zeros(2)}, "sampled")
    parameters = single([0.3], [0.8])
    state = {"baseline": np.asarray(-2.7), "baseline_rows": np.asarray([1.9, -0.4, 3.3, -2.2])}
    estimator, exact = make_cell("square", INPUT).estimator, make_cell("square", "pathwise").estimator
    points, weights = tensor(["normal"] * samples, 60 if samples == 1 else 40)
    pairs = np.asarray(list(itertools.combinations(range(4), 2)))
    base = np.tile(points[..., None], (6, 1, 1))
    noise = {"base": base, "rows": np.repeat(pairs, len(points), axis=0)}
    found = estimate(backend, estimator, drawn, parameters, noise, state)
    path = estimate(backend, exact, drawn, parameters, noise)
    full = estimate(backend, exact, whole, parameters, {"base": base[: len(points)]})
    for name, g in full.items():
        mean, own = (weights @ e[name].reshape(6, len(points)).T for e in (found, path))
        np.testing.assert_allclose(mean, own, atol=1e-9)
        np.testing.assert_allclose(mean.mean(), weights @ g[:, 0], atol=1e-9)


def test_fitted_is_the_ridge_regression() -> None:
    """Against the normal equations written out, with what z alone does taken out first."""
    generator = np.random.default_rng(3)
    rows = np.stack([[generator.permutation(12)[:3] for _ in range(40)] for _ in range(5)])
    values = generator.normal(size=(1, 40)) * 50.0 + generator.normal(size=(5, 40))
    level, weights = fitted(values, rows, 15)
    counts = np.eye(15)[rows].sum(axis=-2)
    a, y = (x - x.mean(axis=0) for x in (counts, values))
    a, y = a.reshape(-1, 15), y.ravel()
    expected = np.linalg.solve(a.T @ a + RIDGE * np.eye(15), a.T @ y)
    np.testing.assert_allclose(weights, expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(level, (values - counts @ weights).mean(), rtol=1e-12)
    assert np.all(weights[12:] == 0.0)  # never seen


class OnlyRows(LogisticIntegrand):
    """f = Σ of the numbers of the rows, and of z."""

    def noise_specs(self, data: dict[str, Any]) -> dict[str, Noise]:
        return {"rows": Noise("rows", (2,), population=9)}

    def value(self, xp: Any, data: dict[str, Any], z: Any, noise: dict[str, Any]) -> Any:
        return xp.sum(xp.astype(noise["rows"], z.dtype), axis=-1)[:, None] + 100.0 * xp.sum(z, axis=-1)


def test_learns_what_the_rows_do(backend: Backend) -> None:
    generator = np.random.default_rng(1)
    base, rows = generator.normal(size=(64, 1, 1)), np.stack([generator.permutation(9)[:2] for _ in range(64)])
    noise = {"base": backend.asarray(base, "float64"), "rows": backend.asarray(rows, None)}
    parameters = {k: backend.asarray(a, "float64") for k, a in single([0.0], [1.0]).items()}
    state = learn(backend, expectation_of(OnlyRows()), parameters, noise)
    steps = np.diff(state["baseline_rows"])
    np.testing.assert_allclose(steps, 1.0, atol=0.02)  # shrunk by the ridge
    away = state["baseline"] + state["baseline_rows"][rows].sum(-1) - rows.sum(-1)
    np.testing.assert_allclose(away, 100.0 * base.mean(), atol=0.1)


def test_below_a_moving_average() -> None:
    """Minibatches of four at the fitted q: two to six times less variance. At this seed; by chance below 1e-9, as the
    logarithm of the ratio, about 1.3, has a standard error below 0.1."""
    rows = [
        measured(make_cell("logistic-regression[at=fitted,batch=4]", name, max_replicates=2**14))["all"]
        for name in (MOVING, INPUT)
    ]
    assert 2.0 < rows[0]["variance"] / rows[1]["variance"] < 6.0


@pytest.mark.parametrize("problem", ["square", "logistic-regression"])
def test_an_input_must_vary(problem: str) -> None:
    assert "give the problem a batch" in str(infeasible(make_cell(problem, INPUT)))
    assert infeasible(make_cell("logistic-regression[batch=4]", INPUT)) is None
    with pytest.raises(NotApplicable, match="input that varies"):
        prepare(make_cell(problem, INPUT))
