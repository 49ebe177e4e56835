"""Integrated over its noise, an estimator's bias and variance are facts (exact property 1)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradmeter.estimators import Integrand
from gradmeter.estimators.backends.backend import Backend
from tests import exact
from tests.support import (
    IN_THREE_DIMENSIONS,
    TEST_FUNCTIONS,
    Blocks,
    draws,
    estimate,
    expectation_of,
    gauss,
    integrated,
    integrated_problem,
    make_cell,
    make_estimator,
    single,
)

K, LOC, SCALE = 1.37, -0.6, 0.83
SQUARE = f"square[k={K},loc={LOC},scale={SCALE}]"
FLAT = ("score-function", "score-function[baseline=mean]", "score-function[baseline=optimal]", "pathwise")
WEAK = ("measure-valued", "measure-valued[coupling=false]")


class Exponent(Integrand):
    """exp(a z)."""

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return xp.sum(xp.exp(data["a"] * z), axis=-1)

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return data["a"] * xp.exp(data["a"] * z)


class LogNormalDensity(Integrand):
    """log N(z; m, s²), summed over coordinates."""

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        standard = (z - data["m"]) / data["s"]
        return xp.sum(-0.5 * standard * standard - xp.log(data["s"]) - 0.5 * np.log(2 * np.pi), axis=-1)

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return (data["m"] - z) / data["s"] ** 2


def assert_unbiased(found: dict[str, Any], gradient: Blocks) -> None:
    for name, (mean, _, size) in found.items():
        assert np.all(np.abs(mean - gradient[name]) <= 1e-12 * np.maximum(1.0, size)), name


def assert_variance(found: dict[str, Any], expected: dict[str, float], relative: float = 1e-10) -> None:
    for name, variance in expected.items():
        np.testing.assert_allclose(found[name][1], variance, rtol=relative, atol=1e-24, err_msg=name)


@pytest.mark.parametrize("kind", ["normal", "uniform", "rayleigh", "maxwell"])
def test_the_rules_themselves(kind: str) -> None:
    """Moments 0 to 8 of each kind of noise, by the rules all else here relies on."""
    x, w = gauss(kind, 48)
    exact_moments = {
        "normal": [1, 0, 1, 0, 3, 0, 15, 0, 105],
        "uniform": [1 / (n + 1) for n in range(9)],
        "rayleigh": [1, np.sqrt(np.pi / 2), 2, 3 * np.sqrt(np.pi / 2), 8, 15 * np.sqrt(np.pi / 2), 48, None, 384],
        "maxwell": [1, 0, 3, 0, 15, 0, 105, 0, 945],
    }[kind]
    for order, moment in enumerate(exact_moments):
        if moment is not None:
            np.testing.assert_allclose(w @ x**order, moment, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("problem", TEST_FUNCTIONS)
@pytest.mark.parametrize("estimator", [*FLAT, *WEAK])
def test_unbiased(backend: Backend, problem: str, estimator: str) -> None:
    found = integrated_problem(backend, problem, estimator, nodes=96)
    assert_unbiased(found, make_cell(problem, estimator).problem.exact().gradient)


@pytest.mark.parametrize("estimator", ["score-function[baseline=leave-one-out]", "pathwise[antithetic=true]"])
@pytest.mark.parametrize("problem", TEST_FUNCTIONS)
def test_unbiased_in_pairs(backend: Backend, problem: str, estimator: str) -> None:
    found = integrated_problem(backend, problem, estimator, 2, nodes=96)
    assert_unbiased(found, make_cell(problem, estimator).problem.exact().gradient)


@pytest.mark.parametrize("problem", IN_THREE_DIMENSIONS)
@pytest.mark.parametrize("estimator", FLAT)
def test_unbiased_in_three_dimensions(numpy_backend: Backend, problem: str, estimator: str) -> None:
    found = integrated_problem(numpy_backend, problem, estimator, nodes=40)
    assert_unbiased(found, make_cell(problem, estimator).problem.exact().gradient)


@pytest.mark.parametrize("estimator", exact.square(1.0, 1.0))
@pytest.mark.parametrize(("loc", "scale"), [(LOC, SCALE), (2.9, 0.31), (K, 1.7)])
def test_square(backend: Backend, estimator: str, loc: float, scale: float) -> None:
    found = integrated_problem(backend, f"square[k={K},loc={loc},scale={scale}]", estimator)
    assert_variance(found, exact.square(loc - K, scale)[estimator])


@pytest.mark.parametrize("baseline", ["none", "mean", "optimal"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_square_in_more_dimensions(backend: Backend, baseline: str, dimension: int) -> None:
    """The other coordinates add their variance to the score function; degree 12, so 8 nodes are exact."""
    problem = f"{SQUARE[:-1]},dim={dimension}]"
    found = integrated_problem(backend, problem, f"score-function[baseline={baseline}]", nodes=8)
    assert_variance(found, exact.square_score_function(LOC - K, SCALE, dimension, baseline))


@pytest.mark.parametrize("estimator", WEAK)
def test_measure_valued_shares_the_other_coordinates(backend: Backend, estimator: str) -> None:
    """D = 2: both evaluations see one z_2, so the first coordinate's variance is that of D = 1."""
    cell = make_cell(f"{SQUARE[:-1]},dim=2]", estimator)
    found = integrated(
        backend,
        cell.estimator,
        cell.problem.expectation(),
        cell.problem.parameters(),
        1,
        nodes=40,
        axes=lambda name, position: position == (1 if name == "base" else 0),
    )
    one = exact.square(LOC - K, SCALE)[estimator]
    for name, (mean, variance, _) in found.items():
        np.testing.assert_allclose(mean[0], cell.problem.exact().gradient[name][0], rtol=1e-12)
        np.testing.assert_allclose(variance[0], one[name], rtol=1e-10)


