"""Kin of the score function: exact variances and biases, identities, and what each refuses."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from gradmeter.bench.cells import make_estimator
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.integrate import integrate
from gradmeter.estimators import ESTIMATORS, NAMED_ALONE, VARIANTS, Expectation, Noise, NotApplicable, UsageError
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.draws import from_uniforms
from gradmeter.estimators.families import FAMILIES, MultivariateNormal, Normal
from gradmeter.estimators.score_function import fitted_coefficient
from tests import exact
from tests.families import having
from tests.support import (
    IN_THREE_DIMENSIONS,
    REGRESSIONS,
    TEST_FUNCTIONS,
    TWO_FAMILIES,
    Blocks,
    called_once,
    draws,
    estimate,
    integrated,
    integrated_problem,
    make_cell,
    measured,
    setting_of,
)

K, LOC, SCALE = 1.37, -0.6, 0.83
DELTA = LOC - K
SQUARE = f"square[k={K},loc={LOC},scale={SCALE}]"
LEAVE_ONE_OUT = "score-function[baseline=leave-one-out]"
#: By estimator, the number of samples and of nodes that integrate it.
UNBIASED = {
    "vargrad": (2, 80),
    "score-function[baseline=cross-fitted]": (2, 80),
    "score-function[baseline=fitted]": (1, 96),
    "score-function[draws=antithetic]": (2, 96),
    "rao-blackwell": (1, 96),
    "rao-blackwell[baseline=leave-one-out]": (2, 80),
    "importance-sampling": (1, 96),
    "importance-sampling[widen=1.6]": (1, 96),
    "overdispersed": (1, 96),
    "off-policy[behaviour=normal,loc=0.2,scale=1.9]": (1, 96),
}


def at(backend: Backend, problem: str, estimator: str, samples: int, noise: Blocks | None = None) -> Blocks:
    """Five estimates; from the same noise for every estimator that draws under the same names."""
    cell = make_cell(problem, estimator, samples)
    expectation = cell.problem.expectation()
    specs = cell.estimator.noise_specs(expectation, samples, cell.problem.dimension)
    return estimate(backend, cell.estimator, expectation, cell.problem.parameters(), noise or draws(specs, 5))


def same(found: Blocks, expected: Blocks) -> None:
    for name, values in expected.items():
        size = max(1.0, np.abs(values).max())
        np.testing.assert_allclose(found[name], values, rtol=0.0, atol=1e-12 * size, err_msg=name)


@pytest.mark.matrix
@pytest.mark.parametrize("problem", TEST_FUNCTIONS)
@pytest.mark.parametrize("estimator", UNBIASED)
def test_unbiased(backend: Backend, problem: str, estimator: str) -> None:
    samples, nodes = UNBIASED[estimator]
    gradient = make_cell(problem, estimator).problem.exact().gradient
    for name, (mean, _, size) in integrated_problem(backend, problem, estimator, samples, nodes=nodes).items():
        assert np.all(np.abs(mean - gradient[name]) <= 1e-12 * np.maximum(1.0, size)), name


def test_cross_fitted_is_unbiased_in_halves_of_two(numpy_backend: Backend) -> None:
    """S = 4. A coefficient of other samples multiplies E s, which is 0 by any rule; one of the same samples is off by
    −3/(S + 2), half the gradient."""
    gradient = make_cell(SQUARE, "score-function").problem.exact().gradient
    found = integrated_problem(numpy_backend, SQUARE, "score-function[baseline=cross-fitted]", 4, nodes=10)
    for name, (mean, _, _) in found.items():
        np.testing.assert_allclose(mean, gradient[name], rtol=1e-12)


@pytest.mark.parametrize("widen", [1.0, 1.25, 1.6])
@pytest.mark.parametrize("option", ["importance-sampling[widen={}]", "overdispersed[dispersion={}]"])
def test_variance_of_a_wider_proposal(backend: Backend, widen: float, option: str) -> None:
    """In one dimension both are the same; widen = 1 is the plain score function."""
    text = option.format(widen if "widen" in option else widen**2)
    found = integrated_problem(backend, SQUARE, text, nodes=140)
    for name, variance in exact.square_importance(DELTA, SCALE, widen).items():
        np.testing.assert_allclose(found[name][1], variance, rtol=1e-10)
    if widen == 1.0:
        for name, variance in exact.square(DELTA, SCALE)["score-function"].items():
            np.testing.assert_allclose(found[name][1], variance, rtol=1e-10)


@pytest.mark.parametrize("dimension", [2, 3])
def test_rao_blackwell_is_one_dimensional(backend: Backend, dimension: int) -> None:
    """On a separable f the other coordinates add nothing: every coordinate has the variance of D = 1."""
    found = integrated_problem(backend, f"{SQUARE[:-1]},dim={dimension}]", "rao-blackwell", nodes=8)
    for name, variance in exact.square(DELTA, SCALE)["score-function"].items():
        np.testing.assert_allclose(found[name][1], np.full(dimension, variance), rtol=1e-10)


def test_rao_blackwell_and_leave_one_out(numpy_backend: Backend) -> None:
    text = "rao-blackwell[baseline=leave-one-out]"
    one = integrated_problem(numpy_backend, SQUARE, LEAVE_ONE_OUT, 2, nodes=10)
    two = integrated_problem(numpy_backend, f"{SQUARE[:-1]},dim=2]", text, 2, nodes=10)
    for name, (_, variance, _) in one.items():
        np.testing.assert_allclose(two[name][1], np.repeat(variance, 2), rtol=1e-10)


@pytest.mark.parametrize("problem", [*IN_THREE_DIMENSIONS, *REGRESSIONS, TWO_FAMILIES[1]])
def test_local_terms(backend: Backend, problem: str) -> None:
    """Replacing z_i changes f by what it changes in the terms of i, entropy included."""
    cell = make_cell(problem, "rao-blackwell", 4)
    expectation, dimension = cell.problem.expectation(), cell.problem.dimension
    put = lambda arrays: {n: backend.asarray(a, None) for n, a in arrays.items()}  # noqa: E731
    parameters, noise = (
        put(cell.problem.parameters()),
        put(draws(cell.estimator.noise_specs(expectation, 4, dimension), 3)),
    )
    expectation = expectation.bind(put(expectation.data))
    z = expectation.family.sample(backend, parameters, noise)
    i, other = dimension - 1, backend.xp.flip(z, axis=0)
    chosen = backend.asarray(np.arange(dimension) == i, None)
    moved = backend.xp.where(chosen, other, z)

    def both(at: Any) -> tuple[Any, Any]:
        terms = expectation.local_terms(backend, parameters, at, noise)
        return terms[..., i], expectation.value(backend, parameters, at, noise)

    compute = backend.compile_for_few_calls(both, handful=True)
    (local, value), (local_moved, value_moved) = ([backend.to_numpy(a) for a in compute(at)] for at in (z, moved))
    off = 1e-12 * max(1.0, np.abs(value).max())
    np.testing.assert_allclose(local_moved - local, value_moved - value, rtol=0, atol=off)


def test_local_terms_of_a_separable_elbo(backend: Backend) -> None:
    """(z_i − k)² − log q(z_i): of the entropy too, nothing of the other coordinates."""
    problem = make_cell(f"{SQUARE[:-1]},dim=3]", "rao-blackwell").problem
    put = lambda arrays: {n: backend.asarray(a, None) for n, a in arrays.items()}  # noqa: E731
    plain = problem.expectation()
    elbo = Expectation(plain.family, plain.integrand, put(plain.data), "sampled")
    z = np.random.default_rng(3).normal(size=(5, 3))
    found = elbo.local_terms(backend, put(problem.parameters()), backend.asarray(z, "float64"), {})
    expected = (z - K) ** 2 - stats.norm(LOC, SCALE).logpdf(z)
    np.testing.assert_allclose(backend.to_numpy(found), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("problem", "samples"), [(IN_THREE_DIMENSIONS[1], 5), (REGRESSIONS[5], 2), (TWO_FAMILIES[0], 3)]
)
@pytest.mark.matrix
def test_vargrad_is_leave_one_out(backend: Backend, problem: str, samples: int) -> None:
    same(at(backend, problem, "vargrad", samples), at(backend, problem, LEAVE_ONE_OUT, samples))


def test_vargrad_is_near_the_optimal_constant() -> None:
    """And far below none at all (Richter et al. 2020): S = 8, ten coordinates, at a fixed seed."""
    problem = f"{SQUARE[:-1]},dim=10]"
    names = ("score-function", "score-function[baseline=optimal]", "vargrad")
    rows = [measured(make_cell(problem, name, 8, max_replicates=2**15))["all"] for name in names]
    plain, optimal, vargrad = (row["variance"] for row in rows)
    assert optimal < vargrad < 1.3 * optimal
    assert vargrad < 0.1 * plain


@pytest.mark.parametrize("estimator", ["vargrad", "score-function[baseline=cross-fitted]"])
def test_of_two_samples(backend: Backend, estimator: str) -> None:
    """½ (f₁ − f₂)(s₁ − s₂): of halves of one sample, the coefficient is the other's f."""
    base = draws(make_estimator("pathwise").noise_specs(make_cell(SQUARE, "pathwise").problem.expectation(), 2, 1), 5)
    value, score = (DELTA + SCALE * base["base"]) ** 2, base["base"] / SCALE
    expected = 0.5 * (value[:, 0] - value[:, 1]) * (score[:, 0] - score[:, 1])
    np.testing.assert_allclose(at(backend, SQUARE, estimator, 2, base)["loc"], expected, rtol=1e-12)


