"""Expectations over one coordinate, for every family: against SciPy's densities, closed forms and differences."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from gradmeter.bench.cells import make_problem
from gradmeter.bench.problems.one_dimensional import exact_sum
from gradmeter.bench.problems.test_functions import Cosine
from gradmeter.estimators import FAMILIES, Normal, NotApplicable
from gradmeter.estimators.backends import get
from gradmeter.estimators.families.family import Family, MeanField
from tests.estimators import laws
from tests.estimators.test_one_coordinate import LAPLACE
from tests.families import FROZEN, KNOWN, PARAMETERS, having
from tests.support import Blocks, problem_is_refused

K = 0.7
WAVE = 0.6
#: φ, where it breaks.
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], tuple[float, ...]]] = {
    "cosine": (lambda z: np.cos(WAVE * z), ()),
    "exponential": (lambda z: np.exp(-0.4 * z * z), ()),
    "step": (lambda z: 1.0 * (z > K), (K,)),
    "absolute-value": (lambda z: np.abs(z - K), (K,)),
}
#: E |z| has no meaning.
REFUSED = {("cauchy", "absolute-value"), ("half-cauchy", "absolute-value")}
PAIRS = [(name, f) for name in having("marginals") for f in FUNCTIONS]
ONE = {**FROZEN, **laws.ONE}


@functools.cache
def at(name: str) -> tuple[Family, Blocks]:
    return FAMILIES[name].Config(**KNOWN[name].structure).family, PARAMETERS[name]


def found(name: str, function: str, parameters: Blocks | None = None) -> Any:
    family, here = at(name)
    phi, breaks = FUNCTIONS[function]
    wave = WAVE if function == "cosine" else 0.0
    return exact_sum(family, parameters or here, lambda z, log_density: phi(z) * np.exp(log_density), breaks, wave)


def integral(law: Any, phi: Callable[[float], float], breaks: tuple[float, ...]) -> float:
    """E φ by SciPy's adaptive rule, in pieces between quantiles and where φ breaks; of counts, by adding up."""
    if hasattr(law, "pmf"):
        k = np.arange(2000)
        return float(np.sum(phi(k) * law.pmf(k)))
    places = [float(law.ppf(u)) for u in (*(10.0**-n for n in range(13, 0, -1)), 0.5, 0.9)]
    places += [float(law.isf(10.0**-n)) for n in (2, 3, 4, 6, 9, 13)]
    places = sorted({*places, *(b for b in breaks if places[0] < b < places[-1])})
    options: Any = {"epsabs": 1e-13, "epsrel": 1e-12, "limit": 2000}
    return sum(quad(lambda z: phi(z) * law.pdf(z), a, b, **options)[0] for a, b in itertools.pairwise(places))


def integral_of_a_wave(law: Any, k: float) -> float:
    """E cos(kz) under heavy tails, by QUADPACK's rule for Fourier integrals beyond two quantiles."""
    low, a, b = law.support()[0], float(law.ppf(0.05)), float(law.ppf(0.95))
    options: Any = {"epsabs": 1e-13, "limit": 2000}
    middle = quad(lambda z: math.cos(k * z) * law.pdf(z), max(a, low), b, epsrel=1e-13, **options)[0]
    tail = {"weight": "cos", "wvar": k, "limlst": 500, **options}
    above = quad(law.pdf, b, np.inf, **tail)[0]
    if np.isfinite(low):
        return middle + above + float(quad(lambda z: math.cos(k * z) * law.pdf(z), low, a, epsrel=1e-13, **options)[0])
    return middle + above + float(quad(lambda y: law.pdf(-y), -a, np.inf, **tail)[0])


@pytest.mark.matrix
@pytest.mark.parametrize(("name", "function"), [p for p in PAIRS if p[0] in ONE])
def test_expectations_are_those_of_scipy(name: str, function: str) -> None:
    """What lies beyond the quantiles of 1e-13 is at most about 1e-11 of these integrands, but of heavy tails' |z|."""
    if (name, function) in REFUSED:
        assert found(name, function) is None
        return
    phi, breaks = FUNCTIONS[function]
    family, parameters = at(name)
    expected = 0.0
    for i in range(len(parameters[family.blocks[0]])):
        law = ONE[name]({block: values[i] for block, values in parameters.items()})
        if function == "step":
            expected += float(law.sf(K))
        else:
            slow = function == "cosine" and name in ("cauchy", "half-cauchy", "f")
            expected += integral_of_a_wave(law, WAVE) if slow else integral(law, phi, breaks)
    heavy = function == "absolute-value" and name in ("student-t", "pareto", "f", "log-normal")
    assert found(name, function).objective == pytest.approx(expected, rel=1e-7 if heavy else 1e-10)


