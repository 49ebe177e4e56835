"""Waves under heavy tails, and laws of single numbers of Concrete choices: against closed forms and other integrals."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special, stats
from scipy.integrate import quad
from scipy.stats import qmc

from gradmeter.bench.cells import make_problem
from gradmeter.bench.problems.one_dimensional import exact_sum
from gradmeter.estimators import FAMILIES
from gradmeter.estimators.backends import get
from gradmeter.estimators.families.concrete_marginal import ConcreteLogit
from tests.support import make_cell, measured

#: Of a sum of absolute values of order 1.
ROUNDING = 2e-14


def bessel(order: float, x: float) -> tuple[float, float, float]:
    """K_a(x) = ∫ exp(−x cosh t) cosh at dt over t > 0, and its derivatives in a and x, by the trapezoid rule, which
    converges to rounding here."""
    t = np.linspace(0.0, 12.0, 4001)
    w = np.full(t.shape, t[1])
    w[0] *= 0.5
    falls = w * np.exp(-x * np.cosh(t))
    value, by_order = falls @ np.cosh(order * t), falls @ (t * np.sinh(order * t))
    return value, by_order, -(falls @ (np.cosh(t) * np.cosh(order * t)))


@pytest.mark.parametrize("df", [0.3, 1.1, 2.5, 30.0])
@pytest.mark.parametrize("k", [0.05, 0.7, -2.5, 9.0])
def test_students_characteristic_function(df: float, k: float) -> None:
    """cos(k loc) K_a(x) x^a/(Γ(a) 2^(a − 1)) with a = ν/2 and x = √ν |k| σ (Hurst 1995)."""
    loc, scale, a = 0.3, 0.8, 0.5 * df
    exact = make_problem(f"cosine[family=student-t,loc={loc},scale={scale},df={df},k={k}]").exact()
    x = math.sqrt(df) * abs(k) * scale
    value, by_order, by_x = bessel(a, x)
    assert value == pytest.approx(float(special.kv(a, x)), rel=1e-12)
    factor = x**a / (math.gamma(a) * 2.0 ** (a - 1.0))
    size = factor * value
    by_x = factor * by_x + size * a / x
    by_a = factor * by_order + size * (math.log(0.5 * x) - float(special.digamma(a)))
    wave = math.cos(k * loc)
    assert exact is not None
    assert exact.source == "quadrature"
    assert exact.objective == pytest.approx(wave * size, rel=1e-13, abs=ROUNDING)
    assert exact.gradient["loc"][0] == pytest.approx(-k * math.sin(k * loc) * size, rel=1e-12, abs=ROUNDING)
    assert exact.gradient["log_scale"][0] == pytest.approx(wave * by_x * x, rel=1e-12, abs=ROUNDING)
    expected = wave * (by_x * 0.5 * x + by_a * a)
    assert exact.gradient["log_df"][0] == pytest.approx(expected, rel=1e-12, abs=ROUNDING)
    found = [float(exact.gradient[block][0]) for block in ("loc", "log_scale", "log_df")]
    right = [-k * math.sin(k * loc) * size, wave * by_x * x, expected]
    assert exact.error is not None
    assert math.dist(found, right) <= exact.error * math.hypot(*right) + ROUNDING  # the formula itself cancels


@pytest.mark.parametrize(
    ("loc", "scale", "k"), [(0.4, 0.8, 1.3), (3.0, 0.01, 5.0), (0.0, 1.0, 1e-5), (100.0, 1.0, 3.7)]
)
def test_cauchy_by_quadrature(loc: float, scale: float, k: float) -> None:
    """The rule that has no closed form to lean on."""
    parameters = {"loc": np.asarray([loc]), "log_scale": np.log([scale])}
    exact = exact_sum(FAMILIES["cauchy"].Config().family, parameters, lambda z, ln: np.cos(k * z) * np.exp(ln), (), k)
    wave = np.exp(1j * k * loc - k * scale)
    assert exact is not None
    assert exact.objective == pytest.approx(wave.real, abs=ROUNDING)
    assert exact.gradient["loc"][0] == pytest.approx((1j * k * wave).real, abs=ROUNDING / scale)
    assert exact.gradient["log_scale"][0] == pytest.approx((-k * scale * wave).real, abs=ROUNDING)


def test_cauchy_of_unequal_coordinates() -> None:
    exact = make_problem("cosine[family=cauchy,loc=0.4:-1:2,scale=0.8:1.4:0.3,k=1.3,dim=3]").exact()
    loc, scale = np.asarray([0.4, -1.0, 2.0]), np.asarray([0.8, 1.4, 0.3])
    wave = np.exp(1j * 1.3 * loc - 1.3 * scale)
    assert exact is not None
    np.testing.assert_allclose(exact.gradient["loc"], (1.3j * wave).real, rtol=1e-13)
    np.testing.assert_allclose(exact.gradient["log_scale"], (-1.3 * scale * wave).real, rtol=1e-13)


def along_a_ray(integrand: Callable[[Any], Any], start: float = 0.0) -> Any:
    """∫ of what is analytic and falls in the upper half plane, from `start` to infinity: along a ray at 45°, by the
    trapezoid rule in the logarithm of the distance."""
    u = np.linspace(-150.0, 8.0, 15801)
    step = np.exp(u + 0.25j * math.pi)
    return np.sum(integrand(start + step) * step, axis=-1) / 100.0


def pareto(p: dict[str, float], z: Any, k: float) -> list[Any]:
    """q exp(ikz), and what the derivatives of its integral are integrals of; z scales with the lower end."""
    s, a = p["log_scale"], p["log_shape"]
    q = a / s * (z / s) ** (-a - 1.0) * np.exp(1j * k * z)
    return [q, q * 1j * k * z, q * (1.0 - a * np.log(z / s))]


def log_normal(p: dict[str, float], z: Any, k: float) -> list[Any]:
    m, s = math.log(p["loc"]), p["log_scale"]
    x = (np.log(z) - m) / s
    q = np.exp(-0.5 * x * x + 1j * k * z) / (z * s * math.sqrt(2.0 * math.pi))
    return [q, q * x / s, q * (x * x - 1.0)]


def log_logistic(p: dict[str, float], z: Any, k: float) -> list[Any]:
    s, b = p["log_scale"], p["log_shape"]
    y = (z / s) ** b
    q = b * y / (z * (1.0 + y) ** 2) * np.exp(1j * k * z)
    return [q, q * b * (y - 1.0) / (1.0 + y), q * (1.0 + np.log(y) * (1.0 - y) / (1.0 + y))]


def ratio(p: dict[str, float], z: Any, k: float) -> list[Any]:
    m, n = p["log_numerator"], p["log_denominator"]
    o = m * z / n
    constant = (m / n) ** (0.5 * m) / special.beta(0.5 * m, 0.5 * n)
    q = constant * z ** (0.5 * m - 1.0) * (1.0 + o) ** (-0.5 * (m + n)) * np.exp(1j * k * z)
    both = special.digamma(0.5 * (m + n))
    by_m = 0.5 * m * (both - special.digamma(0.5 * m) + np.log(o) - np.log(1.0 + o)) + 0.5 * (
        m - (m + n) * o / (1.0 + o)
    )
    by_n = 0.5 * n * (both - special.digamma(0.5 * n) - np.log(1.0 + o)) - 0.5 * (m - (m + n) * o / (1.0 + o))
    return [q, q * by_m, q * by_n]


RAYS: list[tuple[str, Callable[..., Any], dict[str, float]]] = [
    ("family=pareto,scale=0.7,shape=0.5", pareto, {"log_scale": 0.7, "log_shape": 0.5}),
    ("family=pareto,scale=0.7,shape=3.2", pareto, {"log_scale": 0.7, "log_shape": 3.2}),
    ("family=log-normal,loc=0.4,scale=3", log_normal, {"loc": math.exp(0.4), "log_scale": 3.0}),
    ("family=log-normal,loc=-1,scale=0.6", log_normal, {"loc": math.exp(-1.0), "log_scale": 0.6}),
    ("family=log-logistic,scale=0.7,shape=0.4", log_logistic, {"log_scale": 0.7, "log_shape": 0.4}),
    ("family=log-logistic,scale=0.7,shape=2.2", log_logistic, {"log_scale": 0.7, "log_shape": 2.2}),
    ("family=f,numerator=3,denominator=1", ratio, {"log_numerator": 3.0, "log_denominator": 1.0}),
    ("family=f,numerator=0.9,denominator=7", ratio, {"log_numerator": 0.9, "log_denominator": 7.0}),
]


@pytest.mark.parametrize(("options", "density", "at"), RAYS)
@pytest.mark.parametrize("k", [0.05, 0.7, 9.0])
def test_on_half_lines_by_another_path(options: str, density: Any, at: dict[str, float], k: float) -> None:
    """In the complex plane, where the wave falls off: no oscillation is left, and nothing of the rule is shared."""
    exact = make_problem(f"cosine[{options},k={k}]").exact()
    start = at["log_scale"] if density is pareto else 0.0
    value, *slopes = (complex(along_a_ray(lambda z, i=i: density(at, z, k)[i], start)) for i in range(3))
    assert exact is not None
    assert exact.objective == pytest.approx(value.real, abs=ROUNDING)
    for block, slope in zip(at, slopes, strict=True):
        assert exact.gradient[block][0] == pytest.approx(slope.real, rel=1e-12, abs=20.0 * ROUNDING), block


def test_a_step_has_the_density_as_its_gradient() -> None:
    """∂loc P(z > k) = q(k)."""
    for family, law in (("cauchy", stats.cauchy(0.3, 0.8)), ("student-t,df=1.1", stats.t(1.1, 0.3, 0.8))):
        exact = make_problem(f"step[family={family},loc=0.3,scale=0.8,k=2]").exact()
        assert exact is not None
        assert exact.objective == pytest.approx(float(law.sf(2.0)), rel=1e-12)
        assert exact.gradient["loc"][0] == pytest.approx(float(law.pdf(2.0)), rel=1e-12)
        assert exact.gradient["log_scale"][0] == pytest.approx(1.7 * float(law.pdf(2.0)), rel=1e-12)


def test_a_bell_under_students_t() -> None:
    """E exp(−kz²) by SciPy's adaptive rule, and its slope in loc as E φ′."""
    law = stats.t(1.1, 0.3, 0.8)
    exact = make_problem("exponential[family=student-t,df=1.1,loc=0.3,scale=0.8,k=0.7]").exact()
    options: Any = {"epsabs": 1e-14, "epsrel": 1e-13, "limit": 500}
    value = quad(lambda z: math.exp(-0.7 * z * z) * law.pdf(z), -8.0, 8.0, **options)[0]
    slope = quad(lambda z: -1.4 * z * math.exp(-0.7 * z * z) * law.pdf(z), -8.0, 8.0, **options)[0]
    assert exact is not None
    assert exact.objective == pytest.approx(value, rel=1e-11)
    assert exact.gradient["loc"][0] == pytest.approx(slope, rel=1e-11)


