"""Exact gradients of the posteriors against tensor Gauss rules on log joint densities written apart, with SciPy.

The log joint density splits into pieces, functions of few linear functions of z, each integrated under their Normal. Bonnet's and
Price's identities are applied to the score, not to derivatives of a piece.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit

from gradmeter.bench.cells import make_problem
from gradmeter.bench.problems.posteriors.hierarchical_logistic import generated as hierarchical_logistic_data
from gradmeter.bench.problems.posteriors.stochastic_volatility import generated as stochastic_volatility_data
from gradmeter.bench.problems.posteriors.varying_intercepts import generated as varying_intercepts_data
from gradmeter.bench.problems.regression import load
from tests.support import Blocks, gauss

FAMILIES = ("normal", "multivariate-normal", "low-rank-normal")
#: Linear functions of z [k, D], and a function of them.
Piece = tuple[np.ndarray, Callable[..., np.ndarray]]

Y = np.array([28, 8, -3, 7, -1, 1, 18, 12])
SIGMA = np.array([15, 10, 16, 11, 9, 11, 10, 18])


def normal(scale: float) -> Callable[..., np.ndarray]:
    return lambda x: stats.norm.logpdf(x, 0, scale)


def half_normal(scale: float) -> Callable[..., np.ndarray]:
    return lambda t: stats.halfnorm.logpdf(np.exp(t), scale=scale) + t


def eight_schools(problem: Any) -> Iterator[Piece]:
    mu, t, *local = np.eye(10)
    yield mu, normal(5)
    yield t, lambda t: stats.halfcauchy.logpdf(np.exp(t), scale=5) + t
    for y, sigma, z in zip(Y, SIGMA, local, strict=True):
        if problem.parameterisation == "centred":
            yield np.stack([mu, t, z]), lambda mu, t, theta: stats.norm.logpdf(theta, mu, np.exp(t))
            yield z, lambda theta, y=y, sigma=sigma: stats.norm.logpdf(y, theta, sigma)
        else:
            yield z, normal(1)
            at = lambda mu, t, eta, y=y, sigma=sigma: stats.norm.logpdf(y, mu + np.exp(t) * eta, sigma)  # noqa: E731
            yield np.stack([mu, t, z]), at


def funnel(problem: Any) -> Iterator[Piece]:
    v, *rest = np.eye(problem.dim)
    yield v, normal(problem.width)
    for x in rest:
        yield np.stack([v, x]), lambda v, x: stats.norm.logpdf(x, 0, np.exp(v / 2))


def varying_intercepts(problem: Any) -> Iterator[Piece]:
    x, y = varying_intercepts_data(problem.groups, problem.size)
    mu, beta, tau, sigma, *local = np.eye(problem.dimension)
    yield from ((mu, normal(5)), (beta, normal(5)), (tau, half_normal(2)), (sigma, half_normal(2)))
    for z in local:
        if problem.parameterisation == "centred":
            yield np.stack([z - mu, tau]), lambda away, tau: stats.norm.logpdf(away, 0, np.exp(tau))
        else:
            yield z, normal(1)
    for i in range(len(y)):
        z = local[i // problem.size]
        if problem.parameterisation == "centred":
            at = lambda m, s, i=i: stats.norm.logpdf(y[i], m, np.exp(s))  # noqa: E731
            yield np.stack([z + x[i] * beta, sigma]), at
        else:
            at = lambda m, z, t, s, i=i: stats.norm.logpdf(y[i], m + np.exp(t) * z, np.exp(s))  # noqa: E731
            yield np.stack([mu + x[i] * beta, z, tau, sigma]), at


def hierarchical_logistic(problem: Any) -> Iterator[Piece]:
    x, y = hierarchical_logistic_data(problem.groups, problem.size)
    mu, first, second, tau, *local = np.eye(problem.dimension)
    yield from ((mu, normal(2)), (first, normal(2)), (second, normal(2)), (tau, half_normal(1)))
    for z in local:
        yield np.stack([z - mu, tau]), lambda away, tau: stats.norm.logpdf(away, 0, np.exp(tau))
    for i, row in enumerate(x):
        predictor = local[i // problem.size] + row[0] * first + row[1] * second
        yield predictor, lambda p, i=i: stats.bernoulli.logpmf(y[i], expit(p))


def negative_binomial(problem: Any) -> Iterator[Piece]:
    design, y = load("linnerud", counts=True)
    *weights, psi = np.eye(problem.dimension)
    for z in (*weights, psi):
        yield z, normal(1)
    for row, count in zip(design, y, strict=True):
        # With n = φ and p = φ/(φ + exp η), the mean is exp η.
        at = lambda eta, psi, y=count: stats.nbinom.logpmf(y, np.exp(psi), expit(psi - eta))  # noqa: E731
        yield np.stack([row @ np.stack(weights), psi]), at


def stochastic_volatility(problem: Any) -> Iterator[Piece]:
    mu, s, a, *h = np.eye(problem.dimension)
    yield mu, normal(2)
    yield s, half_normal(0.5)
    yield a, lambda a: stats.norm.logpdf(a, 1.5, 0.5)
    first = lambda x, s, a: stats.norm.logpdf(x, 0, np.exp(s) / np.sqrt(1 - np.tanh(a) ** 2))  # noqa: E731
    yield np.stack([h[0] - mu, s, a]), first
    step = lambda x, b, s, a: stats.norm.logpdf(x, np.tanh(a) * b, np.exp(s))  # noqa: E731
    for before, after in itertools.pairwise(h):
        yield np.stack([after - mu, before - mu, s, a]), step
    for z, y in zip(h, stochastic_volatility_data(problem.times), strict=True):
        yield z, lambda h, y=y: stats.norm.logpdf(y, 0, np.exp(h / 2))


#: Problems, the pieces of their log joint density, and nodes per coordinate.
CASES = {
    "eight-schools": (eight_schools, 40),
    "eight-schools[parameterisation=non-centred]": (eight_schools, 40),
    "funnel[dim=4]": (funnel, 60),
    "varying-intercepts[groups=2,size=2]": (varying_intercepts, 40),
    "varying-intercepts[groups=2,size=2,parameterisation=non-centred]": (varying_intercepts, 22),
    "hierarchical-logistic[groups=3,size=4]": (hierarchical_logistic, 60),
    "negative-binomial-regression": (negative_binomial, 80),
    "stochastic-volatility[times=3]": (stochastic_volatility, 22),
}


def moved(problem: Any, seed: int = 1) -> Blocks:
    """λ away from where all coordinates are alike."""
    generator = np.random.default_rng(seed)
    return {name: v + 0.1 * generator.standard_normal(v.shape) for name, v in problem.parameters().items()}


def with_options(text: str, **options: str) -> str:
    given = [part for part in (text[:-1].partition("[")[2], *(f"{k}={v}" for k, v in options.items())) if part]
    return f"{text.partition('[')[0]}[{','.join(given)}]"


def covariance_of(family: str, at: Blocks) -> tuple[np.ndarray, np.ndarray]:
    """The covariance of q and, for a full-rank q, its Cholesky factor."""
    if family == "normal":
        return np.diag(np.exp(2 * at["log_scale"])), np.eye(0)
    if family == "low-rank-normal":
        return at["factor"] @ at["factor"].T + np.diag(np.exp(2 * at["log_diagonal"])), np.eye(0)
    lower = np.zeros([len(at["loc"])] * 2)
    lower[np.tril_indices(len(lower))] = at["cholesky"]
    np.fill_diagonal(lower, np.exp(np.diag(lower)))
    return lower @ lower.T, lower


def tensor_grid(x: np.ndarray, w: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes [count, n] and weights [n]; nodes of negligible weight are left out."""
    grid = np.stack([a.ravel() for a in np.meshgrid(*[x] * count, indexing="ij")])
    weights = np.prod([a.ravel() for a in np.meshgrid(*[w] * count, indexing="ij")], axis=0)
    kept = weights > 1e-26
    return grid[:, kept], weights[kept]


