"""Weak derivatives of families whose noise is too much, or too rough, to integrate over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from gradmeter.bench.feasibility import infeasible
from gradmeter.estimators import FAMILIES
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families import gamma, gamma_ratios
from gradmeter.estimators.families.gamma_weak import shrinkage
from tests.estimators import laws
from tests.support import draws, make_cell


def test_poisson_inverse_cdf(backend: Backend) -> None:
    """The sample is the least k with F(k) > u, as SciPy has it; and 0 for u = 0."""
    rates = np.asarray([0.1, 1.7, 30.0])
    u = np.concatenate([np.zeros((1, 3)), np.random.default_rng(2).uniform(size=(5000, 3))])
    family = FAMILIES["poisson"].Config().family
    on = {"log_rate": backend.asarray(np.log(rates), "float64")}
    found = family.sample(backend, on, {"base": backend.asarray(u, "float64")})
    expected = np.maximum(stats.poisson(rates).ppf(u), 0.0)
    np.testing.assert_array_equal(backend.to_numpy(found), expected)


@pytest.mark.parametrize("coupling", [True, False])
@pytest.mark.parametrize("name", ["poisson", "erlang"])
def test_parts(backend: Backend, name: str, coupling: bool) -> None:
    """c (q⁺ − q⁻) is ∂q: the parts are drawn by the families' own samplers from the laws that make it so."""
    family, rate = FAMILIES[name].Config().family, 1.7
    parameters = {"log_rate": np.log([rate])}
    z, weights = laws.half_line()
    z, weights = (np.arange(60.0), np.ones(60)) if name == "poisson" else (z, weights)
    density = lambda log_rate: np.exp(laws.log_density(name, {"log_rate": np.asarray([log_rate])}, z[:, None]))  # noqa: E731
    slope = density(parameters["log_rate"][0]) * family.score(get("numpy"), parameters, z[:, None])["log_rate"][:, 0]
    noise = draws(family.weak_noise((), 1, coupling)["log_rate"], 20_000)
    on = {k: backend.asarray(a, "float64") for k, a in noise.items()}
    at = {k: backend.asarray(a, "float64") for k, a in parameters.items()}
    c, positive, negative = (
        backend.to_numpy(a) for a in family.weak_derivatives(backend, at, on, coupling)["log_rate"]
    )
    if name == "poisson":
        law, more = stats.poisson(rate), stats.poisson(rate, loc=1)
        difference = c[0] * (more.pmf(z) - law.pmf(z))
        for part, expected in ((positive, more), (negative, law)):
            counts = np.bincount(part[:, 0].astype(int), minlength=60)[:12]
            binomial = stats.binom(20_000, expected.pmf(np.arange(12)))
            assert np.all(np.minimum(binomial.cdf(counts), binomial.sf(counts - 1)) > 1e-6)
    else:
        law, more = stats.gamma(2, scale=1 / rate), stats.gamma(3, scale=1 / rate)
        difference = c[0] * (law.pdf(z) - more.pdf(z))
        for part, expected in ((positive, law), (negative, more)):
            assert stats.kstest(part[:, 0], expected.cdf).pvalue > 1e-6
    np.testing.assert_allclose(difference, slope, atol=1e-13)
    if coupling:
        step = positive - negative
        assert np.all(step == 1.0) if name == "poisson" else np.all(step < 0.0)


@pytest.mark.parametrize("concentration", [1e-3, 0.02, 0.2, 0.7, 1.0, 2.3, 40.0, 1e3])
def test_shrinkage(backend: Backend, concentration: float) -> None:
    """E[c (1 − sⁿ)] E gⁿ is ∂E gⁿ/∂log α, so that E[c (1 − sⁿ)] = α Σ_k 1/(α + k)."""
    e, w = (a[laws.half_line(400)[0] < 100.0] for a in laws.half_line(400))
    on = {"shrink": backend.asarray(e, "float64")}
    weight, log_s = (backend.to_numpy(a) for a in shrinkage(backend, backend.asarray([concentration], "float64"), on))
    for order in range(1, 7):
        found = np.sum(w * np.exp(-e) * weight * -np.expm1(order * log_s))
        expected = np.sum(concentration / (concentration + np.arange(order)))
        np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=str(order))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shrinkage_has_its_limits(backend: Backend, dtype: str) -> None:
    """Compiled, for noise as small and as large as is drawn: with u → 0 the weight is 2α/u and s is 1, where any
    difference loses everything; with u → 1 it is 2/(1 − s), and s is (2 exp(−e))^(1/α)."""
    eps = np.finfo(dtype).eps
    compute = backend.compile(lambda e, a: shrinkage(backend, a, {"shrink": e}))
    for concentration in (1e-3, 0.2, 0.7, 2.3, 40.0):
        small = np.geomspace(0.25 * eps, 0.1 * np.sqrt(eps), 64).astype(dtype)
        large = np.linspace(20.0, 36.0, 64).astype(dtype)
        at = backend.asarray(np.concatenate([small, large]), dtype), backend.asarray(concentration, dtype)
        weight, found = (np.split(backend.to_numpy(a).astype(np.float64), 2) for a in compute(*at))
        small, large = small.astype(np.float64), large.astype(np.float64)
        if concentration > np.sqrt(eps):
            fallen = -np.expm1(np.log1p(-(np.expm1(-small) ** 2)) / concentration)
            np.testing.assert_allclose(weight[0], 2.0 * -np.expm1(-small) / fallen, rtol=np.sqrt(eps))
        np.testing.assert_allclose(found[0], -small * small / concentration, rtol=np.sqrt(eps))
        log_s = (np.log(2.0 - np.exp(-large)) - large) / concentration
        np.testing.assert_allclose(found[1], log_s, rtol=4.0 * eps)
        np.testing.assert_allclose(weight[1], 2.0 * -np.expm1(-large) / -np.expm1(log_s), rtol=20.0 * eps)


