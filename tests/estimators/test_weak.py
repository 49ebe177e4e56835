"""Weak derivatives of families whose noise is too much, or too rough, to integrate over."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from estimators import FAMILIES
from tests.estimators import laws
from tests.support import draws


def test_poisson_inverse_cdf(backend: Any) -> None:
    """The sample is the least k with F(k) > u, as SciPy has it; and 0 for u = 0."""
    rates = np.asarray([0.1, 1.7, 30.0])
    u = np.concatenate([np.zeros((1, 3)), np.random.default_rng(2).uniform(size=(5000, 3))])
    family = FAMILIES["poisson"].At().family
    on = {"log_rate": backend.asarray(np.log(rates), "float64")}
    found = family.sample(backend, on, {"base": backend.asarray(u, "float64")})
    expected = np.maximum(stats.poisson(rates).ppf(u), 0.0)
    np.testing.assert_array_equal(backend.to_numpy(found), expected)


@pytest.mark.parametrize("coupling", [True, False])
@pytest.mark.parametrize("name", ["poisson", "erlang"])
def test_parts(backend: Any, name: str, coupling: bool) -> None:
    """c (q⁺ − q⁻) is ∂q: the parts are drawn by the families' own samplers from the laws that make it so."""
    family, rate = FAMILIES[name].At().family, 1.7
    parameters = {"log_rate": np.log([rate])}
    z, weights = laws.half_line()
    z, weights = (np.arange(60.0), np.ones(60)) if name == "poisson" else (z, weights)
    density = lambda log_rate: np.exp(laws.log_density(name, {"log_rate": np.asarray([log_rate])}, z[:, None]))  # noqa: E731
    slope = density(parameters["log_rate"][0]) * family.score(_numpy(), parameters, z[:, None])["log_rate"][:, 0]
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


def _numpy() -> Any:
    from estimators.backends import get

    return get("numpy")