def test_without_a_wider_proposal(backend: Backend) -> None:
    """widen = 1: the weights are 1, self-normalised or not."""
    plain = at(backend, IN_THREE_DIMENSIONS[2], "score-function", 4)
    for name in ("importance-sampling", "self-normalised"):
        same(at(backend, IN_THREE_DIMENSIONS[2], f"{name}[widen=1]", 4), plain)


def test_dispersed_families(numpy_backend: Backend) -> None:
    """log r/h is log q/h over the dispersion, but for a constant: so are differences. Of counts, h is no constant."""
    generator = np.random.default_rng(2)
    for name in having("dispersed"):
        family: Any = FAMILIES[name].Config().family
        parameters = {b: 0.4 * generator.standard_normal(s) for b, s in family.shapes(3).items()}
        z = np.abs(generator.standard_normal((6, 3)))
        proposal = family.dispersed(numpy_backend, parameters, 1.7)
        ways = -(special.gammaln(z + 1.0) + special.gammaln(6.0 - z)).sum(axis=1) if name == "binomial" else 0.0
        wide, own = (family.log_density(numpy_backend, p, z) - ways for p in (proposal, parameters))
        np.testing.assert_allclose(1.7 * (wide[1:] - wide[0]), own[1:] - own[0], rtol=1e-12, err_msg=name)


