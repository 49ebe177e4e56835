"""Discrete estimators: exact moments over their noise, against formulas and sums over states written apart."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import special

from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.integrate import integrate
from gradmeter.bench.problems.test_functions import SquareIntegrand
from gradmeter.estimators import NAMED_ALONE, VARIANTS, Expectation, Noise, unordered_set
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.capabilities import require
from tests.support import (
    DISCRETE_PROBLEMS,
    Blocks,
    applies,
    called_once,
    draws,
    estimate,
    make_cell,
    make_estimator,
    make_problem,
    measured,
    setting_of,
    state_of,
    tensor,
)

T = 0.49
TOYS = (
    f"square[family=bernoulli,probability=0.3,k={T}]",
    f"square[family=bernoulli,probability=0.62,k={T},dim=2]",
    "three-bernoullis[probability=0.3]",
    "three-bernoullis[family=bernoulli,probability=0.62]",
    "categorical-square[categories=3,tilt=1.2]",
)
#: Of relaxed samples only the first two toys are integrated here: two numbers of noise a coordinate.
RELAXED = ("rebar", "relax", "relax[control=surrogate]")
#: `arms` jumps at ratios of its noise: `test_arms_is_unbiased`.
REFUSED = ("stratified", "sobol", "input-dep", "arms")
BIASED = ("gumbel-softmax", "straight-through", "straight-through-gumbel", "gumbel-rao", "gapped-straight-through")
UNBIASED = [
    (problem, estimator)
    for problem in TOYS
    for estimator in VARIANTS
    if applies(problem, estimator, make_estimator(estimator).smallest_num_samples())
    and not any(part in estimator for part in REFUSED)
    and not (estimator in RELAXED and problem not in TOYS[:2])
]


def assert_unbiased(backend: Backend, problem: str, estimator: str) -> None:
    found = integrate(setting_of(problem, estimator, backend.name))
    assert found is not None
    exact = make_cell(problem, estimator).problem.exact()
    assert exact is not None
    for name, gradient in exact.flat().gradient.items():
        size = max(float(np.abs(gradient).max()), math.sqrt(max(0.0, found[name].variance.max())))
        np.testing.assert_allclose(found[name].mean, gradient, rtol=0.0, atol=1e-12 * size)


@pytest.mark.matrix
@pytest.mark.parametrize(("problem", "estimator"), UNBIASED)
def test_unbiased(numpy_backend: Backend, problem: str, estimator: str) -> None:
    """Over all of its noise."""
    assert_unbiased(numpy_backend, problem, estimator)


#: On the other backends, which agree with NumPy noise by noise (test_matrix): each of these once.
ONCE = [(TOYS[0], e) for e in RELAXED] + [(p, e) for p, e in UNBIASED if p == TOYS[2]]


@pytest.mark.matrix
@pytest.mark.parametrize(("problem", "estimator"), ONCE)
def test_unbiased_elsewhere(differentiating: Backend, problem: str, estimator: str) -> None:
    assert_unbiased(differentiating, problem, estimator)


class Toy:
    """A toy of independent Bernoullis as sums: q [N] and f [N] of its states z [N, D], and the score's map to λ."""

    def __init__(self, problem: str) -> None:
        made = make_cell(problem, "arm").problem
        (logits,) = made.parameters().values()
        self.dimension = made.dimension
        self.p = np.broadcast_to(special.expit(logits), (self.dimension,))
        self.tied = len(logits) < self.dimension
        self.z = np.asarray(list(itertools.product([0.0, 1.0], repeat=self.dimension)))
        self.targets = np.broadcast_to(np.asarray(made.expectation().data["k"]), (self.dimension,))
        self.q = np.prod(np.where(self.z == 1.0, self.p, 1.0 - self.p), axis=1)
        self.f = self.value(self.z)

    def value(self, z: np.ndarray) -> np.ndarray:
        return ((z - self.targets) ** 2).sum(axis=1)

    def to_parameters(self, by_logit: np.ndarray) -> np.ndarray:
        return by_logit.sum(axis=-1, keepdims=True) if self.tied else by_logit

    @property
    def gradient(self) -> np.ndarray:
        return (self.q * self.f) @ self.to_parameters(self.z - self.p)

    def score_function(self, baseline: float) -> np.ndarray:
        s = self.to_parameters(self.z - self.p)
        return self.q @ ((self.f - baseline)[:, None] * s) ** 2 - self.gradient**2

    def leave_one_out(self) -> np.ndarray:
        """Of two samples, ½ (f − f′)(s − s′)."""
        s = self.to_parameters(self.z - self.p)
        product = 0.5 * (self.f[:, None] - self.f)[..., None] * (s[:, None] - s)
        return np.einsum("a,b,abp->p", self.q, self.q, product**2) - self.gradient**2

    def double(self, coefficient: float) -> np.ndarray:
        """Of two samples, ½ (v − v′)(s − s′) with v = f(z) − α ∇f(z′) · (z − p), and α ½ (∇f(z) + ∇f(z′)) p (1 − p)."""
        s = self.to_parameters(self.z - self.p)
        slope = 2.0 * (self.z - self.targets)
        v = self.f[:, None] - coefficient * (self.z - self.p) @ slope.T
        product = 0.5 * (v - v.T)[..., None] * (s[:, None] - s)
        put_back = self.to_parameters(slope * self.p * (1.0 - self.p))
        estimate = product + coefficient * 0.5 * (put_back[:, None] + put_back)
        mean, square = (np.einsum("a,b,abp->p", self.q, self.q, moment) for moment in (estimate, estimate**2))
        np.testing.assert_allclose(mean, self.gradient, rtol=1e-12)
        return square - mean**2

    def antithetic(self, arm: bool) -> np.ndarray:
        """Of one pair: over the three pieces of every number u on which neither sample jumps, with E w and E w² there
        of its weight w: u − ½, or for DisARM its mean."""
        moment = np.zeros_like(self.gradient)
        low, high = np.minimum(self.p, 1.0 - self.p), np.maximum(self.p, 1.0 - self.p)
        for piece in itertools.product(range(3), repeat=self.dimension):
            ends = [((0.0, low[i]), (low[i], high[i]), (high[i], 1.0))[k] for i, k in enumerate(piece)]
            a, b = np.asarray(ends).T - 0.5
            middle = 0.5 * (a + b)
            z = (middle + 0.5 > 1.0 - self.p).astype(float)[None]
            mirrored = (0.5 - middle > 1.0 - self.p).astype(float)[None]
            difference = float((self.value(z) - self.value(mirrored))[0])
            w = middle if arm else np.where(z[0] == mirrored[0], 0.0, middle)
            second = (b**3 - a**3) / (3.0 * np.where(b > a, b - a, 1.0)) if arm else w * w
            squares = self.to_parameters(w) ** 2 + self.to_parameters(second - w * w)
            moment += np.prod(b - a) * difference**2 * squares
        return moment - self.gradient**2


