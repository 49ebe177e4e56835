"""Variances that hold for any family, against integrals over the noise: pathwise of a quadratic, leave-one-out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import integrate as quadrature
from scipy import stats

from gradmeter.bench.measurement.integrate import integrate
from gradmeter.estimators.backends.backend import Backend
from tests.support import make_cell, setting_of

LOC, SCALE, K = 0.4, 0.8, 1.37


@pytest.mark.parametrize("dimension", [1, 2])
@pytest.mark.parametrize(
    ("family", "law"),
    [("normal", stats.norm), ("laplace", stats.laplace), ("logistic", stats.logistic), ("gumbel", stats.gumbel_r)],
)
def test_pathwise_of_a_square(family: str, law: Any, dimension: int) -> None:
    """f = Σ (z − k)², z = μ + σε: E ĝ² is 4 E (δ + σε)² for μ and 4σ² E (δ + σε)² ε² for log σ, so that it rests on the
    moments of ε up to the fourth, its kurtosis; other coordinates add nothing."""
    problem = f"square[family={family},loc={LOC},scale={SCALE},k={K},dim={dimension}]"
    found = integrate(setting_of(problem, "pathwise", "numpy"))
    assert found is not None
    one, two, three, four = (law.moment(order) for order in (1, 2, 3, 4))
    d, s = LOC - K, SCALE
    means = 2.0 * (d + s * one), 2.0 * s * (d * one + s * two)
    seconds = (
        4.0 * (d**2 + 2.0 * d * s * one + s**2 * two),
        4.0 * s**2 * (d**2 * two + 2.0 * d * s * three + s**2 * four),
    )
    for name, mean, second in zip(("loc", "log_scale"), means, seconds, strict=True):
        np.testing.assert_allclose(found[name].mean, mean, rtol=1e-11)
        np.testing.assert_allclose(found[name].variance, second - mean**2, rtol=1e-10)


@pytest.mark.parametrize(
    ("options", "law"),
    [
        ("family=exponential,rate=1.7", stats.expon(scale=1 / 1.7)),
        ("family=logistic,loc=0.4,scale=0.8", stats.logistic(0.4, 0.8)),
        ("family=gumbel,loc=0.4,scale=0.8", stats.gumbel_r(0.4, 0.8)),
        ("family=rayleigh,scale=0.8", stats.rayleigh(scale=0.8)),
        ("family=weibull,scale=0.8,shape=1.7", stats.weibull_min(1.7, scale=0.8)),
        ("family=log-normal,loc=0.4,scale=0.3", stats.lognorm(0.3, scale=np.exp(0.4))),
    ],
)
def test_leave_one_out(numpy_backend: Backend, options: str, law: Any) -> None:
    """S = 2: it is the sample covariance of f and the score s, so its variance is half of E (f − E f)² s² and of
    Var f Var s."""
    problem = f"polynomial[{options},degree=2]"
    found = integrate(setting_of(problem, "score-function[baseline=leave-one-out]", "numpy"))
    assert found is not None
    cell = make_cell(problem, "score-function")
    family, parameters = cell.problem.family, cell.problem.parameters()
    expectation = cell.problem.expectation()

    def expected(function: Any) -> float:
        cuts = law.ppf([1e-300, 1e-12, 1e-3, 0.5]), law.isf([1e-3, 1e-12, 1e-60])
        subintervals = zip(np.concatenate(cuts)[:-1], np.concatenate(cuts)[1:], strict=True)
        return sum(
            quadrature.quad(lambda z: function(np.full((1, 1), z)) * law.pdf(z), a, b, epsabs=0, epsrel=1e-12)[0]
            for a, b in subintervals
        )

    def f(z: np.ndarray) -> float:
        return float(expectation.value(numpy_backend, parameters, z, {})[0])

    mean = expected(f)
    spread = expected(lambda z: (f(z) - mean) ** 2)
    for name in family.blocks:

        def s(z: np.ndarray, name: str = name) -> float:
            return float(family.score(numpy_backend, parameters, z)[name][0, 0])

        both = expected(lambda z, s=s: ((f(z) - mean) * s(z)) ** 2)
        information = expected(lambda z, s=s: s(z) ** 2)
        np.testing.assert_allclose(found[name].mean, expected(lambda z, s=s: (f(z) - mean) * s(z)), rtol=1e-9)
        np.testing.assert_allclose(found[name].variance, 0.5 * (both + spread * information), rtol=1e-9)
