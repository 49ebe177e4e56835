"""The gamma number behind a dozen families: its law, and its derivative in the concentration."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.rules import rule
from gradmeter.estimators import FAMILIES
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.gamma_path import (
    PROPOSALS,
    constants,
    digamma_step,
    gamma_noise,
    log_gamma_slope,
    log_standard_gamma,
    proposal,
    trigamma,
)
from tests.estimators import laws
from tests.support import Blocks, called_once, draws, estimate, make_cell

#: Chance that one of the two Kolmogorov-Smirnov tests fails for a sampler that is right; seeds are fixed.
FALSE_ALARM = 1e-6


def slope_by_integration(concentration: float, log_g: float) -> float:
    """−(∂F/∂α)/(g q) in extended precision, by exp-sinh quadrature of ∫ (log t − ψ(α)) q(t) dt from g away from α."""
    t = np.linspace(np.longdouble(-6.5), np.longdouble(6.5), 833)
    y = np.exp(np.longdouble(np.pi) / 2 * np.sinh(t))
    w = y * np.longdouble(np.pi) / 2 * np.cosh(t) * (t[1] - t[0])
    a, g = np.longdouble(concentration), np.exp(np.longdouble(log_g))
    away = np.longdouble(log_g) - special.digamma(concentration + 1.0) + 1.0 / a
    with np.errstate(over="ignore", invalid="ignore"):
        if g <= a:  # t = g exp(−y)
            y, w = y / a, w / a
            terms = -(away - y) * np.exp(-a * y - g * np.expm1(-y)) * w
        else:  # t = g (1 + y)
            y, w = y / np.sqrt(g + 1), w / np.sqrt(g + 1)
            terms = (away + np.log1p(y)) * np.exp((a - 1) * np.log1p(y) - g * y) * w
    return float(np.sum(np.where(np.isfinite(terms), terms, 0.0)))


def law_of_log(concentration: float) -> Any:
    """Of log g. Below 1e-300 P(g < x) is xᵅ/Γ(α + 1) to all digits; SciPy's `loggamma` loses what is below −745."""

    class Law:
        def cdf(self, x: np.ndarray) -> np.ndarray:
            low = np.exp(concentration * x - special.gammaln(concentration + 1.0))
            return np.where(x < -690.0, low, special.gammainc(concentration, np.exp(np.maximum(x, -690.0))))

        def ppf(self, levels: Any) -> np.ndarray:
            levels = np.asarray(levels)
            low = (np.log(levels) + special.gammaln(concentration + 1.0)) / concentration
            return np.where(low < -690.0, low, np.log(np.maximum(special.gammaincinv(concentration, levels), 1e-300)))

    return Law()


def test_steps_of_digamma(backend: Backend) -> None:
    """ψ(x + n) − ψ(x) = Σ 1/(x + k), to its own precision however small it is beside ψ(x)."""
    x = np.concatenate([np.linspace(0.2, 40.0, 200), np.geomspace(50.0, 1e15, 40)])
    for steps in (1, 2, 5):
        found = backend.to_numpy(digamma_step(backend, backend.asarray(x, "float64"), float(steps)))
        expected = np.sum(1.0 / (x[:, None] + np.arange(steps)), axis=1)
        np.testing.assert_allclose(found, expected, rtol=2e-14)


@pytest.mark.parametrize("concentration", [1e-3, 0.01, 0.05, 0.2, 0.7, 1.0, 1.9, 6.0, 40.0, 1e3, 1e5])
def test_slope(backend: Backend, concentration: float) -> None:
    """Over all that is ever drawn, from the 1e-8 quantile to that of 1 − 1e-8; at small α also where g underflows."""
    levels = [1e-8, 1e-5, 1e-3, 0.02, 0.1, 0.3, 0.5, 0.55, 0.6, 0.7, 0.9, 0.99, 1.0 - 1e-4, 1.0 - 1e-8]
    log_g = law_of_log(concentration).ppf(levels)
    at = backend.asarray(np.full(len(log_g), concentration), "float64")
    slope = functools.partial(log_gamma_slope, backend)
    found = backend.to_numpy(called_once(backend, slope, at, backend.asarray(log_g, "float64")))
    expected = [slope_by_integration(concentration, x) for x in log_g]
    np.testing.assert_allclose(found, expected, rtol=1e-12 if concentration <= 1e3 else 1e-10)