# Concrete choices.


@functools.cache
def two_differences() -> tuple[np.ndarray, np.ndarray]:
    """a = g₁ − g₃ and b = g₂ − g₃ of standard Gumbel numbers [N, 2], and their weights: the density is
    2 e^(−a − b)/(1 + e^−a + e^−b)³."""
    x = np.linspace(-40.0, 40.0, 521)
    a, b = (side.ravel() for side in np.meshgrid(x, x, indexing="ij"))
    total = np.logaddexp(np.logaddexp(0.0, -a), -b)
    return np.stack([a, b], axis=-1), 2.0 * np.exp(-a - b - 3.0 * total) * (2.0 / 13.0) ** 2


@pytest.mark.parametrize("problem", ["cosine[k=2", "polynomial[degree=3", "exponential[k=1.5", "square[k=0.4"])
@pytest.mark.parametrize("options", ["tilt=1.2,temperature=1", "weights=1:5:2,temperature=2.3", "tilt=-4"])
def test_three_categories_by_a_rule_in_two_dimensions(problem: str, options: str) -> None:
    """Over Gumbel numbers, along the sample's own path: E φ, and E φ′ ∂z/∂λ."""
    made = make_problem(f"{problem},family=concrete,categories=3,{options},dim=3]")
    exact, p = made.exact(), made.parameters()
    differences, weights = two_differences()
    temperature = math.exp(float(p["log_temperature"][0]))
    along = (np.pad(differences, ((0, 0), (0, 1))) + p["logits"][0]) / temperature
    z = special.softmax(along, axis=1)
    expectation, backend = made.expectation(), get("numpy")
    value, slope = expectation.value(backend, p, z, {}), expectation.gradient(backend, p, z, {})
    pulled = z * (slope - np.sum(z * slope, axis=1, keepdims=True))
    assert weights.sum() == pytest.approx(1.0, abs=1e-13)
    assert exact is not None
    assert exact.objective == pytest.approx(weights @ value, rel=1e-12)
    np.testing.assert_allclose(exact.gradient["logits"][0], weights @ pulled / temperature, rtol=1e-11, atol=1e-14)
    expected = -(weights @ np.sum(pulled * along, axis=1))
    assert exact.gradient["log_temperature"][0] == pytest.approx(expected, rel=1e-11, abs=1e-14)


