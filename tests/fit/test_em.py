"""EM: monotone, the same as scikit-learn's from the same start, and clear where the likelihood has no maximum."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from gradmeter.bench.optimisation.method import Vectors
from gradmeter.bench.optimisation.monotone import ObjectiveFell
from gradmeter.bench.problems.mixtures import gaussian
from gradmeter.bench.problems.mixtures.em import ExpectationMaximisation
from gradmeter.bench.problems.mixtures.points import load, synthetic
from gradmeter.estimators import UsageError
from tests.mixture import marginal_gradient

DATA = [("synthetic", 2, 3), ("iris", 4, 3), ("wine", 3, 3), ("digits", 5, 4)]


def run(method: ExpectationMaximisation, most: int) -> tuple[Vectors, list[float]]:
    state, values = method.initial(), []
    for t in range(1, most + 1):
        after = method.step(state, t)
        values.append(float(after["log_likelihood"]))
        if method.converged(state, after):
            return after, values
        state = after
    return state, [*values, method.objective(state).value]


@pytest.mark.parametrize(("dataset", "dimension", "components"), DATA)
def test_the_likelihood_never_falls_and_ends_where_its_gradient_is_zero(
    dataset: str, dimension: int, components: int
) -> None:
    points = load(dataset, dimension, components)
    method = ExpectationMaximisation(points, components, seed=1)
    state, values = run(method, 4000)
    assert min(np.diff(values)) >= -1e-12 * len(points)
    assert values[-1] > values[0] + 0.1 * len(points)
    parameters = method.parameters(state)
    _, gradient = marginal_gradient(points, *(parameters[n] for n in ("means", "log_scales", "weight_logits")))
    assert max(np.abs(g).max() for g in gradient.values()) < 1e-6 * len(points)


@pytest.mark.parametrize(("dataset", "dimension", "components"), DATA)
def test_agrees_with_scikit_learn(dataset: str, dimension: int, components: int) -> None:
    """From the same start both reach the same log-likelihood, to 1e-6 a point, with the same means."""
    from sklearn.mixture import GaussianMixture

    points = load(dataset, dimension, components)
    method = ExpectationMaximisation(points, components, seed=2)
    begin = method.initial()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a tolerance of 0 is never reached
        theirs = GaussianMixture(
            components,
            covariance_type="diag",
            tol=0.0,
            reg_covar=0.0,
            max_iter=3000,
            weights_init=begin["weights"],
            means_init=begin["means"],
            precisions_init=1.0 / begin["variances"],
        ).fit(points)
    state, _ = run(method, 3000)
    assert method.objective(state).value / len(points) == pytest.approx(theirs.score(points), abs=1e-6)
    np.testing.assert_allclose(state["means"], theirs.means_, atol=1e-4)


def test_the_gradient_is_that_of_the_likelihood() -> None:
    """Fisher's identity against central differences."""
    points = load("iris", 2, 3)[:20]
    generator = np.random.default_rng(0)
    at = [generator.normal(size=(3, 2)), 0.3 * generator.normal(size=(3, 2)), generator.normal(size=3)]
    _, gradient = marginal_gradient(points, at[0], at[1], at[2])
    for block, (name, found) in enumerate(gradient.items()):
        for index in np.ndindex(found.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [a.copy() for a in at]
                moved[block][index] += step
                ends.append(marginal_gradient(points, *moved)[0])
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(found[index], abs=1e-6), name


def test_responsibilities_far_from_every_mean() -> None:
    """Where every density underflows, the nearest component still takes the point."""
    means, scales = np.asarray([[0.0], [1.0]]), np.full((2, 1), 1e-3)
    r = gaussian.responsibilities(np.asarray([[1e6], [-1e6]]), means, scales, np.log([0.5, 0.5]))
    np.testing.assert_array_equal(r, [[0.0, 1.0], [1.0, 0.0]])


def test_labels_mean_nothing() -> None:
    """A start with its components in another order ends in that order, and is matched back."""
    points, truth = synthetic(400, 2, 3)
    one = ExpectationMaximisation(points, 3, seed=0)
    begin, order = one.initial(), np.asarray([2, 0, 1])
    other = ExpectationMaximisation(points, 3, begin={n: a[order] for n, a in begin.items() if n != "log_likelihood"})
    states = [run(method, 50)[0] for method in (one, other)]
    np.testing.assert_allclose(states[1]["means"], states[0]["means"][order], atol=1e-10)
    matched = [state["means"][gaussian.match(state["means"], truth.means)] for state in states]
    np.testing.assert_allclose(matched[1], matched[0], atol=1e-10)
    np.testing.assert_allclose(matched[0], truth.means, atol=0.2)


def test_a_fall_is_an_error() -> None:
    method = ExpectationMaximisation(load("iris", 2, 2), 2)
    state = method.initial()
    with pytest.raises(ObjectiveFell, match=r"EM: the log-likelihood fell from .* at iteration 7"):
        method.step({**state, "log_likelihood": state["log_likelihood"] + 1e-6}, 7)


HOSTILE = [
    ([[0.0, np.nan]], 1, "the data holds nan at row 0, column 1; every number must be finite"),
    ([[0.0], [np.inf]], 1, "the data holds inf at row 1, column 0; every number must be finite"),
    ([[0.0], [1.0]], 3, "3 components need at least as many points; the data has 2"),
    ([0.0, 1.0], 1, "the data has shape [2]; it must be [rows, columns], none of them 0"),
    ([["a"]], 1, "the data must be numbers in rows and columns"),
    ([[1.0, 0.0], [1.0, 2.0]], 1, "every point has the same coordinate 0: leave it out"),
    ([[0.0], [0.0], [1.0]], 3, "3 components need as many distinct points; the data has 2"),
]


@pytest.mark.parametrize(("points", "components", "message"), HOSTILE)
def test_hostile_data_is_refused(points: list[object], components: int, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        ExpectationMaximisation(np.asarray(points), components).initial()


def collapsing(floor: float) -> ExpectationMaximisation:
    """A component that starts at one far point, and has no other."""
    points = np.concatenate([np.linspace(0.0, 1.0, 20), [50.0]])[:, None]
    begin = {"weights": np.full(2, 0.5), "means": np.asarray([[0.5], [50.0]]), "variances": np.full((2, 1), 0.1)}
    return ExpectationMaximisation(points, 2, floor=floor, begin=begin)


def test_a_singular_covariance_is_refused_or_bounded() -> None:
    with pytest.raises(UsageError, match=r"EM: component 1 has no variance left in coordinate 0 .* set floor"):
        run(collapsing(0.0), 10)
    method = collapsing(1e-4)
    state, values = run(method, 100)
    assert state["variances"][1, 0] == method.floor[0]
    assert min(np.diff(values)) >= 0.0


def test_an_empty_component_is_refused() -> None:
    begin = {"weights": np.full(2, 0.5), "means": np.asarray([[0.0], [1e4]]), "variances": np.ones((2, 1))}
    method = ExpectationMaximisation(np.linspace(-1.0, 1.0, 9)[:, None], 2, begin=begin)
    with pytest.raises(UsageError, match="EM: component 1 is responsible for no point at iteration 1"):
        run(method, 10)
