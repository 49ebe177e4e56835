"""Orderings of variances that papers state, as exact facts: integrated over the noise, or affine in it.

Others stand beside what they are about: Miller's and Domke's in `test_quadratics.py`, VarGrad's in `test_score_kin.py`,
Buchholz's slope in `test_sobol.py`, Roeder's in `test_quadrature.py` and `test_conjugate.py`, Mohamed's crossings in
`test_mohamed.py`.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from gradmeter.bench.problems.regression import load
from gradmeter.estimators import Expectation, Normal
from gradmeter.estimators.backends.backend import Backend
from tests.estimators.test_properties import Polynomial, polynomial
from tests.estimators.test_quadrature import LogNormalDensity
from tests.support import (
    Blocks,
    estimate,
    expectation_of,
    integrated,
    integrated_problem,
    make_cell,
    make_estimator,
    single,
    tensor,
)


@pytest.mark.parametrize("scale", [0.4, 1.7])
def test_coupling_hurts_far_from_the_minimum(numpy_backend: Backend, scale: float) -> None:
    """Measure-valued ∂loc of (z − k)²: 16/π − 4 times δ² coupled, else 8/π − 2 times δ² and 4σ²/π, so the coupling
    loses for δ² (8 − 2π) > 4σ², beyond 1.53 σ; for ∂log σ it never does."""
    edge = math.sqrt(4.0 / (8.0 - 2.0 * math.pi))
    assert edge == pytest.approx(1.5264, abs=1e-4)
    for delta in (-1.01 * edge, -0.99 * edge, 0.3, 0.99 * edge, 1.01 * edge, 4.0):
        problem = f"square[loc={delta * scale!r},k=0,scale={scale}]"
        coupled, apart = (
            {name: variance[0] for name, (_, variance, _) in integrated_problem(numpy_backend, problem, e).items()}
            for e in ("measure-valued", "measure-valued[coupling=false]")
        )
        assert (coupled["loc"] > apart["loc"]) == (abs(delta) > edge)
        assert coupled["log_scale"] < apart["log_scale"]


def _variances(
    backend: Backend, name: str, expectation: Expectation, here: Blocks, state: Blocks | None = None
) -> dict[str, np.ndarray]:
    """Of one sample, by 10 Gauss nodes in each coordinate: exact up to degree 19."""
    found = integrated(backend, make_estimator(name), expectation, here, 1, state=state, nodes=10)
    return {block: variance for block, (_, variance, _) in found.items()}


@pytest.mark.parametrize("seed", range(6))
def test_pathwise_below_the_score_function(numpy_backend: Backend, seed: int) -> None:
    """Xu et al. 2019: mean-field Normal, quadratic log-joint, analytic entropy. Every coordinate's pathwise variance is
    below the score function's, even with the constant that is best for that coordinate."""
    generator = np.random.default_rng(seed)
    root = generator.standard_normal((2, 2))
    bend = -(root @ root.T + 0.1 * np.eye(2))
    data = polynomial(2, bend=bend, slope=generator.standard_normal(2), constant=3.0 * generator.standard_normal())
    here = {"loc": generator.standard_normal(2), "log_scale": 0.7 * generator.standard_normal(2)}
    expectation = Expectation(Normal(), Polynomial(), data, "analytic")
    base, weights = tensor(["normal", "normal"], 10)
    z = here["loc"] + np.exp(here["log_scale"]) * base
    squares = {name: s**2 for name, s in Normal().score(numpy_backend, here, z).items()}
    value = Polynomial().value(np, data, z, {})
    best = {f"baseline_{name}": (weights * value) @ s / (weights @ s) for name, s in squares.items()}
    pathwise = _variances(numpy_backend, "pathwise", expectation, here)
    optimal = _variances(numpy_backend, "score-function[baseline=optimal]", expectation, here, best)
    plain = _variances(numpy_backend, "score-function", expectation, here)
    for name, variance in pathwise.items():
        assert np.all(variance < 0.999 * optimal[name]), name
        assert np.all(optimal[name] < plain[name]), name


def test_reversed_near_the_posterior(numpy_backend: Backend) -> None:
    """With the entropy sampled f = log p − log q hardly varies there, and the score function is the better."""
    here = single(0.42, 0.71)
    for entropy, better in (("sampled", "score-function"), ("analytic", "pathwise")):
        expectation = expectation_of(LogNormalDensity(), entropy, m=0.4, s=0.7)
        found = {e: _variances(numpy_backend, e, expectation, here) for e in ("score-function", "pathwise")}
        worse = next(e for e in found if e != better)
        for name, variance in found[better].items():
            assert variance[0] < 0.75 * found[worse][name][0], (entropy, name)


def _affine(backend: Backend, problem: str, estimator: str) -> np.ndarray:
    """Covariance [D, D] of ∂loc, for an estimate that is affine in noise of unit covariance."""
    cell = make_cell(problem, estimator)
    base = np.concatenate([np.zeros((1, 11)), np.eye(11)])[:, None]
    found = estimate(backend, cell.estimator, cell.problem.expectation(), cell.problem.parameters(), {"base": base})
    rows = found["loc"][1:] - found["loc"][0]
    return np.asarray(rows.T @ rows)


def test_full_rank_below_mean_field_on_a_correlated_posterior(numpy_backend: Backend) -> None:
    """Each at its own optimum, on the conjugate regression, whose posterior has precision Λ: ∂loc = −Λ (z − mean).

    Full rank, z has covariance Λ⁻¹ and ∂loc Λ; mean field, diag(Λ)⁻¹ and Λ diag(Λ)⁻¹ Λ, a larger variance in every
    correlated coordinate. Sticking the landing leaves full rank none at all, whatever the sample, and mean field what
    it does not see of Λ.
    """
    design, _ = load("diabetes")
    precision = design.T @ design + np.eye(11)
    apart = np.diag(np.diag(precision))
    full, mean_field = ("linear-regression[family=multivariate-normal,at=fitted]", "linear-regression[at=fitted]")
    found = [_affine(numpy_backend, problem, "pathwise") for problem in (full, mean_field)]
    np.testing.assert_allclose(found[0], precision, rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(found[1], precision @ np.linalg.inv(apart) @ precision, rtol=1e-9, atol=1e-7)
    assert np.all(np.diag(found[0])[:-1] < 0.75 * np.diag(found[1])[:-1])  # the intercept is correlated with nothing
    assert np.trace(found[1]) > 2.0 * np.trace(found[0])
    stuck = [_affine(numpy_backend, p, "pathwise[sticking-the-landing=true]") for p in (full, mean_field)]
    np.testing.assert_allclose(stuck[0], 0.0, atol=1e-14 * np.trace(precision) ** 2)
    unseen = precision - apart
    np.testing.assert_allclose(stuck[1], unseen @ np.linalg.inv(apart) @ unseen, rtol=1e-8, atol=1e-6)
