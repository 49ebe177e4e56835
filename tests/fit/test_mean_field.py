"""CAVI and SVI: the ELBO against its definition, monotone, and one step of SVI with all rows is a sweep of CAVI."""

from __future__ import annotations

import re

import numpy as np
import pytest

from gradmeter.bench.fit.svi import StochasticVariational
from gradmeter.bench.optimisation.method import Vectors
from gradmeter.bench.optimisation.monotone import ObjectiveFell
from gradmeter.bench.problems.mixtures import gaussian
from gradmeter.bench.problems.mixtures.cavi import CoordinateAscent, components
from gradmeter.bench.problems.mixtures.points import load, synthetic
from gradmeter.estimators import UsageError

DATA = [("synthetic", 2, 3), ("iris", 3, 3), ("wine", 2, 4), ("digits", 5, 4)]
AT = {"tau": 1.3, "sigma": 0.4}


def sweep(method: CoordinateAscent, most: int = 2000) -> tuple[Vectors, list[float]]:
    state, values = method.initial(), []
    for t in range(1, most + 1):
        after = method.step(state, t)
        values.append(float(after["elbo"]))
        if method.converged(state, after):
            return after, values
        state = after
    return state, values


def elbo_by_definition(points: np.ndarray, state: Vectors, r: np.ndarray) -> float:
    """E_q log p(x, z, μ) − E_q log q, term by term."""
    (size, dimension), tau, sigma = points.shape, float(state["tau"]), float(state["sigma"])
    s2 = 1.0 / state["precision"]
    m = state["weighted_mean"] * s2[:, None]
    log_2pi = np.log(2.0 * np.pi)
    prior = sum(
        -0.5 * dimension * (log_2pi + 2 * np.log(tau)) - (m[k] @ m[k] + dimension * s2[k]) / (2 * tau**2)
        for k in range(len(m))
    )
    total = prior + sum(0.5 * dimension * (1.0 + log_2pi + np.log(v)) for v in s2)
    for i in range(size):
        for k in range(len(m)):
            away = points[i] - m[k]
            fit = -0.5 * dimension * (log_2pi + 2 * np.log(sigma)) - (away @ away + dimension * s2[k]) / (2 * sigma**2)
            if r[i, k] > 0.0:
                total += r[i, k] * (np.log(state["weights"][k]) + fit - np.log(r[i, k]))
    return float(total)


@pytest.mark.parametrize("learn", [False, True])
def test_the_elbo_is_the_elbo(learn: bool) -> None:
    points = load("iris", 3, 3)[:40]
    method = CoordinateAscent(points, 3, learn=learn, **AT)
    state = method.initial()
    for t in range(1, 4):
        state = method.step(state, t)
    r = gaussian.responsibilities(points, *components(state))
    assert method.objective(state).value == pytest.approx(elbo_by_definition(points, state, r), rel=1e-12)
    worse = 0.9 * r + 0.1 / 3
    assert elbo_by_definition(points, state, worse) < method.objective(state).value


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize(("dataset", "dimension", "k"), DATA)
def test_the_elbo_never_falls(dataset: str, dimension: int, k: int, learn: bool) -> None:
    points = load(dataset, dimension, k)
    _, values = sweep(CoordinateAscent(points, k, seed=1, learn=learn, **AT), 300)
    assert min(np.diff(values)) >= -1e-12 * len(points)
    assert values[-1] > values[0]


@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize(("dataset", "dimension", "k"), DATA)
def test_svi_with_all_rows_and_step_one_is_a_sweep(dataset: str, dimension: int, k: int, learn: bool) -> None:
    points = load(dataset, dimension, k)
    cavi = CoordinateAscent(points, k, learn=learn, **AT)
    svi = StochasticVariational(points, k, batch=len(points), decay=0.0, learn=learn, **AT)
    one, other = cavi.initial(), svi.initial()
    for t in range(1, 6):
        one, other = cavi.step(one, t), svi.step(other, t)
        for name, values in other.items():
            np.testing.assert_allclose(values, one[name], rtol=1e-12, atol=1e-12 * np.abs(values).max())