@pytest.mark.parametrize("concentration", [0.2, 1.0, 7.0])
def test_a_step_has_a_variance(numpy_backend: Backend, concentration: float) -> None:
    """Of f = [g > a], E[c² (f(g) − f(s g))²] given u tends to 4 α a q(a) as u falls: it can be integrated."""
    law, a = stats.gamma(concentration), 0.8
    u = np.asarray([1e-2, 1e-3, 1e-4])
    weight, log_s = shrinkage(numpy_backend, np.asarray(concentration), {"shrink": -np.log1p(-u)})
    second = weight**2 * (law.cdf(a / np.exp(log_s)) - law.cdf(a))
    np.testing.assert_allclose(second, 4.0 * concentration * a * law.pdf(a), rtol=1e-3)


def given_numbers(backend: Backend, concentration: Any, noise: Any, prefix: str = "") -> Any:
    """In place of the rejection: the logarithms of the gamma numbers themselves."""
    return np.log(noise[f"{prefix}number"])


@pytest.mark.parametrize("name", ["gamma", "chi-squared", "beta", "f"])
def test_gamma_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """E[c (f(z⁺) − f(z⁻))] is the moment's gradient, integrated over the gamma numbers and the noise of the parts."""
    for module in (gamma, gamma_ratios):
        monkeypatch.setattr(module, "log_standard_gamma", given_numbers)
    family = FAMILIES[name].Config().family
    parameters = {k: a + 0.1 * (i + 1) for i, (k, a) in enumerate(FAMILIES[name].Config().parameters(1).items())}
    shapes = {
        "gamma": lambda p: {"": p["log_concentration"]},
        "chi-squared": lambda p: {"": p["log_degrees"] - np.log(2.0)},
        "beta": lambda p: {"alpha_": p["log_alpha"], "beta_": p["log_beta"]},
        "f": lambda p: {f"{k}_": p[f"log_{k}"] - np.log(2.0) for k in ("numerator", "denominator")},
    }[name](parameters)
    x, w = laws.half_line(240 if name == "f" else 110)  # many degrees of freedom make a narrow density
    densities = [(x, w * stats.gamma(np.exp(a[0])).pdf(x)) for a in shapes.values()]
    axes = [(z[kept], p[kept]) for z, p in (*densities, (x, w * np.exp(-x))) for kept in [p > 1e-17]]
    grid = [a.reshape(-1, 1) for a in np.meshgrid(*(z for z, _ in axes), indexing="ij")]
    weights = np.prod(np.meshgrid(*(p for _, p in axes), indexing="ij"), axis=0).ravel()
    noise = {f"weak_{k}number": a for k, a in zip(shapes, grid[:-1], strict=True)}
    parts = {k for block in family.weak_noise((), 1, True).values() for k in block if k.endswith(("shrink", "more"))}
    noise |= dict.fromkeys(parts, grid[-1])
    coins = [k for block in family.weak_noise((), 1, True).values() for k in block if k.endswith("coin")]
    for order in (1, 2, 3):
        totals = dict.fromkeys(family.blocks, 0.0)
        for side in (-1.0, 1.0) if coins else (1.0,):
            on = noise | dict.fromkeys(coins, np.full_like(grid[0], side))
            for block, (c, above, below) in family.weak_derivatives(get("numpy"), parameters, on, True).items():
                share = weights @ (c * (above**order - below**order)) / (2.0 if coins else 1.0)
                totals[block] += float(share[0])
        for block, gradient in family.power_moment(parameters, order)[1].items():
            np.testing.assert_allclose(totals[block], gradient[0], rtol=1e-10, atol=1e-10, err_msg=f"{order} {block}")


@pytest.mark.parametrize("name", ["gamma", "chi-squared", "beta", "f"])
def test_concentrations_have_no_independent_parts(name: str) -> None:
    cell = make_cell(f"cosine[family={name}]", "measure-valued[coupling=false]")
    assert "coupling=true" in str(infeasible(cell))
    assert infeasible(make_cell(f"cosine[family={name}]", "measure-valued")) is None