# Strata


@pytest.mark.parametrize("samples", [7])
def test_every_stratum_once(backend: Backend, samples: int) -> None:
    """Of each coordinate, in an order of its own; and each backend makes the same noise of the same numbers."""
    from scipy.stats import norm

    specs = make_estimator("score-function[draws=stratified]").noise_specs(
        make_cell(IN_THREE_DIMENSIONS[0], "pathwise").problem.expectation(), samples, 3
    )
    drawn = draws(specs, 40)
    uniforms = {n: backend.asarray(a, "float64") for n, a in drawn.items()}
    made = called_once(backend, functools.partial(from_uniforms, backend, Normal()), uniforms)["base"]
    strata = np.floor(norm.cdf(backend.to_numpy(made)) * samples)
    np.testing.assert_array_equal(np.sort(strata, axis=1), np.tile(np.arange(samples)[:, None], (40, 1, 3)))
    assert np.any(strata[..., 0] != strata[..., 1])
    inside = norm.cdf(backend.to_numpy(made)) * samples - strata
    np.testing.assert_allclose(inside, drawn["base_within"], atol=1e-12)


def test_strata_reach_into_both_tails(backend: Backend) -> None:
    """The ends of the unit interval give finite noise, mirror images of each other, in float32 too."""
    for dtype, at_least in (("float64", 7.5), ("float32", 5.0)):
        ends = backend.asarray([[[0.0], [1.0 - np.finfo(dtype).epsneg]]], dtype)
        made = called_once(backend, functools.partial(from_uniforms, backend, Normal()), {"base_within": ends})
        found = backend.to_numpy(made["base"])[0, :, 0]
        assert found.dtype == dtype
        assert np.all(np.isfinite(found))
        assert found[1] == pytest.approx(-found[0], rel=0.03)
        assert found[1] > at_least