BERNOULLIS = TOYS[:4]


@pytest.mark.parametrize("problem", BERNOULLIS)
def test_variances(numpy_backend: Backend, problem: str) -> None:
    check_variances(numpy_backend, problem)


def test_variances_elsewhere(differentiating: Backend) -> None:
    check_variances(differentiating, TOYS[2])


def check_variances(backend: Backend, problem: str) -> None:
    toy = Toy(problem)
    expected = {
        "score-function": toy.score_function(0.0),
        "score-function[baseline=mean]": toy.score_function(float(toy.q @ toy.f)),
        "score-function[baseline=leave-one-out]": toy.leave_one_out(),
        "arm": toy.antithetic(arm=True),
        "disarm": toy.antithetic(arm=False),
    }
    for estimator, variance in expected.items():
        found = integrate(setting_of(problem, estimator, backend.name))
        assert found is not None
        np.testing.assert_allclose(found["logits"].variance, variance, rtol=1e-10, err_msg=estimator)


@pytest.mark.parametrize("probability", [0.03, 0.3, 0.5, 0.77])
def test_variances_in_closed_form(backend: Backend, probability: float) -> None:
    """One Bernoulli, Δ = f₁ − f₀, q = 1 − p, m and M the smaller and the larger of them; f less MuProp's model of it is
    (z − p)²."""
    p, q, f0, f1 = probability, 1.0 - probability, T**2, (1.0 - T) ** 2
    square, m, larger = (f1 - f0) ** 2, min(p, q), max(p, q)
    expected = {
        "score-function": p * q * (q * f1**2 + p * f0**2) - p**2 * q**2 * square,
        "score-function[baseline=leave-one-out]": p * q * square * (0.5 - p * q),
        "disarm": p * q * square * (0.5 * larger - p * q),
        "arm": square * (2.0 / 3.0 * (0.125 - (0.5 - m) ** 3) - p**2 * q**2),
        "muprop": p * q * (p**3 + q**3) ** 2,
        "measure-valued": 0.0,
        "enumeration": 0.0,
    }
    problem = f"square[family=bernoulli,probability={p},k={T}]"
    for estimator, variance in expected.items():
        found = integrate(setting_of(problem, estimator, backend.name))
        assert found is not None
        np.testing.assert_allclose(found["logits"].variance, variance, rtol=1e-10, atol=1e-20, err_msg=estimator)


@pytest.mark.parametrize("problem", BERNOULLIS)
def test_double_control_variates(backend: Backend, problem: str) -> None:
    """Its variance is the sum over states at the coefficient it has fitted, near the best there is, and below that of
    leave-one-out, which has none."""
    toy, name = Toy(problem), "double-control-variates"
    setting = setting_of(problem, name, backend.name)
    found, coefficient = integrate(setting), float(backend.to_numpy(setting.state["coefficient"]))
    assert found is not None
    np.testing.assert_allclose(found["logits"].variance, toy.double(coefficient), rtol=1e-10)
    at = np.asarray([toy.double(c).sum() for c in (-1.0, 0.0, 1.0)])
    best = 0.5 * (at[0] - at[2]) / (at[0] + at[2] - 2.0 * at[1])  # of a parabola
    assert at[1] == pytest.approx(toy.leave_one_out().sum(), rel=1e-10)
    assert toy.double(best).sum() <= found["logits"].variance.sum() < at[1]
    assert coefficient == pytest.approx(best, abs=0.25)


