"""Samples nearer to an end of the support than floating-point numbers: logarithms beside z keep densities, scores and
paths right, and what is made of z alone has the right mean.

Integrals are over log z or logit z, by a rule of this file that reaches past the smallest number (trapezoid in t with
x = sinh(π/2 sinh t)).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from gradmeter.bench.cells import make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.estimators import FAMILIES, Family
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.capabilities import has
from gradmeter.estimators.families.gamma_path import log_gamma_slope
from gradmeter.estimators.families.logs import Logs, from_logit
from tests.families import DIMENSION, KNOWN, PARAMETERS
from tests.support import Blocks, called_once, draws, estimate, make_cell, needs

#: Chance that one statistical test here fails for code that is right; seeds are fixed.
FALSE_ALARM = 1e-6
SMALL = (1e-3, 0.01, 0.1, 0.3)

#: Families of one coordinate at small concentrations, or temperatures.
POINTS: dict[str, list[Blocks]] = {
    "gamma": [{"log_concentration": np.log([a]), "log_rate": np.log([1.7])} for a in SMALL],
    "chi-squared": [{"log_degrees": np.log([2.0 * a])} for a in SMALL],
    "beta": [
        {"log_alpha": np.log([a]), "log_beta": np.log([b])}
        for a, b in ((1e-3, 1e-3), (1e-3, 2.0), (2.0, 1e-3), (0.01, 0.3), (0.3, 0.1), (2.0, 0.25))
    ],
    "f": [
        {"log_numerator": np.log([m]), "log_denominator": np.log([n])}
        for m, n in ((2e-3, 20.0), (0.02, 9.0), (0.3, 9.0))
    ],
    "relaxed-bernoulli": [
        {"logits": np.asarray([logit]), "log_temperature": np.log([t])}
        for logit, t in ((0.0, 0.05), (1.3, 0.1), (-2.0, 0.5))
    ],
}
CASES = [(name, i) for name, points in POINTS.items() for i in range(len(points))]


def line(nodes: int = 4001) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for an integral over the real line."""
    t = np.linspace(-2.9, 2.9, nodes)
    inner = 0.5 * np.pi * np.sinh(t)
    return np.sinh(inner), np.cosh(inner) * 0.5 * np.pi * np.cosh(t) * (t[1] - t[0])


def rule(name: str) -> tuple[np.ndarray, Logs, np.ndarray]:
    """z [N, 1], its logarithms, and log dz of a rule over the support."""
    x, w = line()
    x = x[:, None]
    if name in ("beta", "relaxed-bernoulli"):
        z, logs = from_logit(np, x)
        return z, logs, np.log(w) + (logs.low + logs.high)[:, 0]
    kept = x[:, 0] < (600.0 if name == "f" else 7.5)
    x, w = x[kept], w[kept]
    return np.exp(x), Logs(x), np.log(w) + x[:, 0]


class Integrated:
    def __init__(self, name: str, i: int) -> None:
        self.name, self.backend, self.parameters = name, get("numpy"), POINTS[name][i]
        self.family = FAMILIES[name].Config().family
        self.z, self.logs, log_weight = rule(name)
        self.log_density = self.family.log_density(self.backend, self.parameters, self.z, self.logs)
        self.weights = np.exp(self.log_density + log_weight)
        self.score = self.family.score(self.backend, self.parameters, self.z, self.logs)
        if name in ("gamma", "chi-squared", "f"):  # where q is 0, z³ may overflow
            self.z = np.where(self.weights[:, None] > 0.0, self.z, 0.0)


@pytest.mark.parametrize(("name", "i"), CASES)
def test_score_in_expectation(name: str, i: int) -> None:
    """∫ q = 1, E s = 0, E zⁿ and E[zⁿ s] are the moments with their gradients, −E[log q s] is the entropy's."""
    case = Integrated(name, i)
    assert case.weights.sum() == pytest.approx(1.0, rel=1e-10)
    for block, s in case.score.items():
        assert case.weights @ s[:, 0] == pytest.approx(0.0, abs=1e-10), block
    for order in (1, 2, 3):
        power = case.z[:, 0] ** order
        moment, gradient = case.family.power_moment(case.parameters, order)
        assert case.weights @ power == pytest.approx(float(moment[0]), rel=1e-10)
        for block, expected in gradient.items():
            found = case.weights @ (power * case.score[block][:, 0])
            assert found == pytest.approx(float(expected[0]), rel=1e-10, abs=1e-13), (order, block)
    if has(case.family, "entropy_gradient"):
        exact = case.family.entropy_gradient(case.backend, case.parameters)
        for block, expected in exact.items():
            found = -case.weights @ (case.log_density * case.score[block][:, 0])
            assert found == pytest.approx(float(expected[0]), rel=1e-10, abs=1e-10), block


