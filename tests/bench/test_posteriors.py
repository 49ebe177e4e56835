"""Exact gradients of the posteriors against tensor Gauss rules on log joint densities written apart, with SciPy.

The log joint density splits into pieces, functions of few linear functions of z, each integrated under their Normal.
Bonnet's and Price's identities are applied to the score, not to derivatives of a piece.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, log_expit

from gradmeter.bench.cells import make_problem
from gradmeter.bench.checks.integrands import Bench, check_integrand
from gradmeter.bench.checks.lab import QUICK, Lab
from gradmeter.bench.problems import rqmc
from gradmeter.bench.problems.posteriors.hierarchical_logistic import generated as hierarchical_logistic_data
from gradmeter.bench.problems.posteriors.item_response import generated as item_response_data
from gradmeter.bench.problems.posteriors.sparse_logistic import dataset as sparse_logistic_data
from gradmeter.bench.problems.posteriors.stochastic_volatility import generated as stochastic_volatility_data
from gradmeter.bench.problems.posteriors.terms import ScaledSoftplus
from gradmeter.bench.problems.posteriors.varying_intercepts import generated as varying_intercepts_data
from gradmeter.bench.problems.regression import load
from gradmeter.estimators import VARIANTS
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from tests.parity import Case
from tests.support import (
    Blocks,
    applies,
    estimate,
    gauss,
    make_cell,
    make_estimator,
    measured,
    needs,
    problem_is_refused,
)

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
        yield predictor, lambda p, i=i: log_expit((2 * y[i] - 1) * p)


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


def item_response(problem: Any) -> Iterator[Piece]:
    y = item_response_data(problem.persons, problem.items, problem.item_parameters)
    count, unit = problem.items, np.eye(problem.dimension)
    difficulty, more, ability = unit[:count], unit[count : -problem.persons], unit[-problem.persons :]
    for pieces, scale in ((difficulty, 2), (more, 0.5), (ability, 1)):
        yield from ((z, normal(scale)) for z in pieces)
    for i, answer in enumerate(y):
        away = ability[i // count] - difficulty[i % count]
        if len(more):
            at = lambda a, d, y=answer: log_expit((2 * y - 1) * np.exp(a) * d)  # noqa: E731
            yield np.stack([more[i % count], away]), at
        else:
            yield away, lambda d, y=answer: log_expit((2 * y - 1) * d)


def sparse_logistic(problem: Any) -> Iterator[Piece]:
    x, y = sparse_logistic_data("generated")
    unit = np.eye(18)
    intercept, weights, log_local, log_global = unit[0], unit[1:9], unit[9:17], unit[17]
    yield intercept, normal(5)
    yield log_global, lambda t: stats.halfcauchy.logpdf(np.exp(t), scale=0.1) + t
    for w, local in zip(weights, log_local, strict=True):
        yield local, lambda t: stats.halfcauchy.logpdf(np.exp(t)) + t
        yield np.stack([w, local + log_global]), lambda w, s: stats.norm.logpdf(w, 0, np.exp(s))
    for row, answer in zip(x, y, strict=True):
        yield intercept + row @ weights, lambda p, y=answer: log_expit((2 * y - 1) * p)


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
    "item-response[persons=4,items=3]": (item_response, 60),
    "item-response[persons=4,items=3,item-parameters=2]": (item_response, 60),
    "sparse-logistic": (sparse_logistic, 60),
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


@pytest.mark.parametrize("deviation", [0.3, 1.0, 15.9, 16.1, 300.0])
def test_softplus_of_a_wide_normal(deviation: float) -> None:
    """E of the derivatives of softplus(exp(a) x) at a = 0, by mpmath, where the two rules meet and beyond."""
    term, mean = ScaledSoftplus(0, 1), 0.7
    found = term._over_normal(np.asarray([mean]), np.asarray([deviation]))
    sigmoid = lambda v: 1 / (1 + mpmath.exp(-v))  # noqa: E731
    slope = lambda v: sigmoid(v) * sigmoid(-v)  # noqa: E731
    functions = {
        (): lambda v: mpmath.log1p(mpmath.exp(v)),
        (0,): lambda v: v * sigmoid(v),
        (1,): sigmoid,
        (0, 0): lambda v: v**2 * slope(v) + v * sigmoid(v),
        (0, 1): lambda v: v * slope(v) + sigmoid(v),
        (1, 1): slope,
        (1,) * 4: lambda v: slope(v) * (1 - 6 * slope(v)),
    }
    edges = sorted({mean + deviation * e for e in (-12, -6, 0, 6, 12)} | {-30.0, -8.0, 0.0, 8.0, 30.0})
    edges = [e for e in edges if abs(e - mean) <= 12 * deviation]
    for along, function in functions.items():
        expected = mpmath.quad(lambda v, f=function: f(v) * mpmath.npdf(v, mean, deviation), edges)
        np.testing.assert_allclose(found[along], float(expected), rtol=1e-11, atol=1e-14, err_msg=str(along))


@pytest.mark.parametrize("family", FAMILIES)
def test_rqmc_is_within_its_bound(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the exact gradient is known: false alarm 1e-3 a family by the bound's own level, seeds fixed."""
    monkeypatch.setattr(rqmc, "POINTS", 2**9)
    problem: Any = make_problem(f"sparse-logistic[family={family},scale=0.3]")
    exact, found = problem.exact(), rqmc.exact_by_rqmc(problem, problem.parameters())
    assert found.source == "rqmc"
    for name, gradient in exact.gradient.items():
        np.testing.assert_array_less(np.abs(found.gradient[name] - gradient), found.errors[name])
    size = math.sqrt(sum(float(np.sum(g**2)) for g in exact.gradient.values()))
    away = math.sqrt(sum(float(np.sum((found.gradient[n] - g) ** 2)) for n, g in exact.gradient.items()))
    assert 0.0 < away / size < found.error < 0.05


