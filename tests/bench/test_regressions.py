"""Exact ELBOs of the regressions, for every Normal q, against SciPy and mpmath."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad_vec
from scipy.special import log_expit

from gradmeter.bench.cells import make_problem
from gradmeter.bench.problems.gaussian_elbo import square_root
from gradmeter.bench.problems.regression import StudentTRegression, load
from gradmeter.estimators import FAMILIES, NotApplicable, UsageError
from gradmeter.estimators.backends.backend import Backend
from tests.support import draws, estimate, integrated_problem, make_cell, measured, problem_is_refused

NORMALS = (
    "family=normal,loc=0.2,scale=0.3",
    "family=multivariate-normal,loc=0.2,scale=0.3,correlation=0.45",
    "family=low-rank-normal,loc=0.2,scale=0.3,correlation=0.45,rank=2",
)
REGRESSIONS = ("linear-regression[", "logistic-regression[", "poisson-regression[", "student-t-regression[df=2.5,")


def somewhere(problem: Any) -> dict[str, np.ndarray]:
    """A λ at which no two numbers are alike."""
    generator = np.random.default_rng(11)
    return {name: a + 0.1 * generator.standard_normal(a.shape) for name, a in problem.parameters().items()}


def covariance(parameters: dict[str, np.ndarray]) -> np.ndarray:
    """Σ, written out by block."""
    if "log_scale" in parameters:
        return np.diag(np.exp(2 * parameters["log_scale"]))
    if "factor" in parameters:
        return parameters["factor"] @ parameters["factor"].T + np.diag(np.exp(2 * parameters["log_diagonal"]))
    size = len(parameters["loc"])
    lower = np.zeros((size, size))
    lower[np.tril_indices(size)] = parameters["cholesky"]
    lower[np.diag_indices(size)] = np.exp(np.diag(lower))
    return lower @ lower.T


def log_likelihood(problem: Any, predictor: np.ndarray, response: np.ndarray) -> np.ndarray:
    """By SciPy's own densities."""
    if problem.name == "linear-regression":
        return stats.norm.logpdf(response, predictor)
    if problem.name == "logistic-regression":
        return log_expit((2.0 * response - 1.0) * predictor)
    if problem.name == "poisson-regression":
        return stats.poisson.logpmf(response, np.exp(predictor))
    return stats.t.logpdf(response, problem.df, predictor, problem.residual_scale)