def test_slope_of_the_exponential(backend: Backend) -> None:
    """α = 1: −∂F/∂α = ∫_g^∞ (log t + γ) e⁻ᵗ dt = e⁻ᵍ (log g + γ) + E₁(g)."""
    g = np.asarray([1e-6, 0.2, 0.999, 1.0, 1.001, 2.7, 20.0])
    expected = np.log(g) + np.euler_gamma + special.exp1(g) * np.exp(g)
    found = log_gamma_slope(backend, backend.asarray(np.ones(len(g)), "float64"), backend.asarray(np.log(g), "float64"))
    np.testing.assert_allclose(g * backend.to_numpy(found), expected, rtol=1e-10)


@pytest.mark.parametrize("concentration", [1.0, 1.4, 7.0, 300.0])
def test_proposals(concentration: float) -> None:
    """What is accepted has the density of Gamma(α, 1), Jacobian included, and one is refused as rarely as said."""
    d, c = constants(np, np.asarray(concentration))
    x = np.linspace(-1.0 / c + 1e-6, 11.0, 40_001) if c > 0.1 else np.linspace(-11.0, 11.0, 40_001)
    cubed, limit = proposal(np, d, c, x)
    assert np.all(limit >= -1e-12)  # so that −log u > limit has probability exp(−limit)
    accepted = stats.norm.logpdf(x) - limit
    jacobian = np.log(3.0 * c * d) + 2.0 * np.log1p(c * x)
    constant = accepted - stats.gamma(concentration).logpdf(d * cubed) - jacobian
    assert np.ptp(constant) < 1e-9 * max(1.0, d)
    refused = 1.0 - np.exp(constant[20_000])
    assert refused < 0.0484
    assert refused**PROPOSALS < 3.1e-11