@pytest.mark.parametrize(("name", "i"), CASES)
def test_score_far_out(name: str, i: int) -> None:
    """The score is the derivative of the log-density where z is 0, or 1, to its last digit."""
    needs("torch")
    import torch

    backend, family = get("torch"), FAMILIES[name].Config().family
    at = {k: backend.asarray(a, "float64") for k, a in POINTS[name][i].items()}
    x = np.asarray([-3e4, -800.0, -50.0, -1.0, 2.0, 40.0, *([800.0, 3e4] if rule(name)[1].high is not None else [])])
    z, logs = from_logit(np, x[:, None]) if rule(name)[1].high is not None else (np.exp(x[:, None]), Logs(x[:, None]))
    z = backend.asarray(np.maximum(z, 1e-307), "float64")
    logs = Logs(*(a if a is None else backend.asarray(a, "float64") for a in logs))
    found = family.score(backend, at, z, logs)
    expected = torch.func.jacrev(lambda p: family.log_density(backend, p, z, logs))(at)
    for block, values in expected.items():
        np.testing.assert_allclose(
            backend.to_numpy(found[block]), backend.to_numpy(values), rtol=1e-11, atol=1e-11, err_msg=block
        )


def test_densities_far_out() -> None:
    """Against their formulas in log z and log(1 − z)."""
    x = np.asarray([-3e4, -800.0, -1.0, 800.0, 3e4])[:, None]
    z, logs = from_logit(np, x)
    a, b = np.exp(POINTS["beta"][3]["log_alpha"]), np.exp(POINTS["beta"][3]["log_beta"])
    low, high = -np.logaddexp(0.0, -x), -np.logaddexp(0.0, x)
    expected = (a - 1.0) * low + (b - 1.0) * high - special.betaln(a, b)
    found = FAMILIES["beta"].Config().family.log_density(get("numpy"), POINTS["beta"][3], z, logs)
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-13)
    p = POINTS["relaxed-bernoulli"][1]
    t, logit = np.exp(p["log_temperature"]), p["logits"]
    expected = stats.logistic.logpdf(t * x - logit) + np.log(t) - low - high
    found = FAMILIES["relaxed-bernoulli"].Config().family.log_density(get("numpy"), p, z, logs)
    np.testing.assert_allclose(found, expected[:, 0], rtol=1e-13)


def test_simplexes_of_two() -> None:
    """A Dirichlet number of two is a beta number beside the rest, a Concrete choice of two a relaxed Bernoulli; where z
    is 0 or 1 too."""
    backend, x = get("numpy"), np.asarray([-3e4, -800.0, -40.0, -1.0, 0.3, 50.0, 800.0, 3e4])[:, None]
    (one, of_one), (rest, of_rest) = from_logit(np, x), from_logit(np, -x)
    both, logs = np.concatenate([one, rest], axis=1), Logs(np.concatenate([of_one.low, of_rest.low], axis=1))
    dirichlet, beta = FAMILIES["dirichlet"].Config().family, FAMILIES["beta"].Config().family
    at = {"log_concentration": np.log([1e-3, 0.02])}
    pair = {"log_alpha": np.log([1e-3]), "log_beta": np.log([0.02])}
    found, expected = dirichlet.score(backend, at, both, logs), beta.score(backend, pair, one, of_one)
    scores = np.concatenate([expected["log_alpha"], expected["log_beta"]], axis=1)
    np.testing.assert_allclose(found["log_concentration"], scores, rtol=1e-12)
    densities = dirichlet.log_density(backend, at, both, logs), beta.log_density(backend, pair, one, of_one)
    np.testing.assert_allclose(*densities, rtol=1e-12)
    concrete, relaxed = FAMILIES["concrete"].Config().family, FAMILIES["relaxed-bernoulli"].Config().family
    at = {"logits": np.asarray([[0.9, -0.3]]), "log_temperature": np.log([0.05])}
    pair = {"logits": np.asarray([1.2]), "log_temperature": np.log([0.05])}
    found, expected = concrete.score(backend, at, both, logs), relaxed.score(backend, pair, one, of_one)
    slope = np.stack([expected["logits"], -expected["logits"]], axis=-1)
    np.testing.assert_allclose(found["logits"], slope, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found["log_temperature"], expected["log_temperature"], rtol=1e-11, atol=1e-11)
    densities = concrete.log_density(backend, at, both, logs), relaxed.log_density(backend, pair, one, of_one)
    np.testing.assert_allclose(*densities, rtol=1e-12)