def test_a_minibatch_is_unbiased_for_the_sweep() -> None:
    """Over every batch of one row, the mean of the natural parameters it aims at is what CAVI would set."""
    points = load("wine", 2, 3)
    cavi = CoordinateAscent(points, 3, **AT)
    state = cavi.step(cavi.initial(), 1)
    aims = [cavi.globals(state, cavi.locals(state, points[[i]]), len(points)) for i in range(len(points))]
    whole = cavi.globals(state, cavi.locals(state, points), 1.0)
    for name, values in whole.items():
        mean = np.mean([aim[name] for aim in aims], axis=0)
        np.testing.assert_allclose(mean, values, rtol=1e-11, atol=1e-11 * np.abs(values).max())


def test_svi_comes_to_where_cavi_is() -> None:
    """On well separated components; the noise that is left falls with the steps."""
    points, _ = synthetic(2000, 2, 3)
    best = sweep(CoordinateAscent(points, 3, seed=2, **AT))[1][-1]
    svi = StochasticVariational(points, 3, batch=50, seed=2, **AT)
    state = svi.initial()
    start = svi.objective(state).value
    for t in range(1, 1001):
        state = svi.step(state, t)
    assert best - svi.objective(state).value < 1e-3 * (best - start)
    assert svi.evaluations == 50 / 2000


def test_the_same_seed_takes_the_same_rows() -> None:
    points = load("iris", 2, 3)
    first, again = (StochasticVariational(points, 3, batch=7, seed=5) for _ in range(2))
    other = StochasticVariational(points, 3, batch=7, seed=6)
    rows = first.rows(3)
    assert rows is not None
    assert len(set(rows.tolist())) == 7
    np.testing.assert_array_equal(rows, again.rows(3))
    assert not np.array_equal(rows, other.rows(3))
    assert not np.array_equal(rows, first.rows(4))


def test_a_component_without_points_is_back_at_its_prior() -> None:
    points = np.linspace(-1.0, 1.0, 12)[:, None]
    method = CoordinateAscent(points, 2, begin=np.asarray([[0.0], [60.0]]), **AT)
    state = method.step(method.initial(), 1)
    assert state["precision"][1] == pytest.approx(AT["tau"] ** -2)
    assert state["weighted_mean"][1, 0] == pytest.approx(0.0, abs=1e-12)


def test_learned_weights_may_reach_zero() -> None:
    points = np.linspace(-1.0, 1.0, 12)[:, None]
    state, values = sweep(CoordinateAscent(points, 2, learn=True, begin=np.asarray([[0.0], [60.0]]), **AT))
    assert state["weights"][1] == 0.0
    assert np.all(np.isfinite(values))
    assert all(np.all(np.isfinite(a)) for a in state.values())


def test_labels_mean_nothing() -> None:
    points, _ = synthetic(400, 2, 3)
    begin, order = gaussian.start(points, 3, 4), np.asarray([1, 2, 0])
    ends = [sweep(CoordinateAscent(points, 3, begin=means, **AT)) for means in (begin, begin[order])]
    assert ends[1][1][-1] == pytest.approx(ends[0][1][-1], rel=1e-12)
    means = [(state["weighted_mean"] / state["precision"][:, None]) for state, _ in ends]
    np.testing.assert_allclose(means[1], means[0][order], atol=1e-9)


def test_a_fall_is_an_error() -> None:
    method = CoordinateAscent(load("iris", 2, 2), 2)
    state = method.initial()
    with pytest.raises(ObjectiveFell, match=r"CAVI: the ELBO fell from .* at iteration 3"):
        method.step({**state, "elbo": state["elbo"] + 1e-6}, 3)


def test_bad_steps_are_refused() -> None:
    points = load("iris", 2, 2)
    with pytest.raises(
        UsageError, match=re.escape("SVI: batch is 151; it must be from 1 to 150, the number of points")
    ):
        StochasticVariational(points, 2, batch=151)
    with pytest.raises(UsageError, match=r"decay above 0\.5"):
        StochasticVariational(points, 2, decay=0.4)
    with pytest.raises(UsageError, match="3 components need at least as many points"):
        CoordinateAscent(points[:2], 3)
