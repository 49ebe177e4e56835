"""Discrete problems: their exact gradients against sums over all states, their integrands against definitions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from gradmeter.bench.cells import make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.integrate import integrate
from gradmeter.bench.problems.enumerated import exact_enumerated
from gradmeter.bench.sweep import suites
from gradmeter.estimators import Expectation, UsageError
from gradmeter.estimators.backends.backend import Backend
from tests.support import called_once, draws, estimate, make_cell, setting_of

NETWORK = "sigmoid-belief-network[images=2,hidden=3"
SMALL = (
    f"{NETWORK}]",
    f"{NETWORK},at=prior]",
    f"{NETWORK},at=fitted,entropy=analytic]",
    "categorical-square[categories=3,choices=2,tilt=1.2]",
    "square[family=bernoulli,probability=0.3,k=0.49,dim=4]",
    "polynomial[family=bernoulli,probability=0.7,degree=3,dim=3]",
)


def moved(parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(8)
    return {name: a + 0.3 * generator.standard_normal(a.shape) for name, a in parameters.items()}


@pytest.mark.parametrize("text", SMALL)
def test_exact_is_the_sum_over_states(text: str) -> None:
    """At the point of the options and at another."""
    problem = make_cell(text, "score-function").problem
    for parameters in (problem.parameters(), moved(problem.parameters())):
        exact, summed = (
            problem.exact_at(parameters),
            exact_enumerated(problem.expectation(), parameters, problem.dimension),
        )
        assert exact is not None
        assert summed is not None
        np.testing.assert_allclose(exact.gradient["logits"], summed.gradient["logits"], rtol=0.0, atol=1e-12)
        np.testing.assert_allclose(exact.objective, summed.objective, rtol=1e-13)
        if exact.optimal_baseline is not None:
            assert summed.optimal_baseline is not None
            np.testing.assert_allclose(exact.optimal_baseline["logits"], summed.optimal_baseline["logits"], rtol=1e-11)


@pytest.mark.parametrize("options", ["images=1,hidden=3", "images=2,hidden=1,at=fitted", "images=1,hidden=2,at=prior"])
@pytest.mark.parametrize("count", [2, 3])
def test_bound_is_the_sum_over_groups_of_states(options: str, count: int) -> None:
    """E log (1/K) Σ w over all groups of K states, and its derivative E[log (1/K) Σ w Σ score − Σ w̃ score]."""
    problem = make_problem(f"sigmoid-belief-network[{options},importance-samples={count}]")
    for logits in moved(problem.parameters())["logits"], problem.parameters()["logits"]:
        states = np.array(list(itertools.product((0.0, 1.0), repeat=problem.dimension)))
        log_q = states @ logits - np.logaddexp(0.0, logits).sum()
        log_weight = problem.integrand.value(np, problem.data(), states, {}) - log_q
        score = states - np.exp(-np.logaddexp(0.0, -logits))
        groups = np.array(list(itertools.product(range(len(states)), repeat=count)))
        probability = np.exp(log_q[groups].sum(axis=1))
        bound = logsumexp(log_weight[groups], axis=1) - np.log(count)
        share = softmax(log_weight[groups], axis=1)
        slope = bound[:, None] * score[groups].sum(axis=1) - (share[..., None] * score[groups]).sum(axis=1)
        exact = problem.exact_at({"logits": logits})
        assert exact is not None
        np.testing.assert_allclose(exact.objective, probability @ bound, rtol=1e-13)
        scale = probability @ np.abs(slope)
        np.testing.assert_allclose(exact.gradient["logits"], probability @ slope, rtol=0.0, atol=1e-12 * scale.max())


@pytest.mark.parametrize("estimator", ["vimco", "multi-sample-disarm"])
def test_unbiased_for_the_bound(estimator: str) -> None:
    problem = f"{NETWORK.replace('images=2', 'images=1')},importance-samples=2]"
    found = integrate(setting_of(problem, estimator, "numpy"))
    exact = make_problem(problem).exact()
    assert found is not None
    assert exact is not None
    np.testing.assert_allclose(found["logits"].mean, exact.gradient["logits"], rtol=0.0, atol=1e-11)


def test_bounds_that_are_refused() -> None:
    with pytest.raises(UsageError, match=r"images × hidden ≤ 12.*it is 60: give images=2"):
        make_problem("sigmoid-belief-network[importance-samples=2]")
    with pytest.raises(UsageError, match="give entropy=sampled"):
        make_problem(f"{NETWORK},importance-samples=2,entropy=analytic]")


def test_sums_over_coordinates_are_exact_for_states() -> None:
    """A wave over two tied Bernoullis: E f = 2 (q cos 0 + p cos k)."""
    problem = make_cell("cosine[family=tied-bernoulli,probability=0.3,k=1.3,dim=2]", "disarm").problem
    exact = problem.exact()
    assert exact is not None
    assert exact.source == "enumeration"
    np.testing.assert_allclose(exact.objective, 2.0 * (0.7 + 0.3 * np.cos(1.3)), rtol=1e-14)
    np.testing.assert_allclose(exact.gradient["logits"], [2.0 * 0.21 * (np.cos(1.3) - 1.0)], rtol=1e-13)


@pytest.mark.parametrize("text", SMALL)
def test_the_gradient_is_that_of_the_sum(text: str) -> None:
    """Against central differences of the objective, of order h⁴."""
    problem, h = make_cell(text, "score-function").problem, 1e-3
    parameters = moved(problem.parameters())
    if problem.entropy == "analytic":
        problem = make_cell(text.replace("analytic", "sampled"), "score-function").problem
    exact = problem.exact_at(parameters)
    assert exact is not None
    for place in np.ndindex(*parameters["logits"].shape):
        values = []
        for step in (-2.0, -1.0, 1.0, 2.0):
            at = parameters["logits"].copy()
            at[place] += step * h
            there = problem.exact_at({"logits": at})
            assert there is not None
            values.append(there.objective)
        slope = (8.0 * (values[2] - values[1]) - (values[3] - values[0])) / (12.0 * h)
        np.testing.assert_allclose(exact.gradient["logits"][place], slope, rtol=1e-7, atol=1e-9)


def test_coordinate_ascent_ends_where_the_gradient_is_zero() -> None:
    problem = make_cell("sigmoid-belief-network[at=fitted]", "arm").problem
    exact = problem.exact()
    assert exact is not None
    assert np.abs(exact.gradient["logits"]).max() < 1e-11
    below = [make_cell(f"sigmoid-belief-network[at={at}]", "arm").problem.exact() for at in ("prior", "halfway")]
    assert all(other is not None and other.objective < exact.objective for other in below)


@pytest.mark.parametrize("text", [f"{NETWORK}]", "categorical-square[categories=3,choices=2]"])
def test_derivatives_between_states(differentiating: Backend, text: str) -> None:
    """∇f, and ∇²f where it is offered, at relaxed z against automatic differentiation."""
    backend, expectation = differentiating, make_cell(text, "score-function").problem.expectation()
    integrand, xp = expectation.integrand, backend.xp
    data = {name: backend.asarray(a, "float64") for name, a in expectation.data.items()}
    generator = np.random.default_rng(2)
    z, vector = (
        backend.asarray(a, "float64") for a in (generator.uniform(size=(5, 2, 6)), generator.normal(size=(5, 2, 6)))
    )
    total = lambda at: xp.sum(integrand.value(xp, data, at, {}))  # noqa: E731

    def pairs(z: Any, vector: Any) -> list[tuple[Any, Any]]:
        made = [(integrand.gradient(xp, data, z, {}), backend.gradient(total)(z))]
        if integrand.hessian_product is not None:
            made.append((integrand.hessian_product(xp, data, z, vector, {}), backend.hvp(total)(z, vector)))
        return made

    for found, expected in called_once(backend, pairs, z, vector):
        np.testing.assert_allclose(backend.to_numpy(found), backend.to_numpy(expected), rtol=1e-11, atol=1e-12)


def test_one_hidden_unit_replaced(backend: Backend) -> None:
    """As D evaluations would have it; and a unit's local terms change by as much as f does."""
    problem = make_cell(f"{NETWORK}]", "arm").problem
    given = problem.expectation()
    expectation = given.bind({name: backend.asarray(a, "float64") for name, a in given.data.items()})
    generator = np.random.default_rng(3)
    z, other = (backend.asarray(generator.integers(0, 2, (4, 6)), "float64") for _ in range(2))
    parameters = {name: backend.asarray(a, "float64") for name, a in problem.parameters().items()}
    plain = Expectation(given.family, given.integrand, expectation.data)
    found = backend.to_numpy(plain.replaced(backend, parameters, z, other, {}))
    one_by_one = backend.to_numpy(plain._replace_one_by_one(backend, z, other, {}))
    np.testing.assert_allclose(found, one_by_one, rtol=1e-12)
    terms, value = (backend.to_numpy(f(backend, parameters, z, {})) for f in (plain.local_terms, plain.value))
    for i in range(6):
        changed = backend.xp.where(backend.asarray(range(6), None) == i, other, z)
        after = backend.to_numpy(plain.local_terms(backend, parameters, changed, {}))
        np.testing.assert_allclose(after[:, i] - terms[:, i], one_by_one[:, i] - value, rtol=0.0, atol=1e-11)