def test_non_centred_horseshoe(monkeypatch: pytest.MonkeyPatch) -> None:
    """By automatic differentiation of a log joint density written apart, 2^16 draws: 36 comparisons at 6 errors."""
    needs("torch")
    import torch

    monkeypatch.setattr(rqmc, "POINTS", 2**10)
    problem: Any = make_problem("sparse-logistic[parameterisation=non-centred,scale=0.3]")
    x, y = (torch.as_tensor(a) for a in sparse_logistic_data("generated"))
    noise = torch.randn((2**16, 18), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    z = (0.3 * noise).requires_grad_()
    intercept, eta, log_local, log_global = z[:, :1], z[:, 1:9], z[:, 9:17], z[:, 17:]
    local, everywhere = (torch.distributions.HalfCauchy(torch.tensor(s, dtype=torch.float64)) for s in (1.0, 0.1))
    logits = intercept + (eta * (log_local + log_global).exp()) @ x.T
    value = (
        torch.distributions.Normal(0.0, torch.tensor(5.0, dtype=torch.float64)).log_prob(intercept).sum(1)
        + torch.distributions.Normal(0.0, 1.0).log_prob(eta).sum(1)
        + (local.log_prob(log_local.exp()) + log_local).sum(1)
        + (everywhere.log_prob(log_global.exp()) + log_global).sum(1)
        + torch.distributions.Bernoulli(logits=logits).log_prob(y).sum(1)
    )
    mine = problem.integrand.value(np, problem.data(), z.detach().numpy()[None, :9], {})
    np.testing.assert_allclose(mine[0], value.detach().numpy()[:9], rtol=1e-12)
    (slope,) = torch.autograd.grad(value.sum(), z)
    terms = {"loc": slope.numpy(), "log_scale": (slope * 0.3 * noise).numpy() + 1.0}
    found = problem.exact()
    for name, each in terms.items():
        allowed = 6 * each.std(axis=0) / 2**8 + found.errors[name]
        np.testing.assert_array_less(np.abs(each.mean(axis=0) - found.gradient[name]), allowed, err_msg=name)


#: One of each kind of integrand: minibatches, repeated rows, both classes of terms, and the map of the horseshoe.
CHECKED = (
    "eight-schools[batch=3]",
    "item-response[item-parameters=2,persons=3,items=2]",
    "sparse-logistic[parameterisation=non-centred,batch=20]",
    "stochastic-volatility[times=4,batch=2]",
    "varying-intercepts[groups=3,size=2,batch=2,parameterisation=non-centred]",
)


@pytest.mark.parametrize("text", CHECKED)
def test_integrands(text: str) -> None:
    """Gradients, Hessians and local terms against differences, for full data and minibatches."""
    problem = make_problem(text)
    bench = Bench(Lab("numpy", QUICK, 0), problem.expectation(), problem.parameters(), problem.dimension)
    found = list(check_integrand(bench))
    assert not [str(each) for each in found if each.status == "wrong"]
    assert {"gradient", "hessian_product"} <= {each.check for each in found if each.status == "ok"}


PARITY = (
    *CHECKED,
    "funnel[dim=4,family=multivariate-normal,entropy=analytic]",
    "hierarchical-logistic[groups=3,size=2,family=low-rank-normal,rank=2]",
    "negative-binomial-regression[batch=5]",
)
ASKING = ("pathwise", "score-function[baseline=leave-one-out]", "rao-blackwell[baseline=leave-one-out]", "price")


@pytest.mark.matrix
@pytest.mark.parametrize("estimator", ASKING)
@pytest.mark.parametrize("text", PARITY)
def test_parity(text: str, estimator: str) -> None:
    if not applies(text, estimator, 4):
        pytest.skip("coordinates of this q are not independent")
    needs("torch")
    case = Case(text, estimator, 4)
    case.check(case.on(get("torch")), 1e-12)


@pytest.mark.parametrize("text", [PARITY[0], *(pytest.param(text, marks=pytest.mark.slow) for text in PARITY[1:])])
def test_parity_compiled(text: str) -> None:
    needs("jax")
    case = Case(text, "pathwise", 4)
    case.check(case.on(get("jax"), compiled=True), 1e-12)


@pytest.mark.matrix
@pytest.mark.parametrize("text", PARITY)
def test_automatic_differentiation(text: str) -> None:
    """With the same noise: the closed form's estimate."""
    needs("torch")
    case, other = Case(text, "pathwise", 4), make_problem(with_options(text, differentiate="autodiff"))
    found = estimate(get("torch"), case.cell.estimator, other.expectation(), case.parameters, case.noise)
    case.check(found, 1e-11)


#: Every problem under a mean-field q, and the others' q and minibatches once.
EVERY = (
    *("eight-schools", "eight-schools[parameterisation=non-centred]", "varying-intercepts", "item-response"),
    *("item-response[item-parameters=2]", "hierarchical-logistic", "negative-binomial-regression", "funnel"),
    *("stochastic-volatility", "sparse-logistic", "sparse-logistic[parameterisation=non-centred]"),
    *("eight-schools[family=multivariate-normal,batch=2]", "item-response[family=low-rank-normal,batch=4]"),
)
#: The main estimators, on every problem; all others are on three of them.
MAIN = (*ASKING, "pathwise[sticking-the-landing=true]", "measure-valued")
#: Estimators without a baseline, whose variance takes more than 2^20 replicates here.
VARIABLE = ("score-function[draws=stratified]", "importance-sampling", "overdispersed")
OTHERS = tuple(v for v in VARIANTS if v not in (*MAIN, *VARIABLE))
CELLS = [(t, e) for texts, names in ((EVERY, MAIN), (EVERY[6:9], OTHERS)) for t in texts for e in names]


@pytest.mark.slow
@pytest.mark.parametrize(("text", "estimator"), CELLS)
def test_certified(text: str, estimator: str) -> None:
    samples = max(8, make_estimator(estimator).smallest_num_samples())
    if not applies(text, estimator, samples):
        pytest.skip("not for this problem")
    rows = measured(make_cell(text, estimator, samples, bias_bound=0.1, precision=0.2, max_replicates=2**20))
    assert rows["all"]["verdict"] == "unbiased", rows["all"]["reason"]


@pytest.mark.parametrize("family", ["normal", "multivariate-normal"])
def test_fitted_is_a_maximum(family: str) -> None:
    problem: Any = make_problem(f"eight-schools[at=fitted,family={family}]")
    exact, best = problem.exact(), problem.parameters()
    assert max(np.abs(g).max() for g in exact.gradient.values()) < 1e-6
    generator = np.random.default_rng(1)
    for _ in range(5):
        away = {n: a + 0.05 * generator.standard_normal(a.shape) for n, a in best.items()}
        assert problem.exact_at(away).objective < exact.objective


def test_posteriors_find_the_truth() -> None:
    """The fitted q of generated data: within 0.4 of every parameter of the model, whose posterior σ are below 0.2."""
    truths = {
        "varying-intercepts[groups=40,size=20,at=fitted]": [1.0, -0.5, np.log(0.8), np.log(0.6)],
        "hierarchical-logistic[groups=40,size=20,at=fitted]": [-0.3, 0.8, -0.5, np.log(0.7)],
    }
    for text, truth in truths.items():
        np.testing.assert_allclose(make_problem(text).parameters()["loc"][: len(truth)], truth, atol=0.4, err_msg=text)


def test_non_centred_parameterisations_agree() -> None:
    """log p of the same effects, once as they are and once standardised, differs by the map's log Jacobian."""
    centred, other = (make_problem(f"eight-schools[parameterisation={p}]") for p in ("centred", "non-centred"))
    z = np.random.default_rng(2).standard_normal((1, 5, 10))
    moved = z.copy()
    moved[..., 2:] = z[..., :1] + np.exp(z[..., 1:2]) * z[..., 2:]
    one, two = (p.integrand.value(np, p.data(), at, {}) for p, at in ((centred, moved), (other, z)))
    np.testing.assert_allclose(one + 8 * z[..., 1], two, rtol=1e-13)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("eight-schools[batch=9]", "problem eight-schools: batch is 9; there are 8 rows"),
        ("eight-schools[at=fitted,scale=0.2]", "at=fitted chooses loc and scale itself; leave them out"),
        ("funnel[scale=60]", "problem funnel: the ELBO overflows; give a smaller loc or scale"),
        ("item-response[item-parameters=2,scale=1.5]", "its exact gradient is known up to scale=1"),
        ("item-response[item-parameters=3]", "it must be a whole number, at least 1, at most 2"),
        ("sparse-logistic[parameterisation=non-centred,at=fitted]", "at=fitted is for parameterisation=centred"),
        ("eight-schools[family=gamma]", "unknown value of problem eight-schools option 'family': 'gamma'"),
    ],
)
def test_bad_options(text: str, message: str) -> None:
    problem_is_refused(text, message)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ASKING)
@pytest.mark.parametrize("text", PARITY)
def test_float32(backend: Backend, text: str, estimator: str) -> None:
    if not applies(text, estimator, 4):
        pytest.skip("coordinates of this q are not independent")
    case = Case(text, estimator, 4, "float32")
    found = case.on(backend, dtype="float32", compiled=backend.name == "jax")
    assert all(g.dtype == np.float32 for g in found.values())
    case.check(found, 1e-5)
