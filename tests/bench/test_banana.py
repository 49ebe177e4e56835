"""The banana's exact ELBO, and its integrand, against Gauss rules that a polynomial leaves no error to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_problem
from gradmeter.estimators.backends.backend import Backend
from tests.support import Blocks, make_cell, measured, problem_is_refused, tensor

FAMILIES = ("normal", "multivariate-normal", "low-rank-normal")
OPTIONS = "bend=0.7,width=1.3,loc=0.4,scale=0.8"


def moved(problem: Any, seed: int = 1) -> Blocks:
    """λ away from where all coordinates are alike."""
    generator = np.random.default_rng(seed)
    return {name: v + 0.3 * generator.standard_normal(v.shape) for name, v in problem.parameters().items()}


def on_a_grid(problem: Any, parameters: Blocks, backend: Backend) -> tuple[np.ndarray, np.ndarray]:
    """Samples of two coordinates and their weights."""
    specs = problem.family.noise((), 2)
    sizes = [math.prod(spec.shape) for spec in specs.values()]
    points, weights = tensor(["normal"] * sum(sizes), 10)
    parts = np.split(points, np.cumsum(sizes)[:-1], axis=1)
    return problem.family.sample(backend, parameters, dict(zip(specs, parts, strict=True))), weights


def log_p(z: np.ndarray, bend: float, width: float) -> np.ndarray:
    """From the two normal laws, up to their constants."""
    return -0.5 * (z[:, 0] / width) ** 2 - 0.5 * (z[:, 1] - bend * (z[:, 0] ** 2 - width**2)) ** 2


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("entropy", ["sampled", "analytic"])
def test_exact(family: str, entropy: str, numpy_backend: Backend) -> None:
    """E[f score] + ∇ entropy, with f and the score polynomials."""
    correlation = "" if family == "normal" else ",correlation=0.4"
    problem: Any = make_problem(f"banana[{OPTIONS},family={family}{correlation},entropy={entropy}]")
    parameters = moved(problem)
    z, weights = on_a_grid(problem, parameters, numpy_backend)
    values, exact = log_p(z, 0.7, 1.3), problem.exact_at(parameters)
    entropy_gradient = problem.family.entropy_gradient(numpy_backend, parameters)
    for name, score in problem.family.score(numpy_backend, parameters, z).items():
        expected = np.tensordot(weights * values, score, 1) + entropy_gradient[name]
        np.testing.assert_allclose(exact.gradient[name], expected, rtol=1e-11, atol=1e-11, err_msg=name)
    if entropy == "sampled":
        values = values - problem.family.log_density(numpy_backend, parameters, z)
    assert exact.objective == pytest.approx(weights @ values, rel=1e-12)


@pytest.mark.parametrize("entropy", ["sampled", "analytic"])
def test_optimal_baselines(entropy: str, numpy_backend: Backend) -> None:
    problem: Any = make_problem(f"banana[{OPTIONS},entropy={entropy}]")
    parameters = moved(problem)
    z, weights = on_a_grid(problem, parameters, numpy_backend)
    values = log_p(z, 0.7, 1.3)
    if entropy == "sampled":
        values = values - problem.family.log_density(numpy_backend, parameters, z)
    found = problem.exact_at(parameters).optimal_baseline
    for name, score in problem.family.score(numpy_backend, parameters, z).items():
        expected = (weights * values) @ score**2 / (weights @ score**2)
        np.testing.assert_allclose(found[name], expected, rtol=1e-10)


def test_pairs_add_up() -> None:
    """Six coordinates are three pairs, each at a λ of its own."""
    problem: Any = make_problem(f"banana[{OPTIONS},dim=6]")
    one: Any = make_problem(f"banana[{OPTIONS}]")
    parameters = moved(problem)
    parts = [one.exact_at({name: v[i : i + 2] for name, v in parameters.items()}) for i in (0, 2, 4)]
    exact = problem.exact_at(parameters)
    assert exact.objective == pytest.approx(sum(part.objective for part in parts), rel=1e-13)
    for name, gradient in exact.gradient.items():
        np.testing.assert_allclose(gradient, np.concatenate([part.gradient[name] for part in parts]), rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_bounded_by_the_normaliser(family: str) -> None:
    """The ELBO is at most log ∫ p = log 2πs a pair, whatever λ."""
    problem: Any = make_problem(f"banana[{OPTIONS},family={family},dim=4]")
    for seed in range(20):
        assert problem.exact_at(moved(problem, seed)).objective < 2 * math.log(2 * math.pi * 1.3)


def test_without_a_bend_it_is_a_normal() -> None:
    """Then q = p can be, at which the ELBO is the normaliser and the gradient 0."""
    problem: Any = make_problem("banana[bend=0,width=1.3]")
    exact = problem.exact_at({"loc": np.zeros(2), "log_scale": np.log([1.3, 1.0])})
    assert exact.objective == pytest.approx(math.log(2 * math.pi * 1.3), rel=1e-14)
    for gradient in exact.gradient.values():
        np.testing.assert_allclose(gradient, 0.0, atol=1e-14)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("estimator", ["pathwise", "score-function", "price", "taylor"])
def test_certificates(family: str, estimator: str) -> None:
    """Two coordinates: integrated over the noise, each is unbiased to rounding."""
    rows = measured(make_cell(f"banana[{OPTIONS},family={family}]", estimator, max_replicates=2**16))
    for row in rows.values():
        assert (row["verdict"], row["certificate"]) == ("unbiased", "integration")
        assert row["bias_bound"] < 1e-9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("dim=3", "problem banana with dim=3: dim must be even, since coordinates come in pairs"),
        ("width=0", "option 'width' is '0'; it must be a finite number, above 0"),
        ("family=gamma", "unknown value of problem banana option 'family': 'gamma'"),
        ("loc=1e100", "problem banana overflows; give less extreme options"),
        ("bend=1e200", "overflows; give less extreme options"),
        ("dim=1002", "option 'dim' is '1002'; it must be a whole number, at least 2, at most 1000"),
    ],
)
def test_bad_options(options: str, message: str) -> None:
    problem_is_refused(f"banana[{options}]", message)