@pytest.mark.parametrize("estimator", ["disarm", "rebar", "muprop[baseline=leave-one-out]", "rao-blackwell"])
def test_parity_on_the_network(differentiating: Backend, numpy_backend: Backend, estimator: str) -> None:
    cell = make_cell(f"{NETWORK}]", estimator, 2)
    expectation, state = cell.problem.expectation(), {"temperature": np.asarray(0.5), "scale": np.asarray(0.8)}
    noise = draws(cell.estimator.noise_specs(expectation, 2, 6), 5)
    at = (cell.estimator, expectation, cell.problem.parameters(), noise, state if estimator == "rebar" else {})
    compiled = differentiating.name == "jax"
    found, expected = estimate(differentiating, *at, compiled=compiled), estimate(numpy_backend, *at)
    np.testing.assert_allclose(
        found["logits"], expected["logits"], rtol=0.0, atol=1e-12 * np.abs(expected["logits"]).max()
    )


@pytest.mark.parametrize("estimator", ["arm", "disarm", "score-function", "muprop", "measure-valued", "enumeration"])
def test_unbiased_for_one_image(numpy_backend: Backend, estimator: str) -> None:
    """An ELBO whose entropy is sampled: integrated over the noise."""
    problem = "sigmoid-belief-network[images=1,hidden=3]"
    found = integrate(setting_of(problem, estimator, "numpy"))
    exact = make_cell(problem, estimator).problem.exact()
    assert found is not None
    assert exact is not None
    np.testing.assert_allclose(found["logits"].mean, exact.gradient["logits"], rtol=0.0, atol=1e-11)