def integrated(pieces: Iterator[Piece], nodes: int, loc: np.ndarray, covariance: np.ndarray) -> tuple[Any, Any, Any]:
    """E log p, its gradient in the mean of q and twice that in its covariance."""
    x, w = gauss("normal", nodes)
    value, slope, curvature = 0.0, np.zeros_like(loc), np.zeros_like(covariance)
    for linear, log_density in pieces:
        of = np.atleast_2d(linear)
        root = np.linalg.cholesky(of @ covariance @ of.T)
        grid, weights = tensor_grid(x, w, len(of))
        found = weights * log_density(*((of @ loc)[:, None] + root @ grid))
        pulled = np.linalg.solve(root.T, grid)
        value += found.sum()
        slope += of.T @ (pulled @ found)
        inverse = np.linalg.inv(root @ root.T)
        curvature += of.T @ ((pulled * found) @ pulled.T - found.sum() * inverse) @ of
    return value, slope, curvature


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", CASES)
def test_exact(text: str, family: str) -> None:
    problem: Any = make_problem(with_options(text, family=family))
    at, (pieces, nodes) = moved(problem), CASES[text]
    exact, (covariance, lower) = problem.exact_at(at), covariance_of(family, at)
    value, slope, curvature = integrated(pieces(problem), nodes, at["loc"], covariance)
    total = curvature + np.linalg.inv(covariance)  # the entropy's gradient is half the inverse
    if family == "normal":
        expected = {"log_scale": np.diag(covariance) * np.diag(total)}
    elif family == "low-rank-normal":
        diagonal = np.exp(2 * at["log_diagonal"]) * np.diag(total)
        expected = {"factor": total @ at["factor"], "log_diagonal": diagonal}
    else:
        by_factor = np.tril(total @ lower)
        by_factor[np.diag_indices(len(lower))] *= np.diag(lower)
        expected = {"cholesky": by_factor[np.tril_indices(len(lower))]}
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1]
    assert exact.objective == pytest.approx(value + entropy, rel=1e-11)
    for name, found in {"loc": slope, **expected}.items():
        size = np.abs(found).max()
        np.testing.assert_allclose(exact.gradient[name], found, rtol=1e-9, atol=1e-10 * size, err_msg=name)


