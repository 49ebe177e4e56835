"""Exact gradients of the posteriors against tensor Gauss rules on log joint densities written apart, with SciPy.

The log joint density splits into pieces of few coordinates, each integrated under its marginal of q. Bonnet's and
Price's identities are applied to the score, not to derivatives of a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gradmeter.bench.cells import make_problem
from tests.support import Blocks, gauss

FAMILIES = ("normal", "multivariate-normal", "low-rank-normal")
Piece = tuple[list[int], Callable[..., np.ndarray]]

Y = np.array([28, 8, -3, 7, -1, 1, 18, 12])
SIGMA = np.array([15, 10, 16, 11, 9, 11, 10, 18])


def eight_schools(problem: Any) -> Iterator[Piece]:
    yield [0], lambda mu: stats.norm.logpdf(mu, 0, 5)
    yield [1], lambda t: stats.halfcauchy.logpdf(np.exp(t), scale=5) + t
    for j in range(8):
        if problem.parameterisation == "centred":
            yield [0, 1, 2 + j], lambda mu, t, theta: stats.norm.logpdf(theta, mu, np.exp(t))
            yield [2 + j], lambda theta, j=j: stats.norm.logpdf(Y[j], theta, SIGMA[j])
        else:
            yield [2 + j], stats.norm.logpdf
            yield [0, 1, 2 + j], lambda mu, t, eta, j=j: stats.norm.logpdf(Y[j], mu + np.exp(t) * eta, SIGMA[j])


def funnel(problem: Any) -> Iterator[Piece]:
    yield [0], lambda v: stats.norm.logpdf(v, 0, problem.width)
    for i in range(1, problem.dim):
        yield [0, i], lambda v, x: stats.norm.logpdf(x, 0, np.exp(v / 2))


#: Problems, the pieces of their log joint density, and nodes per coordinate.
CASES = {
    "eight-schools": (eight_schools, 40),
    "eight-schools[parameterisation=non-centred]": (eight_schools, 40),
    "funnel[dim=4]": (funnel, 60),
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


def integrated(pieces: Iterator[Piece], nodes: int, loc: np.ndarray, covariance: np.ndarray) -> tuple[Any, Any, Any]:
    """E log p, its gradient in the mean of q and twice that in its covariance."""
    x, w = gauss("normal", nodes)
    value, slope, curvature = 0.0, np.zeros_like(loc), np.zeros_like(covariance)
    for places, log_density in pieces:
        root = np.linalg.cholesky(covariance[np.ix_(places, places)])
        grid = np.stack([a.ravel() for a in np.meshgrid(*[x] * len(places), indexing="ij")])
        weights = np.prod([a.ravel() for a in np.meshgrid(*[w] * len(places), indexing="ij")], axis=0)
        found = weights * log_density(*(loc[places][:, None] + root @ grid))
        pulled = np.linalg.solve(root.T, grid)
        value += found.sum()
        slope[places] += pulled @ found
        inverse = np.linalg.inv(root @ root.T)
        curvature[np.ix_(places, places)] += (pulled * found) @ pulled.T - found.sum() * inverse
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
    """E[f s²]/E[s²] for the score s of each parameter: pieces without its coordinate add their mean."""
    problem: Any = make_problem(text)
    at, (pieces, nodes) = moved(problem), CASES[text]
    x, w = gauss("normal", nodes)
    loc, scale = at["loc"], np.exp(at["log_scale"])
    own = [([i], lambda z, i=i: -stats.norm.logpdf(z, loc[i], scale[i])) for i in range(problem.dimension)]
    mean, more = 0.0, {name: np.zeros_like(loc) for name in at}
    for places, log_density in [*pieces(problem), *own]:
        grid = np.stack([a.ravel() for a in np.meshgrid(*[x] * len(places), indexing="ij")])
        weights = np.prod([a.ravel() for a in np.meshgrid(*[w] * len(places), indexing="ij")], axis=0)
        found = log_density(*(loc[places, None] + scale[places, None] * grid))
        mean += weights @ found
        for name, score in {"loc": grid, "log_scale": grid**2 - 1}.items():
            more[name][places] += (score**2 @ (weights * found)) / (score**2 @ weights) - weights @ found
    for name, found in more.items():
        np.testing.assert_allclose(problem.exact_at(at).optimal_baseline[name], mean + found, rtol=1e-9)