def test_double_control_variates_of_more_samples(numpy_backend: Backend) -> None:
    """The slope for one sample is the mean over all the others, whatever f: here of degree three."""
    problem = "polynomial[family=bernoulli,probability=0.3,degree=3]"
    exact = make_cell(problem, "arm").problem.exact()
    assert exact is not None
    for samples in (2, 3, 5):
        found = integrate(setting_of(problem, "double-control-variates", "numpy", samples))
        assert found is not None
        np.testing.assert_allclose(found["logits"].mean, exact.gradient["logits"], rtol=1e-12)


def test_disarm_is_never_worse_than_arm(numpy_backend: Backend) -> None:
    """By the law of total variance; at p = ½ in one dimension it has none at all."""
    for probability in (0.02, 0.25, 0.5, 0.6, 0.98):
        for more in (",k=0.49", ",k=-3", ",k=0.2,dim=2"):
            problem = f"square[family=bernoulli,probability={probability}{more}]"
            arm, disarm = (integrate(setting_of(problem, name, "numpy")) for name in ("arm", "disarm"))
            assert arm is not None
            assert disarm is not None
            assert np.all(disarm["logits"].variance <= arm["logits"].variance)
    found = integrate(setting_of(f"square[family=bernoulli,k={T}]", "disarm", "numpy"))
    assert found is not None
    assert abs(found["logits"].variance[0]) < 1e-20


def relaxed_state(estimator: str, dimension: int) -> Blocks:
    """A control variate nobody fitted, at T = 1, where a relaxed sample is rational in its noise."""
    state = {"temperature": np.ones(()), "scale": np.asarray(0.7), "offset": np.asarray(0.2)}
    return {**state, "slope": 0.3 - 0.1 * np.arange(dimension)} if estimator == "relax" else state


class OneTerm(SquareIntegrand):
    """Σ w (z − k)² with w 0 but for one coordinate."""

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return xp.sum(data["w"] * self.term(xp, data, z), axis=-1)

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return data["w"] * self.derivative(xp, data, z)


@pytest.mark.parametrize("problem", [TOYS[2], TOYS[3]])
@pytest.mark.parametrize("estimator", ["rebar", "relax"])
def test_any_control_variate_is_unbiased(backend: Backend, problem: str, estimator: str) -> None:
    """Three Bernoullis, six numbers of noise. f and c are sums over coordinates and the estimate is linear in both, so
    one term is integrated at a time: finely over its own two numbers, and the others matter by where z jumps alone."""
    cell, toy, nodes = make_cell(problem, estimator), Toy(problem), 16
    state, discontinuities, mean = relaxed_state(estimator, 3), 1.0 - toy.p, np.zeros(1 if toy.tied else 3)
    points, weights = tensor(["uniform"] * 2, nodes)
    for i, unit in enumerate(np.eye(3)):
        expectation = Expectation(cell.problem.family, OneTerm(), {"k": toy.targets, "w": unit})
        of_term = {
            name: a * unit if name == "slope" else a * (i == 0) if name == "offset" else a for name, a in state.items()
        }
        for sides in itertools.product([False, True], repeat=3):
            up = np.asarray(sides)
            start, width = np.where(up, discontinuities, 0.0), np.where(up, 1.0 - discontinuities, discontinuities)
            within = np.full((len(points), 3), 0.37)
            within[:, i] = points[:, 0]
            given = np.full((len(points), 3), 0.61)
            given[:, i] = points[:, 1]
            noise = {"base": (start + width * within)[:, None], "given": given[:, None]}
            at = (expectation, cell.problem.parameters(), noise, of_term)
            mean += np.prod(width) * weights @ estimate(backend, cell.estimator, *at)["logits"]
    np.testing.assert_allclose(mean, toy.gradient, rtol=0.0, atol=1e-12 * np.abs(toy.gradient).max())


# Samples that depend on each other


def patterns(p: float, samples: int) -> dict[tuple[bool, ...], float]:
    """The probability of every set of samples that are 1, of ARMS: by inclusion and exclusion from
    P(d_s > a for all s in B) = (1 − |B| a)₊^(S − 1), for the rarer value."""
    rare = min(p, 1.0 - p)
    a = 1.0 - rare ** (1.0 / (samples - 1.0))
    found = {}
    for chosen in itertools.product([False, True], repeat=samples):
        free = samples - sum(chosen)
        probability = sum(
            (-1.0) ** more * math.comb(free, more) * max(0.0, 1.0 - (sum(chosen) + more) * a) ** (samples - 1)
            for more in range(free + 1)
        )
        found[chosen if p <= 0.5 else tuple(not c for c in chosen)] = probability
    return found