@pytest.mark.parametrize("temperature", [0.3, 3.0])
def test_three_categories_have_this_distribution(temperature: float) -> None:
    """P(z₁ ≤ t) = ∫₀¹ w₂ w₃/(w₂ p + w₃ (1 − p) + w₁ ρ m(p))² dp with ρ = (t/(1 − t))^−T; steps at every number."""
    t, w = 0.3, np.asarray([2.0, 1.0, 4.0])
    rho = (t / (1.0 - t)) ** -temperature

    def share(p: float) -> float:
        m = float(np.exp(-temperature * np.logaddexp(-np.log(p) / temperature, -np.log1p(-p) / temperature)))
        return float(w[1] * w[2] / (w[1] * p + w[2] * (1.0 - p) + w[0] * rho * m) ** 2)

    below = quad(share, 0.0, 1.0, points=[0.5], epsabs=1e-13, epsrel=1e-12, limit=500)[0]
    parameters = {
        **{name: np.log(value)[None] for name, value in zip(("own", "first", "second"), w, strict=True)},
        "log_temperature": np.log([temperature]),
    }
    s = np.linspace(math.log(t / (1.0 - t)) - 50.0 / temperature, math.log(t / (1.0 - t)), 8_001)
    density = np.exp(ConcreteLogit().log_densities(None, parameters, s[:, None])[:, 0])
    assert np.trapezoid(density, s) == pytest.approx(below, rel=1e-5)
    step = make_problem(
        f"step[k={t},family=concrete,categories=3,weights=2:1:4,temperature={temperature},dim=3]"
    ).exact()
    rest = [
        make_problem(f"step[k={t},family=concrete,categories=3,weights={o},temperature={temperature},dim=3]").exact()
        for o in ("1:4:2", "4:2:1")
    ]
    assert step is not None
    assert [other.objective for other in rest if other] == pytest.approx(
        [step.objective] * 2, rel=1e-12
    )  # a relabelling
    np.testing.assert_allclose(step.gradient["logits"].sum(), 0.0, atol=1e-13)