@pytest.mark.parametrize("concentration", [1e-3, 0.01, 0.1, 0.3])
def test_law_of_small_concentrations(backend: Backend, concentration: float) -> None:
    """Of log g, since g itself underflows."""
    noise = {k: backend.asarray(a, "float64") for k, a in draws(gamma_noise((20,)), 2000).items()}
    at = backend.asarray([concentration] * 20, "float64")
    found = called_once(backend, functools.partial(log_standard_gamma, backend), at, noise)
    assert stats.kstest(backend.to_numpy(found).ravel(), law_of_log(concentration).cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize("concentration", [0.3, 1.0, 4.2])
def test_first_accepted(backend: Backend, concentration: float) -> None:
    """Against a loop that stops at the first proposal it accepts; and the law of what comes out."""
    noise = draws(gamma_noise((20,)), 2000)
    on = {k: backend.asarray(a, "float64") for k, a in noise.items()}
    log_g = log_standard_gamma(backend, backend.asarray([concentration] * 20, "float64"), on)
    found = np.exp(backend.to_numpy(log_g))
    assert stats.kstest(found.ravel(), stats.gamma(concentration).cdf).pvalue > FALSE_ALARM
    boosted = concentration < 1.0
    d = concentration + boosted - 1.0 / 3.0
    for i in range(50):
        for x, cost in zip(noise["proposal"][i, 0], noise["acceptance"][i, 0], strict=True):
            v = (1.0 + x / np.sqrt(9.0 * d)) ** 3
            if v > 0.0 and -cost < 0.5 * x * x + d - d * v + d * np.log(v):
                break
        factor = np.exp(-noise["boost"][i, 0] / concentration) if boosted else 1.0
        np.testing.assert_allclose(found[i, 0], d * v * factor, rtol=1e-12)


def test_none_accepted(backend: Backend) -> None:
    """Then it is d."""
    noise = {"proposal": np.full((1, PROPOSALS), -50.0), "acceptance": np.ones((1, PROPOSALS)), "boost": np.ones(1)}
    on = {k: backend.asarray(a, "float64") for k, a in noise.items()}
    found = log_standard_gamma(backend, backend.asarray([2.0], "float64"), on)
    np.testing.assert_allclose(backend.to_numpy(found), np.log([2.0 - 1.0 / 3.0]), rtol=1e-14)


@pytest.mark.parametrize("name", ["gamma", "chi-squared"])
def test_pathwise_of_one(name: str) -> None:
    """E[n zⁿ⁻¹ ∂z/∂λ] over the law is the moment's gradient."""
    backend, family = get("numpy"), FAMILIES[name].Config().family
    parameters = {k: a + 0.1 for k, a in FAMILIES[name].Config().parameters(2).items()}
    z, weights = laws.grid(name, parameters)
    for order in (1, 2, 3, 5):
        path = family.pathwise(backend, parameters, {}, z, order * z ** (order - 1))
        for block, gradient in family.power_moment(parameters, order)[1].items():
            np.testing.assert_allclose(weights @ path[block], gradient, rtol=1e-11, err_msg=f"{order} {block}")


@pytest.mark.parametrize("name", ["beta", "f", "dirichlet"])
def test_pathwise_of_two(name: str) -> None:
    """The same for what is made from two gamma numbers, integrated over both."""
    backend, family = get("numpy"), FAMILIES[name].Config().family
    dimension = 2 if name == "dirichlet" else 1
    parameters = {
        k: a + 0.1 * (i + 1) for i, (k, a) in enumerate(FAMILIES[name].Config().parameters(dimension).items())
    }
    numbers = np.concatenate(list(parameters.values()))
    shapes = np.exp(numbers) * (0.5 if name == "f" else 1.0)
    x, w = laws.half_line(300)
    inside = (x > 1e-250) & (x < 700.0)
    x, w = x[inside], w[inside]
    first, second = (stats.gamma(shape).pdf(x) * w for shape in shapes)
    both, weights = laws.pair(x, x), np.prod(laws.pair(first, second), axis=-1)
    kept = weights > 0.0
    both, weights = both[kept], weights[kept]
    log = np.log(both)
    log_gammas: Any = (log,) if name == "dirichlet" else (log[:, :1], log[:, 1:])
    a, b = both[:, :1], both[:, 1:]
    z = {"f": a / b * shapes[1] / shapes[0], "beta": a / (a + b), "dirichlet": both / (a + b)}[name]
    for order in (1, 2, 3):
        path = family.pathwise_of(backend, parameters, log_gammas, order * z ** (order - 1))  # type: ignore[attr-defined]
        for block, gradient in family.power_moment(parameters, order)[1].items():
            np.testing.assert_allclose(
                weights @ path[block], gradient, rtol=1e-10, atol=1e-12, err_msg=f"{order} {block}"
            )


@pytest.mark.parametrize("name", ["gamma", "chi-squared"])
@pytest.mark.parametrize("concentration", [0.6, 3.7])
def test_rejection_reparameterisation(backend: Backend, name: str, concentration: float) -> None:
    """Its mean over the accepted proposals, and over the boost where there is one, is the moment's gradient."""
    chi = name == "chi-squared"
    options = f"degrees={2 * concentration}" if chi else f"concentration={concentration},rate=1.7"
    cell = make_cell(f"polynomial[family={name},{options},degree=3]", "rejection-reparameterisation")
    boosted = concentration < 1.0
    d, c = constants(np, np.asarray(concentration + boosted))
    x = np.linspace(max(-11.0, -1.0 / c), 14.0, 600)[1:]
    _, limit = proposal(np, d, c, x)
    weights = stats.norm.pdf(x) * np.exp(-limit)
    weights /= weights.sum()
    boost = rule("exponential", 200, 11.0, 0.5)
    e, more = (boost.x, boost.w) if boosted else (np.ones(1), np.ones(1))
    both, weights = laws.pair(x, e), np.prod(laws.pair(weights, more), axis=-1)
    shape = (len(both), 1, PROPOSALS)
    noise = {
        "proposal": np.broadcast_to(both[:, :1, None], shape),
        "acceptance": np.full(shape, 1e9),  # all are accepted; how often is in the weights
        "boost": both[:, 1:],
    }
    found = estimate(backend, cell.estimator, cell.problem.expectation(), cell.problem.parameters(), noise)
    for block, gradient in cell.problem.exact().gradient.items():
        np.testing.assert_allclose(weights @ found[block], gradient, rtol=1e-10, err_msg=block)


def test_rejection_reparameterisation_varies_less() -> None:
    """Than the score function, by far, and more than the implicit path (Naesseth et al. 2017, figure 2)."""
    variances = []
    for estimator in ("score-function", "rejection-reparameterisation", "pathwise"):
        cell = make_cell("polynomial[family=gamma,concentration=2]", estimator)
        expectation = cell.problem.expectation()
        noise = draws(cell.estimator.noise_specs(expectation, 1, 1), 20_000)
        found = estimate(get("numpy"), cell.estimator, expectation, cell.problem.parameters(), noise)
        variances.append(found["log_concentration"].var())
    assert variances[0] > 3.0 * variances[1] > 3.0 * variances[2]


def test_only_where_there_is_one_rejection() -> None:
    for family in ("normal", "beta"):
        reason = infeasible(make_cell(f"polynomial[family={family}]", "rejection-reparameterisation"))
        assert reason is not None
        assert "needs the law of accepted proposals" in reason


def test_elliptical_path(numpy_backend: Backend) -> None:
    """Integrated over ε and g: E[n zⁿ⁻¹ ∂z/∂λ] is the moment's gradient."""
    family = FAMILIES["elliptical"].Config().family
    parameters = {"loc": np.asarray([0.4]), "cholesky": np.log([0.8]), "log_degrees": np.log([17.0])}
    normal, (g, v) = rule("normal", 160, 11.0, 0.5), laws.half_line(300)
    e, w = normal.x, normal.w
    v = v * stats.gamma(8.5).pdf(g)
    inside = v > 1e-60
    both, weights = laws.pair(e, g[inside]), np.prod(laws.pair(w, v[inside]), axis=-1)
    log_g = np.log(both[:, 1:])
    z = family.sample_at(numpy_backend, parameters, both[:, :1], log_g)  # type: ignore[attr-defined]
    for order in (1, 2, 3):
        slope = order * z ** (order - 1)
        path = family.pathwise_at(numpy_backend, parameters, both[:, :1], log_g, z, slope)  # type: ignore[attr-defined]
        for block, gradient in family.power_moment(parameters, order)[1].items():
            np.testing.assert_allclose(weights @ path[block], gradient, rtol=1e-10, atol=1e-12, err_msg=block)


def test_trigamma(backend: Backend) -> None:
    """To rounding; PyTorch's own is off by 4e-10."""
    x = np.concatenate([np.geomspace(1e-3, 1e4, 200), np.arange(1.0, 12.0)])
    found = trigamma(backend, backend.asarray(x, "float64"))
    np.testing.assert_allclose(backend.to_numpy(found), special.polygamma(1, x), rtol=1e-14)
    single = backend.to_numpy(trigamma(backend, backend.asarray(x, "float32")))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, special.polygamma(1, x), rtol=2e-6)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("gamma", {"log_concentration": np.log([1.4, 3.7]), "log_rate": np.log([1.3, 0.6])}),
        ("chi-squared", {"log_degrees": np.log([2.3, 7.1])}),
        ("inverse-gamma", {"log_concentration": np.log([4.4, 9.3]), "log_scale": np.log([1.3, 0.6])}),
    ],
)
def test_generalised_reparameterisation(backend: Backend, name: str, parameters: Blocks) -> None:
    """E[f′ ∂t/∂λ + f ∇ log π] is the gradient of E z² by quadrature over z; ε has mean 0 and variance 1 at every λ, so
    E ∂/∂λ log π, E ε ∂ log π and E ε² ∂ log π are 0."""
    family = FAMILIES[name].Config().family
    x, w = laws.half_line(300)
    z = np.stack([x, x], axis=-1)
    weights = w[:, None] * laws.ONE[name](parameters).pdf(z)
    at = {block: backend.asarray(a, "float64") for block, a in parameters.items()}
    found = called_once(backend, functools.partial(family.standardised, backend), at, backend.asarray(z, "float64"))
    moved, score = ({block: backend.to_numpy(a) for block, a in blocks.items()} for blocks in found)
    _, gradient = family.power_moment(parameters, 2)
    for block, exact in gradient.items():
        both = np.sum(weights * (2.0 * z * moved[block] + z * z * score[block]), axis=0)
        np.testing.assert_allclose(both, exact, rtol=1e-10, err_msg=block)
        concentration = np.exp(parameters.get("log_concentration", parameters.get("log_degrees")))
        alpha = 0.5 * concentration if name == "chi-squared" else concentration
        log_g = {
            "gamma": lambda: np.log(z) + parameters["log_rate"],
            "chi-squared": lambda: np.log(0.5 * z),
            "inverse-gamma": lambda: parameters["log_scale"] - np.log(z),
        }[name]()
        epsilon = (log_g - special.digamma(alpha)) / np.sqrt(special.polygamma(1, alpha))
        for power in range(3):
            np.testing.assert_allclose(np.sum(weights * epsilon**power * score[block], axis=0), 0.0, atol=1e-10)