def every_pattern(chances: np.ndarray, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the probability [N] of every pattern of zeros and ones of all coordinates, and noise [N, S, D] for it."""
    drawn = draws({"copula": Noise("exponential", (samples, len(chances)))}, 2**12)["copula"]
    u = (1.0 - drawn / drawn.sum(axis=1, keepdims=True)) ** (samples - 1)
    z = np.where(chances <= 0.5, u < chances, u >= 1.0 - chances)
    each = [
        [
            (probability, drawn[:, :, i][np.all(z[:, :, i] == chosen, axis=1)][0])
            for chosen, probability in patterns(float(chance), samples).items()
            if probability > 1e-12
        ]
        for i, chance in enumerate(chances)
    ]
    rows = list(itertools.product(*each))
    weights = np.asarray([math.prod(probability for probability, _ in row) for row in rows])
    assert weights.sum() == pytest.approx(1.0, rel=1e-12)
    return weights, np.stack([np.stack([noise for _, noise in row], axis=-1) for row in rows])


@pytest.mark.parametrize("samples", [2, 3, 4])
@pytest.mark.parametrize("problem", [TOYS[1], "polynomial[family=bernoulli,probability=0.2,degree=3,dim=2]"])
def test_arms_is_unbiased(backend: Backend, problem: str, samples: int) -> None:
    """Its noise jumps at ratios, so its samples are enumerated: one noise for each pattern of zeros and ones."""
    cell = make_cell(problem, "arms", samples)
    parameters = cell.problem.parameters()
    weights, copula = every_pattern(special.expit(parameters["logits"]), samples)
    at = cell.problem.expectation(), parameters, {"copula": copula}
    found = estimate(backend, cell.estimator, *at)["logits"]
    exact = cell.problem.exact()
    assert exact is not None
    np.testing.assert_allclose(weights @ found, exact.flat().gradient["logits"], rtol=0.0, atol=1e-12)


CHOICES = [
    ("categorical-square[categories=3,weights=1:0.3:0.5]", 2),
    ("categorical-square[categories=3,weights=1:0.3:0.5]", 3),
    ("categorical-square[categories=3,weights=2:0.3:2]", 4),
    ("categorical-square[categories=4,tilt=0]", 2),
    ("categorical-square[categories=3,tilt=1.2,choices=2]", 2),
]


@pytest.mark.parametrize(("problem", "samples"), CHOICES)
def test_carms_is_unbiased(numpy_backend: Backend, problem: str, samples: int) -> None:
    """Enumerated as ARMS is, a pattern for each category but the likeliest; with less variance than leave-one-out."""
    cell = make_cell(problem, "carms", samples)
    parameters = cell.problem.parameters()
    p = special.softmax(parameters["logits"], axis=-1)
    order = np.argsort(p, axis=-1, kind="stable")
    rising = np.take_along_axis(p, order, -1)
    sticks = rising / np.cumsum(rising[:, ::-1], axis=-1)[:, ::-1]
    weights, numbers = every_pattern(sticks[:, :-1].ravel(), samples)
    copula = np.ones((len(weights), samples, *p.shape))
    for choice, categories in enumerate(order):
        those = slice(choice * (p.shape[1] - 1), (choice + 1) * (p.shape[1] - 1))
        copula[:, :, choice, categories[:-1]] = numbers[:, :, those]
    at = cell.problem.expectation(), parameters, {"copula": copula.reshape(len(weights), samples, -1)}
    found = estimate(numpy_backend, cell.estimator, *at)["logits"]
    exact = cell.problem.exact()
    assert exact is not None
    mean = np.tensordot(weights, found, 1)
    np.testing.assert_allclose(mean, exact.gradient["logits"], rtol=0.0, atol=1e-13)
    assert np.tensordot(weights, (found - mean) ** 2, 1).sum() < 0.9 * leave_one_out_variance(problem, samples)


def leave_one_out_variance(problem: str, samples: int) -> float:
    """The trace, of the sample covariance of f and the score, summed over all states."""
    made, numpy = make_problem(problem), get("numpy")
    parameters, family = made.parameters(), require(made.family, "score", "states")
    z = family.states(made.dimension).listed(numpy, "float64")
    q = np.exp(family.log_density(numpy, parameters, z))
    f = made.expectation().value(numpy, parameters, z[None], {})[0]
    score = family.score(numpy, parameters, z)["logits"].reshape(len(z), -1)
    away = (f - q @ f)[:, None]
    g, both = q @ (away * score), q @ (away * score) ** 2
    product = (q @ away**2) * (q @ score**2)
    return float(np.sum(both / samples + (product - (samples - 2.0) * g**2) / (samples * (samples - 1.0))))


@pytest.mark.parametrize("samples", [2, 5])
def test_carms_of_two_categories_is_arms(numpy_backend: Backend, samples: int) -> None:
    """The rarer value has the copula's numbers; those of the other one are not read."""
    arms = make_cell("square[family=bernoulli,k=0.3]", "arms", samples)
    carms = make_cell("categorical-square[categories=2,k=0.3]", "carms", samples)
    noise = draws({"copula": Noise("exponential", (samples, 1))}, 200)["copula"]
    both, logit = np.concatenate([np.ones_like(noise), noise], axis=-1), -0.8
    at = carms.problem.expectation(), {"logits": np.asarray([[0.0, logit]])}, {"copula": both}
    found = estimate(numpy_backend, carms.estimator, *at)["logits"][:, 0]
    single = arms.problem.expectation(), {"logits": np.asarray([logit])}, {"copula": noise}
    expected = estimate(numpy_backend, arms.estimator, *single)["logits"]
    np.testing.assert_allclose(found, np.concatenate([-expected, expected], axis=-1), rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("logits", [(0.0, 800.0, 0.0), (-800.0, 0.0, -900.0)])
def test_carms_where_probabilities_vanish(numpy_backend: Backend, logits: tuple[float, ...]) -> None:
    """A category of probability 0 in floating point is never chosen, and its gradient is 0 rather than NaN."""
    cell = make_cell("categorical-square[categories=3]", "carms", 3)
    at = cell.problem.expectation(), {"logits": np.asarray([logits])}
    noise = draws({"copula": Noise("exponential", (3, 3))}, 50)
    assert not np.any(estimate(numpy_backend, cell.estimator, *at, noise)["logits"])


def test_arms_of_two_samples_is_disarm(backend: Backend) -> None:
    """With u and 1 − u from two exponential numbers."""
    problem = "three-bernoullis[family=bernoulli,probability=0.62]"
    cell, other = make_cell(problem, "arms", 2), make_cell(problem, "disarm", 2)
    noise = draws({"copula": Noise("exponential", (2, 3))}, 50)
    share = noise["copula"] / noise["copula"].sum(axis=1, keepdims=True)
    at = cell.problem.expectation(), cell.problem.parameters()
    arms = estimate(backend, cell.estimator, *at, noise)["logits"]
    disarm = estimate(backend, other.estimator, *at, {"base": share[:, :1]})["logits"]
    np.testing.assert_allclose(arms, disarm, rtol=0.0, atol=1e-13)


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_weights_of_unordered_sets(numpy_backend: Backend, samples: int) -> None:
    """Against sums over every order of drawing: P(C), and P of the rest of C once one or two are drawn."""
    q = np.asarray([0.1, 0.27, 0.05, 0.2, 0.38])
    p, left = q[:samples], q[samples:].sum()

    def probability(gone: tuple[int, ...]) -> float:
        total, rest = 0.0, [i for i in range(samples) if i not in gone]
        for order in itertools.permutations(rest):
            remaining, product = 1.0 - p[list(gone)].sum(), 1.0
            for i in order:
                product *= p[i] / remaining
                remaining -= p[i]
            total += product
        return total

    arrays = (numpy_backend.asarray(a, "float64") for a in (p[None], np.asarray([left])))
    whole, first, second = (numpy_backend.to_numpy(a)[0] for a in unordered_set._leaving_out(numpy_backend, *arrays))
    assert whole == pytest.approx(probability(()), rel=1e-12)
    for i in range(samples):
        assert first[i] == pytest.approx(probability((i,)), rel=1e-12)
        for j in range(samples):
            assert second[i, j] == pytest.approx(probability(tuple({i, j})), rel=1e-12)


@pytest.mark.parametrize("estimator", ["unordered-set", "unordered-set[baseline=none]"])
def test_unordered_sets_of_more_states(numpy_backend: Backend, estimator: str) -> None:
    """Three of eight states are unbiased; all four of four states are exact, to rounding; nine of eight are refused."""
    found = integrate(setting_of(TOYS[2], estimator, "numpy", 3))
    two = integrate(setting_of(TOYS[2], estimator, "numpy", 2))
    whole = integrate(setting_of(TOYS[1], estimator, "numpy", 4))
    exact = make_cell(TOYS[2], estimator).problem.exact()
    assert found is not None
    assert two is not None
    assert whole is not None
    assert exact is not None
    np.testing.assert_allclose(found["logits"].mean, exact.flat().gradient["logits"], rtol=1e-12)
    assert np.all(found["logits"].variance < two["logits"].variance)
    assert np.all(whole["logits"].variance < 1e-28)
    assert "samples must be" in (infeasible(make_cell(TOYS[2], estimator, 9)) or "")


@pytest.mark.parametrize("coefficients", [(0.0, 0.0, 0.0, 0.0), (0.7, -0.3, 0.4, 0.2)])
def test_rodeo_is_unbiased_for_any_coefficients(numpy_backend: Backend, coefficients: tuple[float, ...]) -> None:
    """And without control variates it is leave-one-out; those that it has fitted lower the variance."""
    for problem, samples in ((TOYS[1], 2), (TOYS[1], 3), (TOYS[2], 2)):
        fitted = setting_of(problem, "rodeo", "numpy", samples)
        found = integrate(replace(fitted, state={"coefficients": np.asarray(coefficients)}))
        plain = integrate(setting_of(problem, "score-function[baseline=leave-one-out]", "numpy", samples))
        best = integrate(fitted)
        exact = make_cell(problem, "rodeo").problem.exact()
        assert found is not None
        assert plain is not None
        assert best is not None
        assert exact is not None
        np.testing.assert_allclose(found["logits"].mean, exact.flat().gradient["logits"], rtol=0.0, atol=1e-13)
        assert best["logits"].variance.sum() < 0.8 * plain["logits"].variance.sum()
        if not any(coefficients):
            np.testing.assert_allclose(found["logits"].variance, plain["logits"].variance, rtol=1e-10)


# Those biased by nature


def soft_gradient(p: float, temperature: float) -> float:
    """d/dlogit of E f(σ(ζ/T)): trapezoid in the logistic number."""
    x = np.linspace(-40.0, 40.0, 8001)
    density = special.expit(x) * special.expit(-x) * (x[1] - x[0])
    soft = special.expit((x + special.logit(p)) / temperature)
    return float(density @ (2.0 * (soft - T) * soft * (1.0 - soft) / temperature))


def gapped_gradient(p: float, temperature: float, gap: float) -> float:
    """Σ_z q(z) f′(z) σ′(l′/T)/T with |l′| the larger of the gap and the logit toward z."""
    total = 0.0
    for z, q in ((0.0, 1.0 - p), (1.0, p)):
        at = max(gap, (2.0 * z - 1.0) * special.logit(p)) / temperature
        total += q * 2.0 * (z - T) * special.expit(at) * special.expit(-at) / temperature
    return total


def reinmax_gradient(p: float, temperature: float) -> float:
    """Σ_z q(z) f′(z) (2 m (1 − m) − ½ p (1 − p)), with m the mean of z and of the softened probability."""
    total = 0.0
    for z, q in ((0.0, 1.0 - p), (1.0, p)):
        m = 0.5 * (z + special.expit(special.logit(p) / temperature))
        total += q * 2.0 * (z - T) * (2.0 * m * (1.0 - m) - 0.5 * p * (1.0 - p))
    return total


@pytest.mark.parametrize("p", [0.3, 0.8])
def test_exact_bias(backend: Backend, p: float) -> None:
    """Straight-through: (2p − 1) p (1 − p). Gumbel-softmax: the gradient of the relaxed expectation less the exact."""
    problem = f"square[family=bernoulli,probability={p},k={T}]"
    right = (1.0 - 2.0 * T) * p * (1.0 - p)
    expected = {
        "straight-through": right + (2.0 * p - 1.0) * p * (1.0 - p),
        "gumbel-softmax[temperature=1]": soft_gradient(p, 1.0),
        "gumbel-softmax[temperature=0.5]": soft_gradient(p, 0.5),
        "gapped-straight-through": gapped_gradient(p, 1.0, 1.0),
        "gapped-straight-through[temperature=0.6,gap=0.2]": gapped_gradient(p, 0.6, 0.2),
        "reinmax": right,
        "reinmax[temperature=1.4]": reinmax_gradient(p, 1.4),
    }
    for estimator, gradient in expected.items():
        found = integrate(setting_of(problem, estimator, backend.name))
        assert found is not None
        np.testing.assert_allclose(found["logits"].mean, [gradient], rtol=1e-10, err_msg=estimator)


def test_straight_through_is_right_at_one_half(numpy_backend: Backend) -> None:
    found = integrate(setting_of(f"square[family=bernoulli,k={T}]", "straight-through", "numpy"))
    assert found is not None
    np.testing.assert_allclose(found["logits"].mean, [(1.0 - 2.0 * T) / 4.0], rtol=1e-12)


@pytest.mark.parametrize("problem", [TOYS[0], TOYS[2], TOYS[4]])
@pytest.mark.parametrize("estimator", BIASED)
def test_bias_is_caught(problem: str, estimator: str) -> None:
    rows = measured(make_cell(problem, estimator, max_replicates=2**15))
    assert rows["all"]["verdict"] == "biased"
    assert make_estimator(estimator).biased


def test_reinmax_is_exact_for_quadratic_f(numpy_backend: Backend) -> None:
    """On every toy; and of z³, (f′(0) + f′(1))/2 = 3/2 stands for f(1) − f(0) = 1."""
    for problem in TOYS:
        assert_unbiased(numpy_backend, problem, "reinmax")
    found = integrate(setting_of("polynomial[family=bernoulli,probability=0.3,degree=3]", "reinmax", "numpy"))
    assert found is not None
    np.testing.assert_allclose(found["logits"].mean, [1.5 * 0.21], rtol=1e-12)


def test_gapped_choices(backend: Backend) -> None:
    """Of one choice of three: the chosen logit is the largest one, and the others at most that less the gap."""
    problem = "categorical-square[categories=3,tilt=1.2]"
    made = make_cell(problem, "gapped-straight-through").problem
    logits, states = np.asarray([0.0, 0.6, 1.2]), np.eye(3)
    p, expected = special.softmax(logits), np.zeros(3)
    for k, one in enumerate(states):
        moved = np.where(one == 1.0, 1.2, np.minimum(logits, 0.2))
        soft, slope = special.softmax(moved), 2.0 * (k / 2.0 - 0.45) * np.asarray([0.0, 0.5, 1.0])
        expected += p[k] * soft * (slope - soft @ slope)
    assert made.dimension == 3
    found = integrate(setting_of(problem, "gapped-straight-through", backend.name))
    assert found is not None
    np.testing.assert_allclose(found["logits"].mean, expected, rtol=1e-12)


def test_gumbel_rao_averages_straight_through_gumbel(numpy_backend: Backend) -> None:
    """The mean is the same for every K. For K = 1 so is the variance; the part of it given z falls as 1/K."""
    problem = "polynomial[family=bernoulli,probability=0.3,degree=3]"
    names = ("straight-through-gumbel", *(f"gumbel-rao[conditional-draws={k}]" for k in (1, 2)))
    one, same, two = (integrate(setting_of(problem, name, "numpy")) for name in names)
    assert one is not None
    assert same is not None
    assert two is not None
    np.testing.assert_allclose(same["logits"].mean, one["logits"].mean, rtol=1e-12)
    np.testing.assert_allclose(same["logits"].variance, one["logits"].variance, rtol=1e-10)
    np.testing.assert_allclose(two["logits"].mean, one["logits"].mean, rtol=1e-12)
    # f′(0) = 0, so the conditional mean is 0 for z = 0, and E ĝ/p for z = 1
    between = one["logits"].mean ** 2 * (1.0 / 0.3 - 1.0)
    np.testing.assert_allclose(two["logits"].variance - between, (one["logits"].variance - between) / 2.0, rtol=1e-9)


@pytest.mark.parametrize("estimator", BIASED)
def test_a_linear_f_leaves_straight_through_unbiased(numpy_backend: Backend, estimator: str) -> None:
    """f = Σ z: then straight-through is exact, and softer samples are not."""
    found = integrate(setting_of("polynomial[family=bernoulli,probability=0.3,degree=1]", estimator, "numpy"))
    assert found is not None
    off = abs(found["logits"].mean[0] / 0.21 - 1.0)
    assert (off < 1e-12) == (estimator == "straight-through")  # and reinmax, which is exact for quadratic f


# Relaxations


@pytest.mark.parametrize("problem", DISCRETE_PROBLEMS)
def test_relaxed_samples_round_to_z(backend: Backend, problem: str) -> None:
    """H(ζ) is 0 or 1, one a choice; ζ drawn given z rounds to z; a cold soft sample is nearly hard."""
    made = make_cell(problem, "rebar").problem
    family, relaxation = made.family, made.family.relaxation()
    specs = {**relaxation.noise((), made.dimension), **relaxation.given_noise((), made.dimension)}
    noise = {k: backend.asarray(a, "float64") for k, a in draws(specs, 500).items()}
    parameters = {k: backend.asarray(a, "float64") for k, a in made.parameters().items()}
    perturbed = relaxation.perturbed(backend, parameters, noise)
    z = relaxation.hard(backend, perturbed)
    given, _ = relaxation.given(backend, parameters, noise, z)
    values = backend.to_numpy(z)
    assert set(np.unique(values)) == {0.0, 1.0}
    np.testing.assert_array_equal(values, backend.to_numpy(relaxation.hard(backend, given)))
    if family.name == "categorical":
        np.testing.assert_array_equal(values.reshape(500, -1, 3).sum(axis=-1), 1.0)
    else:  # the same uniform numbers make the same sample
        np.testing.assert_array_equal(values, backend.to_numpy(family.sample(backend, parameters, noise)))
    soft = backend.to_numpy(relaxation.soft(backend, perturbed, 1e-4))
    assert np.mean(np.abs(soft - values) < 1e-6) > 0.99


@pytest.mark.parametrize("problem", DISCRETE_PROBLEMS)
def test_paths_of_relaxed_samples(differentiating: Backend, problem: str) -> None:
    """Against automatic differentiation in λ, of ζ and of ζ given z."""
    backend, made = differentiating, make_cell(problem, "rebar").problem
    relaxation, xp = made.family.relaxation(), differentiating.xp
    specs = {**relaxation.noise((), made.dimension), **relaxation.given_noise((), made.dimension)}
    noise = {k: backend.asarray(a, "float64") for k, a in draws(specs, 40).items()}
    ((block, values),) = made.parameters().items()
    at = backend.asarray(values, "float64")
    z = relaxation.hard(backend, relaxation.perturbed(backend, {block: at}, noise))
    vector = backend.asarray(np.random.default_rng(3).standard_normal((40, made.dimension)), "float64")

    def soft(given: bool) -> Any:
        def total(logits: Any) -> Any:
            parameters = {block: logits}
            made = (
                relaxation.given(backend, parameters, noise, z)[0]
                if given
                else relaxation.perturbed(backend, parameters, noise)
            )
            return xp.sum(vector * relaxation.soft(backend, made, 0.7))

        return total

    for given in (False, True):
        if given:
            perturbed, factor = relaxation.given(backend, {block: at}, noise, z)
        else:
            perturbed, factor = relaxation.perturbed(backend, {block: at}, noise), 1.0
        along = relaxation.soft_pullback(backend, relaxation.soft(backend, perturbed, 0.7), 0.7, vector)
        found = xp.sum(relaxation.pathwise(backend, {block: at}, along * factor)[block], axis=0)
        expected = called_once(backend, backend.gradient(soft(given)), at)
        np.testing.assert_allclose(backend.to_numpy(found), backend.to_numpy(expected), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("estimator", RELAXED)
def test_unbiased_on_choices(estimator: str) -> None:
    """Gumbels are too many to integrate over: by sampling, at a fixed seed, with the verdict's false-alarm rate."""
    rows = measured(make_cell("categorical-square[categories=3,tilt=1.2,k=0.2]", estimator, bias_bound=0.02))
    assert rows["all"]["verdict"] == "unbiased"


# Compiled; that the same noise gives the same gradient on every backend is in test_matrix


@pytest.mark.parametrize(
    "estimator",
    ["relax", *(pytest.param(e, marks=pytest.mark.slow) for e in ("enumeration", "partial-summation", "disarm"))],
)
def test_compiled(differentiating: Backend, estimator: str) -> None:
    problem, cell = DISCRETE_PROBLEMS[1], make_cell(DISCRETE_PROBLEMS[1], estimator, 4)
    expectation = cell.problem.expectation()
    noise = draws(cell.estimator.noise_specs(expectation, 4, 3), 6)
    at = (expectation, cell.problem.parameters(), noise, state_of(problem, estimator, 4))
    compiled, eager = (estimate(differentiating, cell.estimator, *at, compiled=c)["logits"] for c in (True, False))
    np.testing.assert_allclose(compiled, eager, rtol=0.0, atol=1e-12)


def test_rows_carry_the_certificate() -> None:
    for estimator in ("disarm", "enumeration", "straight-through"):
        rows = measured(make_cell("three-bernoullis[probability=0.3]", estimator, max_replicates=2**14))
        assert rows["all"]["certificate"] == "integration"
        assert rows["all"]["verdict"] == ("biased" if estimator == "straight-through" else "unbiased")
        assert estimator == "straight-through" or rows["all"]["bias_bound"] < 1e-11


# What is refused


@pytest.mark.parametrize(
    ("problem", "estimator", "samples", "message"),
    [
        ("square", "arm", 2, "arm needs binary coordinates, each with a logit; family normal: its coordinates are"),
        (TOYS[0], "pathwise", 1, "pathwise needs a differentiable sample path; family bernoulli: it is discrete"),
        (TOYS[4], "disarm", 2, "disarm needs binary coordinates, each with a logit; family categorical"),
        ("square[family=geometric]", "rebar", 1, "rebar needs a relaxation; family geometric"),
        ("square[family=poisson]", "enumeration", 1, "enumeration needs finitely many states; family poisson"),
        (TOYS[0], "disarm", 3, "disarm draws pairs, so samples must be even, not 3"),
        (
            "square[family=bernoulli,dim=200]",
            "enumeration",
            1,
            "enumeration lists every state, at most 256 of them; here are 2^200",
        ),
        (TOYS[0], "partial-summation[states=2]", 1, "leaves nothing to sample of 2 states; use enumeration"),
        ("square[family=bernoulli,dim=257]", "relax", 1, "relax fits a coefficient a coordinate, of at most 256"),
    ],
)
def test_not_applicable(problem: str, estimator: str, samples: int, message: str) -> None:
    reason = infeasible(make_cell(problem, estimator, samples))
    assert reason is not None
    assert message in reason


def test_every_pair_of_a_discrete_family_has_an_answer() -> None:
    """An estimator that needs a path is n/a, with the reason; what is biased is never one of all."""
    for problem in DISCRETE_PROBLEMS:
        for estimator in (*VARIANTS, *NAMED_ALONE):
            reason = infeasible(make_cell(problem, estimator, 2))
            assert reason is None or any(why in reason for why in ("family", "ELBO", "varies", "leaves nothing")), (
                reason
            )
    assert not set(BIASED) & {make_estimator(v).name for v in VARIANTS}