@pytest.mark.matrix
@pytest.mark.parametrize(("name", "function"), PAIRS)
def test_gradients_are_those_of_the_expectations(name: str, function: str) -> None:
    """Along one random direction, by central differences, extrapolated twice."""
    exact = found(name, function)
    if exact is None:
        assert (name, function) in REFUSED
        return
    _, here = at(name)
    generator = np.random.default_rng(3)
    direction = {block: generator.standard_normal(values.shape) for block, values in here.items()}

    def slope(h: float) -> float:
        ends = [found(name, function, {b: v + s * h * direction[b] for b, v in here.items()}) for s in (1.0, -1.0)]
        return float(ends[0].objective - ends[1].objective) / (2.0 * h)

    steps = [slope(0.004 / 2**i) for i in range(3)]
    once = [(4.0 * b - a) / 3.0 for a, b in itertools.pairwise(steps)]
    expected = (16.0 * once[1] - once[0]) / 15.0
    along = sum(float(np.sum(exact.gradient[b] * direction[b])) for b in here)
    assert {b: g.shape for b, g in exact.gradient.items()} == {b: v.shape for b, v in here.items()}
    assert along == pytest.approx(expected, rel=1e-9, abs=2e-10 * max(1.0, abs(exact.objective)))


@pytest.mark.parametrize("name", having("marginals", "power_moment"))
def test_moments_to_rounding(name: str) -> None:
    """E z and E z², of which every family that has them knows the gradient in closed form."""
    family, parameters = at(name)
    for order in (1, 2):
        try:
            moment, gradient = family.power_moment(parameters, order)
        except NotApplicable:
            assert exact_sum(family, parameters, lambda z, ln, n=order: z**n * np.exp(ln)) is None  # type: ignore[misc]
            continue
        exact = exact_sum(family, parameters, lambda z, ln, n=order: z**n * np.exp(ln))  # type: ignore[misc]
        assert exact is not None
        assert exact.objective == pytest.approx(moment.sum(), rel=2e-13, abs=1e-13)
        for block, expected in gradient.items():
            size = max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(exact.gradient[block], expected, rtol=0.0, atol=2e-12 * size, err_msg=block)


@pytest.mark.parametrize("name", LAPLACE)
def test_generating_functions_to_rounding(name: str) -> None:
    """E exp(−kz) in closed form, differentiated by a complex step."""
    k, step = 0.47, 1e-30
    family, parameters = at(name)
    exact = exact_sum(family, parameters, lambda z, log_density: np.exp(log_density - k * z))
    assert exact is not None
    total = 0.0
    for i in range(3):
        p = {block: complex(v[i]) for block, v in parameters.items()}
        total += float(np.real(LAPLACE[name](k, p)))
        for block, v in p.items():
            slope = float(np.imag(LAPLACE[name](k, {**p, block: v + 1j * step})) / step)
            assert exact.gradient[block][i] == pytest.approx(slope, rel=1e-11, abs=1e-12)
    assert exact.objective == pytest.approx(total, rel=1e-13)


NORMAL_TEXTS = (
    "cosine[k=1.9,loc=0.45,scale=1.2]",
    "exponential[k=0.9,loc=0.7,scale=0.8]",
    "exponential[k=-0.3,loc=0.7,scale=0.8]",
    "exponential-moment[t=1.3,loc=0.7,scale=0.8]",
    "step[k=0.4,loc=-0.6,scale=0.83]",
    "step[k=9,loc=-0.6,scale=0.83]",
    "absolute-value[k=0.4,loc=-0.6,scale=0.83]",
)