@pytest.mark.parametrize(
    "problem",
    [
        "step[k=0.4,family=concrete,categories=3,tilt=1.2,temperature=0.5,weights=5:1:1,dim=3]",
        "absolute-value[k=0.4,family=concrete,categories=3,tilt=-2,temperature=0.2,dim=3]",
        "cosine[k=3,family=concrete,categories=2,tilt=1.2,temperature=0.4,dim=2]",
    ],
)
def test_concrete_by_randomised_nets(problem: str) -> None:
    """E f over scrambled Sobol nets of the sampler's own noise; and gradients by differences of E f."""
    made: Any = make_problem(problem)
    exact, p, backend = made.exact(), made.parameters(), get("numpy")
    means = []
    for seed in range(6):
        u = np.clip(qmc.Sobol(made.dimension, seed=seed).random_base2(14), 1e-12, 1.0 - 1e-12)
        z = made.family.sample(backend, p, {"base": -np.log(u)})
        means.append(float(np.mean(made.expectation().value(backend, p, z, {}))))
    assert abs(np.mean(means) - exact.objective) < 6.0 * np.std(means) / math.sqrt(5.0) + 1e-12
    assert np.std(means) < 2e-3
    direction = {name: np.random.default_rng(2).standard_normal(a.shape) for name, a in p.items()}

    def at(h: float) -> float:
        return float(made.exact_at({name: a + h * direction[name] for name, a in p.items()}).objective)

    slope = (8.0 * (at(1e-3) - at(-1e-3)) - (at(2e-3) - at(-2e-3))) / 12e-3
    along = sum(float(np.sum(exact.gradient[name] * direction[name])) for name in p)
    assert along == pytest.approx(slope, rel=1e-8, abs=1e-11)