def test_scores_that_do_not_vary_teach_no_coefficient() -> None:
    """Beside one that does: f = 3 + s, so Cov(f s, s)/Var(s) = 3 for s = ±1. 0.1 is no binary fraction: its mean over
    the warm-up is rounded."""
    score = np.stack([np.tile([[1.0], [-1.0]], (300, 1)), np.full((600, 1), -0.1), np.zeros((600, 1))], axis=-1)
    value = 3.0 + score[..., :1] * np.ones(3)
    np.testing.assert_array_equal(fitted_coefficient(value, score), [3.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("problem", "baseline"),
    [
        ("gaussian-mixture", "fitted"),
        ("square[family=bernoulli,probability=1e-170]", "fitted"),
        ("square[family=bernoulli,probability=1e-170]", "optimal"),
    ],
)
def test_a_warm_up_that_misses_states(problem: str, baseline: str) -> None:
    """Responsibilities that are 0 or 1 to rounding, and a score whose square is 0."""
    rows = measured(make_cell(problem, f"score-function[baseline={baseline}]", max_replicates=2**11))
    assert all(row["verdict"] != "biased" for row in rows.values())


def by_stratum(problem: str, samples: int) -> tuple[Any, dict[str, np.ndarray]]:
    """The mean of f s within each stratum [S], by block, by the trapezoid rule in a variable that flattens the ends."""
    from scipy.special import ndtri

    cell = make_cell(problem, "score-function")
    expectation, parameters = cell.problem.expectation(), cell.problem.parameters()
    t = np.linspace(-3.2, 3.2, 1200)  # tanh-sinh: u = (1 + tanh(π/2 sinh t))/2
    u = 1.0 / (1.0 + np.exp(-np.pi * np.sinh(t)))
    weights = np.cosh(t) / np.cosh(0.5 * np.pi * np.sinh(t)) ** 2
    weights /= weights.sum()
    means: dict[str, list[float]] = {"loc": [], "log_scale": []}
    for stratum in range(samples):
        below, above = (stratum + u) / samples, (samples - 1 - stratum + u[::-1]) / samples
        base = np.where(below < above, ndtri(below), -ndtri(above))[:, None, None]
        plain = estimate(get("numpy"), make_estimator("score-function"), expectation, parameters, {"base": base})
        for name, g in plain.items():
            means[name].append(float(weights @ g[:, 0]))
    return cell, {name: np.asarray(m) for name, m in means.items()}


@pytest.mark.parametrize("problem", TEST_FUNCTIONS)
def test_stratified_mean_and_variance(problem: str) -> None:
    """The strata's means average to the gradient (so unbiased), and their spread is what the variance loses:
    Var = Var₁/S − Σ (mean_s − g)²/S², measured to within 4.5 standard errors (7e-6 a comparison)."""
    samples, seen = 8, False
    cell, means = by_stratum(problem, samples)
    one = integrated_problem(get("numpy"), problem, "score-function", nodes=96)
    rows = measured(make_cell(problem, "score-function[draws=stratified]", samples, max_replicates=2**17))
    for name, gradient in cell.problem.exact().gradient.items():
        assert abs(means[name].mean() - gradient[0]) <= 1e-11
        lost = float(((means[name] - gradient[0]) ** 2).sum()) / samples**2
        variance = float(one[name][1][0]) / samples - lost
        row = rows[name]
        assert row["verdict"] != "biased"
        error = (row["variance_high"] - row["variance_low"]) / (2 * 1.96)
        assert abs(row["variance"] - variance) <= 4.5 * error
        seen |= lost > 9.0 * error
    assert seen  # the loss is no matter of chance


# Biased by nature


@pytest.mark.parametrize("radius", [0.05, 0.4])
@pytest.mark.parametrize(("estimator", "factor"), [
    ("evolution-strategies", lambda r: np.exp(2 * r**2)),
    ("spsa", lambda r: np.sinh(2 * r) / (2 * r)),
])  # fmt: skip
def test_bias_of_zero_order(backend: Backend, estimator: str, factor: Any, radius: float) -> None:
    """L = δ² + σ² is quadratic in loc: no bias. In log σ its smoothing and its central difference are known."""
    found = integrated_problem(backend, SQUARE, f"{estimator}[radius={radius}]", nodes=24)
    np.testing.assert_allclose(found["loc"][0], 2 * DELTA, rtol=1e-12)
    np.testing.assert_allclose(found["log_scale"][0], 2 * SCALE**2 * factor(radius), rtol=1e-11)


def test_bias_of_zero_order_is_of_second_order(numpy_backend: Backend) -> None:
    """cos(kz): a radius 10 times smaller is 100 times less biased."""
    problem = TEST_FUNCTIONS[2]
    gradient = make_cell(problem, "spsa").problem.exact().gradient
    for estimator in ("evolution-strategies", "spsa"):
        found = [
            integrated_problem(numpy_backend, problem, f"{estimator}[radius={r}]", nodes=40) for r in (0.02, 0.002)
        ]
        for name, g in gradient.items():
            wide, narrow = (float((f[name][0] - g)[0]) for f in found)
            assert wide / narrow == pytest.approx(100.0, rel=0.01), (estimator, name)


def test_bias_of_self_normalised(numpy_backend: Backend) -> None:
    """There, and less of it with more samples."""
    gradient = make_cell(SQUARE, "pathwise").problem.exact().gradient
    bias = [
        {n: float(abs(m - gradient[n])[0]) for n, (m, _, _) in found.items()}
        for found in (integrated_problem(numpy_backend, SQUARE, "self-normalised", s, nodes=40) for s in (2, 3))
    ]
    for name in gradient:
        assert 0.0 < bias[1][name] < bias[0][name]


@pytest.mark.parametrize("estimator", ["self-normalised", "evolution-strategies[radius=0.3]", "spsa[radius=0.3]"])
def test_those_biased_by_nature_are_caught(estimator: str) -> None:
    rows = measured(make_cell(SQUARE, estimator, max_replicates=2**15))
    assert rows["all"]["verdict"] == "biased"
    assert make_estimator(estimator).biased
    assert not make_estimator(estimator).injected


def test_what_is_measured_by_default_is_unbiased() -> None:
    assert all(make_estimator(text).biased is None for text in VARIANTS)
    assert {n for n, cls in ESTIMATORS.items() if cls.biased} < set(NAMED_ALONE)


# What is refused


@pytest.mark.parametrize(
    "text", ["importance-sampling[widen=0.9]", "overdispersed[dispersion=0.5]", "self-normalised[widen=.5]"]
)
def test_a_narrow_proposal_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"narrower than its target has unbounded weights.*at least 1"):
        make_estimator(text)