@pytest.mark.parametrize("text", NORMAL_TEXTS)
def test_closed_forms_of_the_normal(text: str) -> None:
    """Value, gradient and optimal baselines; the last by weighing φ with squared scores."""
    problem: Any = make_problem(text)
    closed, parameters, q = problem.exact(), problem.parameters(), problem.q
    exact = exact_sum(problem.family, parameters, problem.weighted, problem.breaks())
    assert exact is not None
    assert closed.objective == pytest.approx(exact.objective, rel=1e-12)
    for block, expected in exact.gradient.items():
        np.testing.assert_allclose(closed.gradient[block], expected, rtol=1e-11, atol=1e-14)
    for block, score in (("loc", lambda x: x), ("log_scale", lambda x: x * x - 1.0)):
        square = lambda z, s=score: s((z - q.loc) / q.scale) ** 2  # noqa: E731
        above = exact_sum(
            problem.family, parameters, lambda z, ln, s=square: s(z) * problem.weighted(z, ln), problem.breaks()
        )
        below = exact_sum(problem.family, parameters, lambda z, ln, s=square: s(z) * np.exp(ln))
        assert above is not None and below is not None  # noqa: PT018
        assert closed.optimal_baseline[block][0] == pytest.approx(above.objective / below.objective, rel=1e-11)


def test_cauchy_has_a_characteristic_function() -> None:
    """cos(k loc) exp(−|k| σ), against a rule for oscillating integrals."""
    loc, scale, k = 0.4, 0.8, 1.3
    exact = make_problem(f"cosine[family=cauchy,loc={loc},scale={scale},k={-k}]").exact()
    law = stats.cauchy(0.0, scale)
    half, _ = quad(law.pdf, 0.0, np.inf, weight="cos", wvar=k, epsabs=1e-12)
    assert exact.objective == pytest.approx(2.0 * half * math.cos(k * loc), rel=1e-9)
    wave = np.exp(1j * k * loc - k * scale)
    assert exact.gradient["loc"][0] == pytest.approx((1j * k * wave).real, rel=1e-13)
    assert exact.gradient["log_scale"][0] == pytest.approx((-k * scale * wave).real, rel=1e-13)


@pytest.mark.parametrize(("alpha", "beta"), [(0.2, 0.2), (0.3, 5.0), (7.0, 0.2)])
def test_singular_at_both_ends(alpha: float, beta: float) -> None:
    """A beta density whose mass lies within 1e-16 of 1: P(z > k) and E z, of which SciPy knows both."""
    parameters = {"log_alpha": np.log([alpha]), "log_beta": np.log([beta])}
    family, law = FAMILIES["beta"].Config().family, stats.beta(alpha, beta)
    step = exact_sum(family, parameters, lambda z, ln: (z > K) * np.exp(ln), (K,))
    mean = exact_sum(family, parameters, lambda z, ln: z * np.exp(ln))
    assert step is not None and mean is not None  # noqa: PT018
    assert step.objective == pytest.approx(law.sf(K), rel=1e-12)
    assert mean.objective == pytest.approx(alpha / (alpha + beta), rel=1e-13)
    slope = alpha * beta / (alpha + beta) ** 2
    assert mean.gradient["log_alpha"][0] == pytest.approx(slope, rel=1e-11)
    assert mean.gradient["log_beta"][0] == pytest.approx(-slope, rel=1e-11)


def test_equal_coordinates_cost_one() -> None:
    problem: Any = make_problem("cosine[family=gamma,dim=200000]")
    one: Any = make_problem("cosine[family=gamma]").exact()
    exact = problem.exact()
    assert exact.objective == pytest.approx(200_000 * one.objective, rel=1e-12)
    np.testing.assert_array_equal(exact.gradient["log_rate"], np.repeat(one.gradient["log_rate"], 200_000))