def test_two_categories_are_a_relaxed_bernoulli() -> None:
    """z and 1 − z, so the cosine of the second is that of the first with the logit's sign changed."""
    exact = make_problem("exponential[k=0.7,family=concrete,categories=2,tilt=1.2,temperature=0.4,dim=2]").exact()
    probability = [1.0 / (1.0 + math.exp(x)) for x in (1.2, -1.2)]
    one, other = (
        make_problem(f"exponential[k=0.7,family=relaxed-bernoulli,probability={p!r},temperature=0.4]").exact()
        for p in probability
    )
    assert exact is not None and one is not None and other is not None  # noqa: PT018
    assert exact.objective == pytest.approx(one.objective + other.objective, rel=1e-12)  # type: ignore[operator]
    moved = one.gradient["logits"][0] - other.gradient["logits"][0]
    np.testing.assert_allclose(exact.gradient["logits"], [[moved, -moved]], rtol=1e-11)


def test_no_reference_for_more_categories() -> None:
    row = measured(make_cell("cosine[family=concrete,categories=4,dim=4]", "pathwise", max_replicates=64))["all"]
    assert (row["verdict"], row["exact_source"]) == ("no-reference", "none")


def test_polynomials_of_tied_bernoullis_are_enumerated() -> None:
    exact = make_problem("polynomial[degree=3,family=tied-bernoulli,probability=0.3,dim=4]").exact()
    assert exact is not None
    assert exact.objective == pytest.approx(1.2, rel=1e-13)
    assert exact.gradient["logits"] == pytest.approx(4 * 0.21, rel=1e-13)


RIGHT = ("score-function[baseline=mean]", "pathwise")


@pytest.mark.parametrize(
    ("problem", "estimators"),
    [
        ("cosine[family=student-t,df=1.1,k=0.7]", ("score-function[baseline=mean]",)),
        ("cosine[family=concrete,categories=3,tilt=1,temperature=0.5,dim=3]", RIGHT),
        ("cosine[family=pareto,shape=2.5,scale=0.7]", ("pathwise",)),
        *(
            pytest.param(problem, RIGHT, marks=pytest.mark.slow)
            for problem in (
                "square[family=concrete,categories=3,weights=1:3:2,temperature=0.7:1.5,dim=6]",
                "absolute-value[family=concrete,categories=3,k=0.3,dim=3]",
                "cosine[family=concrete,categories=3,temperature=0.1,tilt=1,dim=3]",
                "cosine[family=log-logistic,shape=2]",
                "cosine[family=elliptical,degrees=2.5,loc=0.3:1,scale=1:2,dim=2]",
            )
        ),
    ],
)
def test_verdicts(problem: str, estimators: tuple[str, ...]) -> None:
    """Right estimators; one seed, fixed. Where a bound of 10 % takes more replicates, inconclusive."""
    for estimator in estimators:
        rows = measured(make_cell(problem, estimator, max_replicates=2**16, bias_bound=0.1, precision=0.3))
        assert rows["all"]["exact_source"] == "quadrature"
        assert {row["verdict"] for row in rows.values()} <= {"unbiased", "inconclusive"}, estimator