@pytest.mark.parametrize(
    ("estimator", "samples", "message"),
    [
        ("vargrad", 1, "at least 2 samples"),
        ("self-normalised", 1, "at least 2 samples"),
        ("score-function[baseline=cross-fitted]", 3, "must be even"),
        ("rao-blackwell[baseline=cross-fitted]", 1, "at least 2 samples"),
        ("score-function[draws=antithetic]", 3, "must be even"),
        ("score-function[draws=stratified]", 1, "at least 2 samples"),
        ("score-function[draws=stratified,baseline=leave-one-out]", 4, "needs independent samples"),
        ("score-function[draws=antithetic,baseline=cross-fitted]", 4, "needs independent samples"),
    ],
)
def test_settings_refused(estimator: str, samples: int, message: str) -> None:
    with pytest.raises(NotApplicable, match=message):
        make_estimator(estimator).check(Normal(), "none", samples, 2)


@pytest.mark.parametrize("estimator", ["rao-blackwell", "overdispersed", "evolution-strategies", "spsa"])
def test_dependent_coordinates_are_refused(estimator: str) -> None:
    with pytest.raises(NotApplicable, match=r"needs independent coordinates.*depend on each other"):
        make_estimator(estimator).check(MultivariateNormal(), "none", 2, 2)


def test_overdispersed_disperses_one_coordinate(backend: Backend) -> None:
    """D = 2: ∂ of the first coordinate sees its own proposal and the second coordinate as q draws it."""
    cell = make_cell(f"{SQUARE[:-1]},dim=2]", "overdispersed")
    expectation, parameters = cell.problem.expectation(), cell.problem.parameters()
    read = {("proposal_base", 0), ("base", 1)}
    axes = lambda name, position: (name, position) in read  # noqa: E731
    found = integrated(backend, cell.estimator, expectation, parameters, 1, nodes=80, axes=axes)
    for name, (mean, _, _) in found.items():
        np.testing.assert_allclose(mean[0], cell.problem.exact().gradient[name][0], rtol=1e-12)