@pytest.mark.parametrize("family", FAMILIES)
def test_square_root(family: str) -> None:
    """Of the families that the regressions take; no other is loc + Aᵀε."""
    taken = make_problem("linear-regression").__dataclass_fields__["q"].metadata["classes"]  # type: ignore[attr-defined]
    if family not in taken:
        with pytest.raises(UsageError, match=f"unknown value of .* option 'family': '{family}'; "):
            make_problem(f"linear-regression[family={family}]")
        return
    problem = make_problem(f"linear-regression[family={family}]")
    parameters = somewhere(problem)
    root = square_root(problem.family, parameters)
    np.testing.assert_allclose(root.T @ root, covariance(parameters), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("normal", NORMALS)
@pytest.mark.parametrize("regression", REGRESSIONS)
def test_objective(regression: str, normal: str) -> None:
    """The ELBO from SciPy's densities and entropy, constants and all; every row's integral by adaptive quadrature."""
    problem: Any = make_problem(f"{regression}{normal}]")
    parameters = somewhere(problem)
    design, response = load(problem.dataset, problem.counts)
    loc, sigma = parameters["loc"], covariance(parameters)
    mean, deviation = design @ loc, np.sqrt(np.einsum("ni,ij,nj->n", design, sigma, design))

    def rows(x: float) -> np.ndarray:
        return log_likelihood(problem, mean + deviation * x, response) * stats.norm.pdf(x)

    expected, error = quad_vec(rows, -11.0, 11.0, epsrel=1e-11, points=[-3.0, 0.0, 3.0])
    assert error < 1e-7
    q = stats.multivariate_normal(loc, sigma)
    prior = -0.5 * (loc @ loc + np.trace(sigma) + len(loc) * math.log(2 * math.pi))
    exact = problem.exact_at(parameters)
    assert exact.source == problem.source
    assert exact.objective == pytest.approx(expected.sum() + prior + q.entropy(), rel=1e-10)


@pytest.mark.parametrize("normal", NORMALS)
@pytest.mark.parametrize("regression", REGRESSIONS)
def test_gradient_is_that_of_the_objective(regression: str, normal: str) -> None:
    """Central differences of the ELBO along random directions, Richardson-extrapolated; either entropy has the same."""
    problem: Any = make_problem(f"{regression}{normal}]")
    here = somewhere(problem)
    exact = problem.exact_at(here)
    generator = np.random.default_rng(3)
    for _ in range(3):
        step = {name: generator.standard_normal(a.shape) / math.sqrt(a.size) for name, a in here.items()}

        def at(h: float, step: Any = step) -> float:
            return problem.exact_at({name: a + h * step[name] for name, a in here.items()}).objective

        h = 4e-3
        coarse, fine, finest = ((at(t) - at(-t)) / (2 * t) for t in (2 * h, h, h / 2))
        first, second = (4 * fine - coarse) / 3, (4 * finest - fine) / 3
        slope = sum(float(np.sum(exact.gradient[name] * step[name])) for name in here)
        rounding = 1e-14 * abs(exact.objective) / h
        assert abs((16 * second - first) / 15 - slope) <= 1e-9 * max(1.0, abs(slope)) + 10 * rounding
    analytic = make_problem(f"{regression}{normal},entropy=analytic]").exact_at(here)
    for name, gradient in exact.gradient.items():
        np.testing.assert_allclose(analytic.gradient[name], gradient, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("regression", REGRESSIONS)
def test_families_agree_where_they_are_one(regression: str) -> None:
    """Without correlation the three are one q, whose gradients are told apart by their parameters alone."""
    options = "loc=0.2,scale=0.3"
    apart, full, low = (
        make_problem(f"{regression}family={f},{options}]").exact()
        for f in ("normal", "multivariate-normal", "low-rank-normal,correlation=0")
    )
    size = len(apart.gradient["loc"])
    diagonal = np.asarray([i == j for i in range(size) for j in range(i + 1)])
    for other, scales in ((full, full.gradient["cholesky"][diagonal]), (low, low.gradient["log_diagonal"])):
        assert other.objective == pytest.approx(apart.objective, rel=1e-13)
        np.testing.assert_allclose(other.gradient["loc"], apart.gradient["loc"], rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(scales, apart.gradient["log_scale"], rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize(("df", "tau"), [(1.0, 0.3), (4.0, 0.7), (30.0, 1.5)])
@pytest.mark.parametrize("deviation", [0.02, 5.0])
def test_student_t_moments_to_many_digits(df: float, tau: float, deviation: float) -> None:
    """E of h and of its derivatives of order 1, 2 and 4, which mpmath differentiates itself."""
    problem = StudentTRegression(df=df, residual_scale=tau)
    mean, response = 0.4, -0.9
    found = problem.likelihood_moments(*(np.asarray([v]) for v in (mean, deviation, response)))
    places = {mean + deviation * e for e in (-12, -5, 0, 5, 12)} | {response + tau * e for e in (-9, -1, 0, 1, 9)}
    edges = [e for e in sorted(places) if abs(e - mean) <= 12 * deviation]
    with mpmath.workdps(25):

        def h(t: Any) -> Any:
            return -(df + 1) / 2 * mpmath.log1p((response - t) ** 2 / (df * mpmath.mpf(tau) ** 2))

        for order, values in found.items():
            # E h⁽ⁿ⁾ = E h Heₙ(ε)/sⁿ (Stein), so no derivative is written down here.
            def integrand(t: Any, order: int = order) -> Any:
                x = (t - mean) / deviation
                hermite = {0: 1, 1: x, 2: x**2 - 1, 4: x**4 - 6 * x**2 + 3}[order]
                return h(t) * hermite / mpmath.mpf(deviation) ** order * mpmath.npdf(t, mean, deviation)

            expected = float(mpmath.quad(integrand, edges))
            np.testing.assert_allclose(values[0], expected, rtol=1e-11, atol=1e-13, err_msg=str(order))


def test_linear_posterior_is_full_rank() -> None:
    """The best full-rank q of the conjugate regression is the posterior, and the ELBO the evidence."""
    problem: Any = make_problem("linear-regression[family=multivariate-normal,at=fitted]")
    design, response = load("diabetes")
    precision = design.T @ design + np.eye(11)
    parameters = problem.parameters()
    np.testing.assert_allclose(parameters["loc"], np.linalg.solve(precision, design.T @ response), atol=1e-11)
    np.testing.assert_allclose(covariance(parameters) @ precision, np.eye(11), atol=1e-10)
    evidence = stats.multivariate_normal(np.zeros(442), np.eye(442) + design @ design.T).logpdf(response)
    assert problem.exact().objective == pytest.approx(evidence, rel=1e-12)


@pytest.mark.parametrize("regression", [*REGRESSIONS[1:], "poisson-regression[dataset=diabetes,"])
def test_fitted_is_a_maximum(regression: str) -> None:
    """No gradient; nothing near is better; the full-rank q, which the mean-field one is among, is better."""
    best = []
    for family in ("normal", "multivariate-normal"):
        problem = make_problem(f"{regression}family={family},at=fitted]")
        exact, here = problem.exact(), problem.parameters()
        assert exact.objective is not None
        assert max(np.abs(g).max() for g in exact.gradient.values()) < 1e-8
        generator = np.random.default_rng(1)
        for size in (0.3, 0.03, 0.003):
            moved = {n: a + size * generator.standard_normal(a.shape) * (np.abs(a) + 0.1) for n, a in here.items()}
            assert problem.exact_at(moved).objective < exact.objective
        best.append(exact.objective)
    assert best[1] > best[0] + 0.1


@pytest.mark.parametrize("normal", NORMALS[:2])
@pytest.mark.parametrize("estimator", ["score-function", "pathwise", "pathwise[sticking-the-landing=true]", "price"])
def test_unbiased_by_integration(numpy_backend: Backend, normal: str, estimator: str) -> None:
    """Twenty rows and four coordinates: Gauss rules in all four give the exact gradient."""
    problem = f"poisson-regression[{normal}]"
    exact = make_problem(problem).exact()
    for name, (mean, _, size) in integrated_problem(numpy_backend, problem, estimator, nodes=14).items():
        assert np.all(np.abs(mean - exact.gradient[name]) <= 1e-7 * np.maximum(1.0, size)), name


@pytest.mark.parametrize("normal", NORMALS)
def test_a_quadratic_log_joint_is_exact(numpy_backend: Backend, normal: str) -> None:
    """Every estimate of Taylor's is the gradient, and so is Price's in the blocks of the covariance."""
    problem = f"linear-regression[{normal},entropy=analytic]"
    for estimator in ("taylor[hessian=full]", "price"):
        cell = make_cell(problem, estimator)
        expectation, exact = cell.problem.expectation(), cell.problem.exact()
        assert exact is not None
        noise = draws(cell.estimator.noise_specs(expectation, 1, 11), 5)
        found = estimate(numpy_backend, cell.estimator, expectation, cell.problem.parameters(), noise)
        for name in [n for n in found if estimator != "price" or n != "loc"]:
            expected = np.broadcast_to(exact.gradient[name], found[name].shape)
            np.testing.assert_allclose(found[name], expected, rtol=1e-11, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("estimator", ["pathwise", "score-function[baseline=optimal]"])
def test_certified_by_the_program_too(estimator: str) -> None:
    row = measured(make_cell("poisson-regression[at=fitted]", estimator, max_replicates=2**12))["all"]
    assert (row["verdict"], row["certificate"], row["exact_source"]) == ("unbiased", "integration", "closed-form")


def test_count_data() -> None:
    """Whole numbers of the bundled data, as noted down, on standardised columns."""
    for dataset, rows, columns, smallest, largest in (("linnerud", 20, 4, 1, 17), ("diabetes", 442, 11, 25, 346)):
        design, counts = load(dataset, True)
        assert design.shape == (rows, columns)
        np.testing.assert_allclose(design[:, :-1].mean(axis=0), 0.0, atol=1e-12)
        np.testing.assert_allclose(design[:, :-1].std(axis=0), 1.0, rtol=1e-12)
        np.testing.assert_array_equal(counts, np.round(counts))
        assert (counts.min(), counts.max()) == (smallest, largest)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("poisson-regression[loc=200]", "E exp(xᵀz) overflows; give a smaller loc or scale"),
        ("poisson-regression[scale=60]", "E exp(xᵀz) overflows; give a smaller loc or scale"),
        ("poisson-regression[dataset=wine]", "'wine'; choose from: linnerud, diabetes"),
        ("poisson-regression[batch=21]", "batch is 21; there are 20 rows"),
        ("student-t-regression[df=0]", "option 'df' is '0'; it must be a finite number, at least 0.5"),
        ("student-t-regression[residual-scale=0]", "option 'residual-scale' is '0'; it must be a finite number"),
        ("student-t-regression[scale=1e5]", "scale is 100000; its exact gradient is known up to scale=1400"),
        ("logistic-regression[scale=1e5]", "scale is 100000; its exact gradient is known up to scale=3141.59"),
        (
            "linear-regression[family=multivariate-normal,at=fitted,correlation=0.2]",
            "at=fitted chooses loc, scale and correlation itself; leave them out",
        ),
        (
            "linear-regression[family=low-rank-normal,at=fitted]",
            "at=fitted is for family=normal or family=multivariate-normal",
        ),
        ("linear-regression[family=low-rank-normal,rank=12]", "rank=12 needs at least as many coordinates, not 11"),
    ],
)
def test_one_plain_line(text: str, message: str) -> None:
    problem_is_refused(text, message)


def test_what_a_full_covariance_cannot_have() -> None:
    cell = make_cell("logistic-regression[family=multivariate-normal]", "pathwise")
    for estimator in ("measure-valued", "rao-blackwell", "overdispersed"):
        made = make_cell("logistic-regression[family=multivariate-normal]", estimator).estimator
        with pytest.raises(NotApplicable, match="coordinates depend on each other"):
            made.check(cell.problem.family, "sampled", 2, 31)