@pytest.mark.parametrize("estimator", ["score-function", "pathwise"])
@pytest.mark.parametrize(("omega", "loc", "scale"), [(1.9, 0.45, 1.2), (0.6, -1.3, 0.5)])
def test_cosine(backend: Backend, estimator: str, omega: float, loc: float, scale: float) -> None:
    found = integrated_problem(backend, f"cosine[k={omega},loc={loc},scale={scale}]", estimator, nodes=80)
    assert_variance(found, {"loc": exact.cosine_loc(omega, loc, scale)[estimator]})


@pytest.mark.parametrize("estimator", ["score-function", "pathwise"])
def test_exponent(backend: Backend, estimator: str) -> None:
    a, loc, scale = 0.7, -0.4, 0.9
    made, parameters = make_estimator(estimator), single(loc, scale)
    found = integrated(backend, made, expectation_of(Exponent(), a=a), parameters, 1, nodes=60)
    gradient = a * np.exp(a * loc + 0.5 * (a * scale) ** 2)
    assert_unbiased(found, {"loc": gradient, "log_scale": gradient * a * scale**2})
    assert_variance(found, {"loc": exact.exponent_loc(a, loc, scale)[estimator]})


@pytest.mark.parametrize("problem", TEST_FUNCTIONS)
@pytest.mark.parametrize("samples", [2, 3])
def test_leave_one_out(backend: Backend, numpy_backend: Backend, problem: str, samples: int) -> None:
    """It is the unbiased sample covariance of f and the score, whose variance has a closed form for any family."""
    nodes = {2: 80, 3: 40}[samples]
    found = integrated_problem(backend, problem, "score-function[baseline=leave-one-out]", samples, nodes=nodes)
    cell = make_cell(problem, "score-function")
    expectation, parameters = cell.problem.expectation(), cell.problem.parameters()
    x, w = gauss("normal", nodes)
    z = expectation.family.sample(numpy_backend, parameters, {"base": x[:, None]})
    f = expectation.value(numpy_backend, parameters, z, {})
    f = f - w @ f
    for name, score in expectation.family.score(numpy_backend, parameters, z).items():
        s = score[:, 0]
        g, both = w @ (f * s), w @ (f * f * s * s)
        one = samples * (samples - 1)
        variance = both / samples - (samples - 2) * g**2 / one + (w @ f**2) * (w @ s**2) / one
        np.testing.assert_allclose(found[name][1], variance, rtol=1e-9 if samples == 3 else 1e-10)


@pytest.mark.parametrize("estimator", ["pathwise", "pathwise[sticking-the-landing=true]"])
@pytest.mark.parametrize(("loc", "scale"), [(0.4, 0.5), (-1.1, 1.4)])
def test_elbo_of_a_normal(backend: Backend, estimator: str, loc: float, scale: float) -> None:
    m, prior = -0.3, 1.2
    expectation = expectation_of(LogNormalDensity(), "sampled", m=m, s=prior)
    found = integrated(backend, make_estimator(estimator), expectation, single(loc, scale), 1)
    assert_unbiased(found, {"loc": (m - loc) / prior**2, "log_scale": 1 - (scale / prior) ** 2})
    assert_variance(found, exact.gaussian_elbo(loc, scale, m, prior)[estimator])


@pytest.mark.parametrize(
    "estimator", ["score-function", "rao-blackwell", "importance-sampling", "overdispersed", *WEAK]
)
def test_elbo_of_a_normal_from_its_values(backend: Backend, estimator: str) -> None:
    """−log q is of q, though a wider proposal draws, and of the point that f is evaluated at, replaced or not."""
    loc, scale, m, prior = 0.4, 0.7, -0.3, 1.2
    expectation = expectation_of(LogNormalDensity(), "sampled", m=m, s=prior)
    found = integrated(backend, make_estimator(estimator), expectation, single(loc, scale), 1, nodes=96)
    assert_unbiased(found, {"loc": (m - loc) / prior**2, "log_scale": 1 - (scale / prior) ** 2})


def test_at_the_optimum(backend: Backend) -> None:
    """q = p: sticking the landing is exactly 0, the total derivative has the Fisher information for variance."""
    m, s = -0.3, 1.2
    expectation, parameters = expectation_of(LogNormalDensity(), "sampled", m=m, s=s), single(m, s)
    total = integrated(backend, make_estimator("pathwise"), expectation, parameters, 1)
    assert_variance(total, {"loc": 1 / s**2, "log_scale": 2.0})
    stuck = integrated(
        backend, make_estimator("pathwise[sticking-the-landing=true]"), expectation, parameters, 1, nodes=20
    )
    for _, _, size in stuck.values():
        assert np.all(size <= 1e-14)


@pytest.mark.parametrize("estimator", WEAK)
def test_a_block_reads_only_the_noise_it_declares(backend: Backend, estimator: str) -> None:
    cell = make_cell(IN_THREE_DIMENSIONS[0], estimator, 2)
    expectation, parameters = cell.problem.expectation(), cell.problem.parameters()
    specs = cell.estimator.noise_specs(expectation, 2, 3)
    first, second = draws(specs, 5, seed=1), draws(specs, 5, seed=2)
    for block, names in cell.estimator.noise_by_block(expectation, 2, 3).items():
        mixed = {name: (first if name in names else second)[name] for name in specs}
        assert len(names) < len(specs)
        found, expected = (estimate(backend, cell.estimator, expectation, parameters, n)[block] for n in (mixed, first))
        np.testing.assert_array_equal(found, expected)