def test_the_suite_has_every_discrete_estimator_and_says_what_cannot_be() -> None:
    cells = suites.load("discrete").cells
    names = "enumeration partial-summation arm disarm muprop rebar relax measure-valued rao-blackwell score-function"
    names += " double-control-variates vimco multi-sample-disarm"
    assert {cell.estimator.name for cell in cells if not cell.estimator.biased} == {
        *names.split(),
        "pathwise",
        "taylor",
    }
    impossible = {cell.estimator.name for cell in cells if cell.backend == "numpy" and infeasible(cell)}
    assert impossible == {"pathwise", "measure-valued", "taylor"}


def test_a_category_of_probability_near_1_keeps_its_accuracy() -> None:
    """1 − p is 2e-11: the exact gradient and the sum over states agree to 12 digits, not to 6."""
    problem = make_problem("categorical-square[categories=3,weights=1:1e-11:1e-11]")
    closed, summed = problem.exact(), exact_enumerated(problem.expectation(), problem.parameters(), problem.dimension)
    assert closed is not None
    assert summed is not None
    np.testing.assert_allclose(summed.gradient["logits"], closed.gradient["logits"], rtol=1e-12)
    p = np.asarray([1.0, 1e-11, 1e-11]) / (1.0 + 2e-11)
    f = (np.asarray([0.0, 0.5, 1.0]) - 0.45) ** 2
    first = p[0] * (p[1] * (f[0] - f[1]) + p[2] * (f[0] - f[2]))
    assert closed.gradient["logits"][0, 0] == pytest.approx(first, rel=1e-12)