@pytest.mark.parametrize("name", [name for name, cls in FAMILIES.items() if cls.logs is not Family.logs])
def test_logs_are_those_of_the_sample(name: str, backend: Backend) -> None:
    """Where z is not near an end."""
    family = FAMILIES[name].Config(**KNOWN[name].structure).family
    at, noise = (
        {k: backend.asarray(a, "float64") for k, a in arrays.items()}
        for arrays in (PARAMETERS[name], draws(family.noise((), DIMENSION), 50))
    )

    def made(at: Any, noise: Any) -> Any:
        (logs,) = family.logs(backend, at, noise)
        return family.sample(backend, at, noise), logs.low, logs.high

    z, low, high = called_once(backend, made, at, noise)
    for found, distance in ((low, z), (high, 1.0 - z)):
        if found is not None:
            np.testing.assert_allclose(
                np.exp(backend.to_numpy(found)), backend.to_numpy(distance), rtol=1e-12, atol=1e-15
            )


@pytest.mark.parametrize("concentration", SMALL)
def test_gamma_path_in_expectation(concentration: float) -> None:
    """E[n zⁿ ∂ log z/∂λ] is the moment's gradient, integrated over log g."""
    family, parameters = FAMILIES["gamma"].Config().family, POINTS["gamma"][SMALL.index(concentration)]
    y, w = line()
    y, w = y[y < 7.0], w[y < 7.0]
    weights = w * np.exp(concentration * y - np.exp(y) - special.gammaln(concentration))
    z = np.maximum(np.exp(y) / 1.7, 1e-307)[:, None]
    for order in (1, 2, 3):
        path = family.pathwise(get("numpy"), parameters, {}, z, order * z ** (order - 1))
        for block, expected in family.power_moment(parameters, order)[1].items():
            np.testing.assert_allclose(weights @ path[block], expected, rtol=1e-10, err_msg=block)


@pytest.mark.parametrize("i", range(len(POINTS["beta"])))
def test_beta_path_in_expectation(i: int) -> None:
    """The same over the logarithms of both gamma numbers: over that of the second, and over logit z."""
    family, parameters = FAMILIES["beta"].Config().family, POINTS["beta"][i]
    alpha, beta = (float(np.exp(a[0])) for a in parameters.values())
    logit = np.linspace(-60.0, 60.0, 401)
    y, w = line(801)
    y, w = y[y < 8.0], w[y < 8.0]
    b, x = (a.ravel()[:, None] for a in np.meshgrid(y, logit, indexing="ij"))
    a = b + x
    with np.errstate(over="ignore"):
        log_density = alpha * a - np.exp(a) + beta * b - np.exp(b) - special.gammaln(alpha) - special.gammaln(beta)
    weights = np.exp(log_density[:, 0]) * np.repeat(w, len(logit)) * (logit[1] - logit[0])
    kept = weights > 1e-40
    a, b, weights, z = a[kept], b[kept], weights[kept], from_logit(np, x[kept])[0]
    for order in (1, 2, 3):
        path = family.pathwise_of(get("numpy"), parameters, (a, b), order * z ** (order - 1))  # type: ignore[attr-defined]
        for block, expected in family.power_moment(parameters, order)[1].items():
            np.testing.assert_allclose(weights @ path[block], expected, rtol=1e-9, err_msg=f"{order} {block}")


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_relaxed_path_near_the_ends(temperature: float) -> None:
    """∂z/∂λ is z ∂ log z/∂λ, and −(1 − z) ∂ log(1 − z)/∂λ near 1, to all digits."""
    needs("torch")
    import torch

    backend, family = get("torch"), FAMILIES["relaxed-bernoulli"].Config().family
    u = np.asarray([1e-25, 1e-13, 0.01, 0.3, 0.6, 0.99, 1.0 - 1e-13])
    at = {"logits": np.full(7, 0.4), "log_temperature": np.full(7, np.log(temperature))}
    at = {k: backend.asarray(a, "float64") for k, a in at.items()}
    noise = {"base": backend.asarray(u[None, :], "float64")}
    z = family.sample(backend, at, noise)
    found = family.pathwise(backend, at, noise, z, backend.xp.ones_like(z))
    for end in ("low", "high"):
        slopes = torch.func.grad(lambda p, end=end: backend.xp.sum(getattr(family.logs(backend, p, noise)[0], end)))(at)
        away = np.exp(backend.to_numpy(getattr(family.logs(backend, at, noise)[0], end)))[0]
        near = (u < 0.5) == (end == "low")
        for block, slope in slopes.items():
            expected = (1.0 if end == "low" else -1.0) * away * backend.to_numpy(slope)
            np.testing.assert_allclose(backend.to_numpy(found[block])[0][near], expected[near], rtol=1e-12)