def test_off_policy_of_any_behaviour(backend: Backend) -> None:
    """Enumerated: binary samples from other probabilities, counts from a geometric distribution, two numbers of it.
    r = q is the plain score function, and another support is refused."""
    for problem, behaviour in (
        ("square[family=bernoulli,probability=0.3,k=0.49,dim=2]", "bernoulli,probability=0.8"),
        ("polynomial[family=poisson,rate=0.7,degree=2]", "geometric,probability=0.4"),
    ):
        found = integrate(setting_of(problem, f"off-policy[behaviour={behaviour}]", backend.name))
        exact = make_cell(problem, "off-policy").problem.exact()
        assert found is not None
        assert exact is not None
        for name, gradient in exact.flat().gradient.items():
            np.testing.assert_allclose(found[name].mean, gradient, rtol=1e-11)
    own = f"off-policy[behaviour=normal,loc={LOC},scale={SCALE}]"
    noise = draws({"base": Noise("normal", (4, 1)), "nothing": Noise("uniform", (0, 1))}, 5)
    renamed = {"behaviour_base": noise["base"], "nothing": noise["nothing"]}
    same(at(backend, SQUARE, own, 4, renamed), at(backend, SQUARE, "score-function", 4, noise))
    for problem, behaviour in ((SQUARE, "gamma"), ("polynomial[family=exponential]", "normal"), (SQUARE, "poisson")):
        reason = infeasible(make_cell(problem, f"off-policy[behaviour={behaviour}]"))
        assert reason is not None
        assert "the support of family" in reason


@pytest.mark.parametrize("direction", ["normal", "signs"])
def test_forward_gradient(backend: Backend, direction: str) -> None:
    """E over signs, enumerated, is the pathwise estimate. Over Gaussian directions, E ĝ_j² = E[2 g_j² + Σ g_i²], by
    quadrature over one number of noise and two of the direction."""
    problem, estimator = SQUARE, f"forward-gradient[direction={direction}]"
    plain = integrated_problem(backend, problem, "pathwise", 1, nodes=40)
    square = {name: variance + mean**2 for name, (mean, variance, _) in plain.items()}
    both = sum(square.values())
    if direction == "signs":
        noise = draws({"base": Noise("normal", (1, 1))}, 4)
        signs = np.asarray([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        noise["base"] = np.repeat(noise["base"][:1], 4, axis=0)
        given = {"rademacher_loc": signs[:, :1, None], "rademacher_log_scale": signs[:, 1:, None]}
        found = at(backend, problem, estimator, 1, {**noise, **given})
        expected = at(backend, problem, "pathwise", 1, noise)
        same({name: values.mean(axis=0) for name, values in found.items()}, {n: v[0] for n, v in expected.items()})
        return
    for name, (mean, variance, _) in integrated_problem(backend, problem, estimator, 1, nodes=40).items():
        np.testing.assert_allclose(mean, plain[name][0], rtol=1e-10)
        np.testing.assert_allclose(variance, both + 2.0 * square[name] - mean**2, rtol=1e-9)


def test_shared_directions(backend: Backend) -> None:
    """With S = 1 they are the same; else the estimate is ξ times the mean difference over the samples."""
    one, shared = "evolution-strategies", "mezo"
    noise = draws({"base": Noise("normal", (3, 1))}, 5)
    v = draws({f"normal_{name}": Noise("normal", (1, 1)) for name in ("loc", "log_scale")}, 5)
    repeated = {name: np.repeat(a, 3, axis=1) for name, a in v.items()}
    same(at(backend, SQUARE, shared, 3, {**noise, **v}), at(backend, SQUARE, one, 3, {**noise, **repeated}))
    exact = make_cell("square[k=1.37,loc=-0.6,scale=0.83]", shared).problem.exact()
    found = integrated_problem(backend, SQUARE, "mezo[radius=0.01]", 1, nodes=40)
    assert exact is not None
    for name, (mean, _, _) in found.items():
        np.testing.assert_allclose(mean, exact.gradient[name], rtol=1e-3)