@pytest.mark.parametrize("name", [n for n, cls in FAMILIES.items() if issubclass(cls, MeanField)])
def test_tails_are_where_expectations_end(name: str) -> None:
    """E exp(s |z|^p) on either side: far out, exp(s |z|^p) q falls where the outline says that it exists, else not."""
    family, parameters = at(name)
    support_and_tails = family.support_and_tails(parameters)
    for side, tail, end in (
        (-1.0, support_and_tails.below, support_and_tails.low),
        (1.0, support_and_tails.above, support_and_tails.high),
    ):
        rates = np.broadcast_to(tail.rate, (3,))
        for i in range(3):
            if np.isfinite(end[i]):
                assert tail.power == math.inf or support_and_tails.discrete
                continue
            if np.isinf(rates[i]) and 0.0 < tail.power < math.inf:
                assert name == "weibull"  # not its heaviest coordinate, of which the outline speaks
                continue
            z = support_and_tails.middle[i] + side * support_and_tails.width[i] * np.geomspace(1e6, 1e15, 4)
            here = {block: v[i : i + 1] for block, v in parameters.items()}
            with np.errstate(over="ignore"):
                log_density = family.log_densities(get("numpy"), here, z[:, None])[:, 0]
            for power, factor in itertools.product((1, 2), (0.9, 1.1)):
                growth = factor * (rates[i] if power == tail.power else 10.0)
                logs = log_density + growth * np.abs(z) ** power
                falls = bool(np.all((logs[1:] < logs[:-1]) | np.isneginf(logs[1:])))
                has_moment = growth < rates[i] if power == tail.power else power < tail.power
                assert falls == has_moment == np.broadcast_to(tail.has_moment(np.asarray(growth), power), (3,))[i]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "exponential-moment[family=pareto]",
            "no expectation under family pareto, whose tails are too heavy; t must be at most 0",
        ),
        ("exponential-moment[family=student-t,t=-1]", "t must be at least 0"),
        ("exponential-moment[family=cauchy]", "t must be at most 0"),
        ("exponential-moment[family=log-normal]", "t must be at most 0"),
        ("exponential-moment[family=elliptical]", "t must be at most 0"),
        ("exponential-moment[family=laplace,scale=2,t=0.5]", "t must be below 0.5"),
        ("exponential-moment[family=laplace,scale=2,t=-0.5]", "t must be above -0.5"),
        ("exponential-moment[family=gamma,rate=0.3]", "t must be below 0.3"),
        ("exponential-moment[family=gumbel,t=1]", "t must be below 1"),
        ("exponential-moment[t=40]", "problem exponential-moment overflows"),
        ("exponential[family=multivariate-normal,k=-0.6]", "k must be above -0.5"),
        ("exponential[family=laplace,k=-0.1]", "k must be at least 0"),
        ("exponential[family=rayleigh,k=-0.5]", "k must be above -0.5"),
        ("absolute-value[family=cauchy]", "cauchy has no moments"),
        ("absolute-value[family=pareto,shape=0.9]", "has E z^n for n below 0.9 only, not 1"),
        ("step[family=gamma,t=1]", "unknown option of problem step with family=gamma 't'"),
        ("step[k=up]", "option 'k' is 'up'; it must be a finite number"),
    ],
)
def test_no_expectation(text: str, message: str) -> None:
    problem_is_refused(text, message)


@pytest.mark.parametrize(
    "text",
    [
        "exponential-moment[family=pareto,t=-1]",
        "exponential-moment[family=gumbel,t=-3]",
        "exponential-moment[family=laplace,t=0.97]",
        "exponential-moment[family=weibull,shape=2.5,t=4]",
        "exponential[family=uniform,k=-3]",
        "exponential[family=rayleigh,k=-0.47]",
        "exponential[family=gompertz,k=-0.2]",
    ],
)
def test_expectation_near_the_limit(text: str) -> None:
    """Known to rounding: the gradient is that of the expectation."""
    problem: Any = make_problem(text)
    here, exact = problem.parameters(), problem.exact()
    for block, values in here.items():
        ends = [problem.exact_at({**here, block: values + h}).objective for h in (1e-4, -1e-4, 2e-4, -2e-4)]
        slope = (8.0 * (ends[0] - ends[1]) - (ends[2] - ends[3])) / 12e-4
        assert exact.gradient[block][0] == pytest.approx(slope, rel=1e-6, abs=1e-9)


def test_a_closed_form_under_a_normal_is_optional() -> None:
    class Numerical(Cosine):
        hermite_moment = None

    closed, numerical = (
        kind(k=1.3, q=Normal.Config(loc=0.4, scale=0.8), dim=3).exact() for kind in (Cosine, Numerical)
    )
    assert closed is not None
    assert numerical is not None
    assert numerical.source == "quadrature"
    for block, gradient in closed.gradient.items():
        np.testing.assert_allclose(numerical.gradient[block], gradient, rtol=1e-12)