@pytest.mark.parametrize("text", CASES)
def test_optimal_baselines(text: str) -> None:
    """E[f s²]/E[s²] for the scores s = ε/σ and ε² − 1, whose squares are He_2 + 1 (over σ²) and He_4 + 4 He_2 + 2.

    Given the predictors of a piece, ε_i is Normal, so E[f He_n(ε_i)] is an integral over the predictors. Of the
    entropy −log q_i = ½ ε_i² + const, E[· He_2] is 1 and E[· He_4] is 0.
    """
    problem: Any = make_problem(text)
    at, (pieces, nodes) = moved(problem), CASES[text]
    x, w = gauss("normal", nodes)
    loc, scale = at["loc"], np.exp(at["log_scale"])
    mean, second, fourth = np.log(scale).sum() + 0.5 * len(loc) * (1 + np.log(2 * np.pi)), np.ones_like(loc), 0.0
    for linear, log_density in pieces(problem):
        of = np.atleast_2d(linear)
        root = np.linalg.cholesky((of * scale**2) @ of.T)
        grid, weights = tensor_grid(x, w, len(of))
        found = weights * log_density(*((of @ loc)[:, None] + root @ grid))
        direction = np.linalg.solve(root, of * scale)  # ε_i = direction_iᵀ g + independent noise
        along, size = direction.T @ grid, (direction**2).sum(axis=0)
        mean = mean + found.sum()
        second = second + (along**2 - size[:, None]) @ found
        fourth = fourth + (along**4 - 6 * size[:, None] * along**2 + 3 * size[:, None] ** 2) @ found
    expected = {"loc": mean + second, "log_scale": mean + 2 * second + fourth / 2}
    for name, found in expected.items():
        np.testing.assert_allclose(problem.exact_at(at).optimal_baseline[name], found, rtol=1e-9)