@pytest.mark.parametrize("alpha", SMALL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_law_of_beta(alpha: float, dtype: str) -> None:
    """Of logit z: P(z < x) is xᵅ/(α B(α, β)) where x is tiny, and likewise at 1."""
    family, beta, backend = FAMILIES["beta"].Config().family, 0.02, get("numpy")
    noise = {k: a.astype(dtype) for k, a in draws(family.noise((), 20), 1000).items()}
    at = {"log_alpha": np.log(np.full(20, alpha, dtype)), "log_beta": np.log(np.full(20, beta, dtype))}
    (logs,) = family.logs(backend, at, noise)
    assert logs.low.dtype == dtype

    def cdf(x: np.ndarray) -> np.ndarray:
        size = special.betaln(alpha, beta)
        left, right = np.exp(alpha * x - np.log(alpha) - size), -np.expm1(-beta * x - np.log(beta) - size)
        middle = special.betainc(alpha, beta, special.expit(np.clip(x, -30.0, 30.0)))
        return np.where(x < -30.0, left, np.where(x > 30.0, right, middle))

    logit = (logs.low - logs.high).astype(np.float64).ravel()
    assert stats.kstest(logit, cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("relaxed-bernoulli", {"temperature": 0.1}),
        ("beta", {"alpha": 2.0, "beta": 0.25}),
        ("beta", {"alpha": 0.05, "beta": 0.05}),
        ("gamma", {"concentration": 0.01}),
    ],
)
def test_scores_of_z_alone(name: str, options: dict[str, float], dtype: str) -> None:
    """For an estimator that hands on no logarithms they still have mean 0: of the samples that are rounded to an end,
    the mean is known. They were off by 39 standard errors."""
    q = FAMILIES[name].Config(**options)
    family, backend, count = q.family, get("numpy"), 2**17
    noise = {k: a.astype(dtype) for k, a in draws(family.noise((), 1), count).items()}
    at = {k: a.astype(dtype) for k, a in q.parameters(1).items()}
    z = family.sample(backend, at, noise)
    assert np.all((z > 0.0) & ((z < 1.0) | (name == "gamma")))
    for block, s in family.score(backend, at, z).items():
        values = s.astype(np.float64)
        assert np.all(np.isfinite(values))
        assert abs(values.mean()) < 4.9 * values.std() / np.sqrt(count), block  # two-sided, FALSE_ALARM


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_small_slopes_in_single_precision(dtype: str) -> None:
    log_g = np.asarray([-5e3, -80.0, -2.0, -0.3, 0.2, 1.4])
    at = np.full(6, 0.001)
    expected = log_gamma_slope(get("numpy"), at, log_g)
    found = log_gamma_slope(get("numpy"), at.astype(dtype), log_g.astype(dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=20.0 * np.finfo(dtype).eps)


@pytest.mark.parametrize(
    ("problem", "moments"),
    [
        ("gamma,concentration=0.001,rate=2", True),
        ("beta,alpha=0.001,beta=0.01", True),
        ("beta,alpha=3,beta=0.001", True),
        ("chi-squared,degrees=0.002", True),
        ("relaxed-bernoulli,temperature=0.05,probability=0.7", True),
        ("f,numerator=0.002,denominator=0.01", False),
    ],
)
def test_exact_references(problem: str, moments: bool) -> None:
    """By quadrature, those of z² are the moments' own; and E f is the mean over the law of log z for bounded f."""
    from gradmeter.bench.problems.one_dimensional import exact_sum

    q = make_problem(f"exponential[family={problem}]").q
    parameters = q.parameters(1)
    if moments:
        exact = exact_sum(q.family, parameters, lambda z, log_density: z * z * np.exp(log_density))
        assert exact is not None
        value, gradient = q.family.power_moment(parameters, 2)
        assert exact.objective == pytest.approx(float(value[0]), rel=1e-12)
        for block, expected in gradient.items():
            np.testing.assert_allclose(exact.gradient[block], expected, rtol=1e-11, atol=1e-13)
    else:
        bounded = make_problem(f"exponential[family={problem}]").exact()
        assert bounded is not None
        x, w = line()
        a, b = 0.001, 0.005
        log_odds = x + np.log(a / b)
        log_density = a * log_odds - (a + b) * np.logaddexp(0.0, log_odds) - special.betaln(a, b)
        with np.errstate(over="ignore"):
            expected = np.sum(w * np.exp(log_density) * np.exp(-np.exp(2.0 * x)))
        assert bounded.objective == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "problem",
    [
        "square[family=relaxed-bernoulli,temperature=0.1,k=0]",
        "beta-bernoulli[dim=1,alpha=0.3,beta=0.3]",
        "square[family=beta,alpha=2,beta=0.25,k=0]",
        "square[family=gamma,concentration=0.01]",
        "square[family=dirichlet,concentration=0.01,dim=3]",
    ],
)
@pytest.mark.parametrize("estimator", ["score-function", "pathwise", "vargrad"])
def test_estimates_have_the_right_mean(problem: str, estimator: str, dtype: str) -> None:
    """They were infinite, biased or refused; here to 4.9 standard errors in every coordinate."""
    cell = make_cell(problem, estimator, samples=4, dtype=dtype)
    assert infeasible(cell) is None
    count, expectation = 2**14, cell.problem.expectation()
    noise = draws(cell.estimator.noise_specs(expectation, 4, cell.problem.dimension), count)
    at = cell.problem.parameters()
    found = estimate(get("numpy"), cell.estimator, expectation, at, noise, dtype=dtype)
    for block, exact in cell.problem.exact().gradient.items():
        away = found[block].astype(np.float64) - exact
        assert np.all(np.isfinite(away))
        # Skewed: as many groups of 256, whose means are nearer to Normal.
        means = away.reshape(64, -1, away.shape[-1]).mean(axis=1)
        t = means.mean(axis=0) / (means.std(axis=0, ddof=1) / 8.0)
        assert np.all(np.abs(t) < stats.t(63).isf(0.5e-6)), block


