"""CAVI and SVI beside gradient methods: the same objective, the same start, and what a natural step is."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.fit.command import make_method
from gradmeter.bench.fit.objective import objective
from gradmeter.bench.fit.recipe import Gradient
from gradmeter.bench.fit.run import Fit, Plan, Watcher, run
from gradmeter.bench.fit.svi import StochasticVariational
from gradmeter.bench.optimisation.optimisers import make_optimiser
from gradmeter.bench.problems.mixtures.points import load
from gradmeter.estimators import NotApplicable, UsageError

MEAN_FIELD = "bayesian-gaussian-mixture[bound=mean-field,at=start]"


def fitted(problem: str, recipe: Any, steps: int) -> Fit:
    plan = Plan(make_problem(problem), recipe, steps=steps, replicates=0)
    found = Fit(plan)
    run(plan, found, Watcher())
    assert found.failed is None
    return found


def test_a_step_of_svi_is_a_natural_step_on_the_minibatch() -> None:
    """SVI's closed form is the optimiser's natural gradient step with the exact gradient of the minibatch's ELBO."""
    points, size = load("iris", 2, 3), 20
    svi = StochasticVariational(points, 3, batch=size, sigma=0.5)
    state = svi.step(svi.initial(), 1)
    rows = svi.rows(2)
    assert rows is not None
    before = svi.parameters(state)
    means, scales = (before[n].reshape(3, 2) for n in ("loc", "log_scale"))
    found = svi.locals(state, points[rows])
    share = len(points) / size
    gradient = {
        "loc": (share * found.first / 0.5**2 - means).ravel(),
        "log_scale": (1.0 - np.exp(2.0 * scales) * (1.0 + share * found.count[:, None] / 0.5**2)).ravel(),
    }
    rate = (2 + svi.delay) ** -svi.decay
    natural = make_optimiser(f"natural[rate={rate!r},forgetting=0,clip=1e9]")
    moved, _ = natural.step(np, before, gradient, {}, natural.numbers(1))
    after = svi.parameters(svi.step(state, 2))
    for name, values in after.items():
        np.testing.assert_allclose(moved[name], values, rtol=1e-12, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("hyperparameters", ["fixed", "learned"])
def test_cavi_ends_where_the_problems_gradient_is_zero(hyperparameters: str) -> None:
    problem = f"{MEAN_FIELD[:-1]},hyperparameters={hyperparameters}]"
    found = fitted(problem, make_method("cavi"), 2000)
    assert found.rows[-1]["iteration"] < 2000  # converged
    assert found.rows[-1]["gradient_norm"] < 1e-8
    values = [row["objective"] for row in found.rows]
    assert min(np.diff(values)) > -1e-10
    assert set(found.parameters) == set(make_problem(problem).parameters())


def test_all_begin_at_the_problems_point() -> None:
    gradient = Gradient(make_estimator("pathwise"), make_optimiser("adam"), 2)
    first = [fitted(MEAN_FIELD, r, 1).rows[0]["objective"] for r in (make_method("cavi"), make_method("svi"), gradient)]
    assert first[0] == pytest.approx(first[2], rel=1e-13)
    assert first[1] == pytest.approx(first[2], rel=1e-13)


def test_a_symmetric_point_is_no_start() -> None:
    """With all means in one place no step parts them, so a seed chooses."""
    problem = "bayesian-gaussian-mixture[bound=mean-field]"
    found = fitted(problem, make_method("svi[batch=10]"), 3).parameters["loc"].reshape(3, 2)
    assert np.linalg.matrix_rank(found - found.mean(axis=0), tol=1e-3) == 2


def test_refused() -> None:
    with pytest.raises(NotApplicable, match="cavi is for problem bayesian-gaussian-mixture, not for square"):
        make_method("cavi").check(make_problem("square"))
    with pytest.raises(UsageError, match=re.escape("SVI: delay is 1 and decay 0.3; delay must be at least 0")):
        make_method("svi[decay=0.3]").prepare(make_problem(MEAN_FIELD), 0)


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "steps"), [("pathwise", 1500), ("score-function[baseline=leave-one-out]", 4000)])
def test_black_box_vi_reaches_cavi(estimator: str, steps: int) -> None:
    """z summed out, by either gradient: above CAVI's ELBO, and within half a nat of it by CAVI's own measure."""
    start = "bayesian-gaussian-mixture[at=start]"
    best = fitted(MEAN_FIELD, make_method("cavi"), 2000).rows[-1]["objective"]
    recipe = Gradient(make_estimator(estimator), make_optimiser("adam[rate=0.02,delay=200,forgetting=0.6]"), 10)
    found = fitted(start, recipe, steps).parameters
    reached = objective(make_problem(start), found)
    assert reached.standard_error is not None
    assert reached.value - 4.0 * reached.standard_error > best
    assert best - 0.5 < objective(make_problem(MEAN_FIELD), found).value < best
    assert objective(make_problem(MEAN_FIELD), make_problem(start).parameters()).value < best - 80.0