@pytest.mark.parametrize(
    ("problem", "estimator", "dtype", "said"),
    [
        ("beta-bernoulli[alpha=0.3,beta=0.3]", "measure-valued", "float32", "nearer to an end"),
        ("beta-bernoulli[alpha=0.3,beta=0.3]", "measure-valued", "float64", None),
        ("beta-bernoulli[alpha=0.3,beta=0.3]", "pathwise", "float32", None),
        ("beta-bernoulli[alpha=0.3,beta=0.3,differentiate=autodiff]", "pathwise", "float32", "nearer to an end"),
        ("beta-bernoulli[alpha=0.01,beta=0.01]", "pathwise", "float64", "nearer to an end"),
        ("beta-bernoulli[alpha=0.01,beta=0.01]", "score-function", "float64", None),
        ("gamma-poisson[concentration=0.05]", "pathwise", "float64", None),
        ("gamma-poisson[concentration=0.05]", "pathwise", "float32", "nearer to an end"),
        ("cosine[family=f,numerator=0.01,denominator=0.01]", "pathwise", "float64", "overflow"),
        ("cosine[family=elliptical,degrees=0.02]", "pathwise", "float64", "overflow"),
        ("cosine[family=elliptical,degrees=0.2]", "pathwise", "float64", None),
        ("cosine[family=gamma,concentration=0.001,dim=1000]", "pathwise", "float32", None),
        ("cosine[family=beta,alpha=1e17]", "pathwise", "float64", "apart"),
        ("cosine[family=gamma,concentration=1e30,rate=1e31]", "pathwise", "float64", "apart"),
    ],
)
def test_what_is_refused(problem: str, estimator: str, dtype: str, said: str | None) -> None:
    backend = "torch" if "autodiff" in problem else "numpy"
    needs(backend)
    reason = infeasible(make_cell(problem, estimator, backend=backend, dtype=dtype))
    assert (reason is None) == (said is None), reason
    assert said is None or (said in str(reason) and "\n" not in str(reason))


COUNTS: dict[str, Blocks] = {
    "poisson[]": {"log_rate": np.log([1.7])},
    "negative-binomial[]": {"log_successes": np.log([1.7]), "logits": np.asarray([1.3])},
    "binomial[trials=100]": {"logits": np.asarray([-4.0])},
    "geometric[]": {"logits": np.asarray([-0.4])},
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_uniform_number_rounded_to_one_is_the_last_below_it(backend: Backend, name: str) -> None:
    """As where 1 − u is drawn with u: the end of the table would be a count that no draw of u itself reaches."""
    family, options = name[:-1].split("[")
    q = make_problem(f"polynomial[family={family}{',' * bool(options)}{options}]").family
    parameters = {block: backend.asarray(a, "float64") for block, a in COUNTS[name].items()}
    u = backend.asarray(np.asarray([[1.0], [1.0 - 2.0**-53]]), "float64")
    found = backend.to_numpy(called_once(backend, lambda u: q.sample(backend, parameters, {"base": u}), u))
    assert found[0, 0] == found[1, 0] < 80.0
