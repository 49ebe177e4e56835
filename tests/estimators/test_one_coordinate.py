"""Every family of independent coordinates, one coordinate at a time, integrated over its noise.

The rule is this file's own: doubly exponential on either side of where the sample path or the density has a corner, so
ends of any kind and corners cost no accuracy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erf, exp1, gamma

from gradmeter.estimators import FAMILIES, NotApplicable
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.capabilities import has
from gradmeter.estimators.families.family import MeanField
from tests.families import FROZEN, PARAMETERS, having
from tests.support import Blocks, draws

NAMES = [name for name, cls in FAMILIES.items() if issubclass(cls, MeanField) and name in FROZEN]
COORDINATES = range(3)
NO_IDENTITY = sorted(set(NAMES) - set(having("score_identity")))
#: How far up moments exist at every λ of `PARAMETERS`.
HIGHEST = {"student-t": 4, "pareto": 4, "cauchy": 0, "half-cauchy": 0}


def point(name: str, i: int) -> Blocks:
    """λ of one coordinate."""
    return {block: values[i : i + 1] for block, values in PARAMETERS[name].items()}


def _tanh_sinh(nodes: int = 201) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes in (0, 1), their distances from 1, and weights, both distances to full precision."""
    t = np.linspace(-3.9, 3.9, nodes)
    s = np.pi * np.sinh(t)
    x, rest = 1.0 / (1.0 + np.exp(-s)), 1.0 / (1.0 + np.exp(s))
    return x, rest, x * rest * np.pi * np.cosh(t) * (t[1] - t[0])


def _rule(kind: str, corner: float) -> tuple[np.ndarray, np.ndarray]:
    """Noise and probability weights, in two pieces that meet at the corner."""
    if kind == "normal":
        x = np.linspace(-18.0, 18.0, 601)
        return x, np.exp(-0.5 * x * x) * (x[1] - x[0]) / math.sqrt(2.0 * math.pi)
    x, rest, w = _tanh_sinh()
    if kind == "uniform":
        return np.concatenate([corner * x, 1.0 - (1.0 - corner) * rest]), np.concatenate(
            [corner * w, (1.0 - corner) * w]
        )
    t = np.linspace(-4.6, 6.3, 501)
    tail = np.exp(t - np.exp(-t))
    e = np.concatenate([corner * x, corner + tail])
    weights = np.concatenate([corner * w, tail * (1.0 + np.exp(-t)) * (t[1] - t[0])])
    return e, weights * np.exp(-e)


def noise_rule(name: str, parameters: Blocks) -> tuple[Blocks, np.ndarray]:
    """Noise [N, 1] by name, and weights [N]."""
    if name == "student-t":  # in the angle, trapezoid over the whole period
        (e, w), turns = _rule("exponential", 1.0), 2048
        angle = (np.arange(turns) + 0.5) / turns
        base, angle = np.meshgrid(e, angle, indexing="ij")
        return {"base": base.reshape(-1, 1), "angle": angle.reshape(-1, 1)}, np.repeat(w / turns, turns)
    corner = 0.5
    if name == "laplace":
        corner = math.log(2.0)
    if name == "triangular":  # u = c
        corner = float(np.log1p(np.exp(parameters["logit_mode"]))[0])
    (kind,) = {spec.kind for spec in FAMILIES[name].Config().family.noise((), 1).values()}
    x, w = _rule(kind, corner)
    if name in ("cauchy", "half-cauchy"):  # beyond, z² overflows
        x, w = x[inside := x < 200.0], w[inside]
    if name == "triangular":  # nearer to the ends than 1e-13 their distance is lost in z, and so is 1e-13 of E score
        x, w = x[inside := (x > 1e-26) & (x < 59.0)], w[inside]
    return {"base": x[:, None]}, w


class Integrated:
    """One coordinate of a family at its λ, over its noise."""

    def __init__(self, name: str, i: int) -> None:
        self.family, self.parameters, self.backend = FAMILIES[name].Config().family, point(name, i), get("numpy")
        self.noise, self.weights = noise_rule(name, self.parameters)
        self.z = self.family.sample(self.backend, self.parameters, self.noise)
        self.score = self.family.score(self.backend, self.parameters, self.z)

    def mean(self, values: np.ndarray) -> float:
        return float(np.sum(self.weights * values[:, 0]))

    def pathwise(self, slope: np.ndarray) -> dict[str, float]:
        """E[f' ∂z/∂λ]."""
        found = self.family.pathwise(self.backend, self.parameters, self.noise, self.z, slope)
        return {block: self.mean(values) for block, values in found.items()}

    def by_score(self, values: np.ndarray) -> dict[str, float]:
        """E[f ∇ log q]."""
        return {block: self.mean(values * s) for block, s in self.score.items()}

    def check(self, values: np.ndarray, slope: np.ndarray, exact: float, gradient: dict[str, float]) -> None:
        """E f and both estimators' means; where the score identity fails, so does the score function."""
        size = self.mean(np.abs(values))
        assert self.mean(values) == pytest.approx(exact, rel=1e-10, abs=1e-10 * size)
        found, scored = self.pathwise(slope), self.by_score(values)
        for block, expected in gradient.items():
            assert found[block] == pytest.approx(expected, rel=1e-10, abs=1e-10 * size), block
            if has(self.family, "score_identity"):
                assert scored[block] == pytest.approx(expected, rel=1e-10, abs=1e-10 * size), block
        if not has(self.family, "score_identity"):
            assert max(abs(scored[block] - gradient[block]) for block in gradient) > 1e-2 * size


@pytest.fixture(
    scope="module", params=[(name, i) for name in NAMES for i in COORDINATES], ids=lambda p: f"{p[0]}-{p[1]}"
)
def at(request: pytest.FixtureRequest) -> tuple[str, Integrated]:
    name, i = request.param
    return name, Integrated(name, i)


def test_noise_is_a_probability(at: tuple[str, Integrated]) -> None:
    assert at[1].weights.sum() == pytest.approx(1.0, rel=1e-13)


def test_score_identity(at: tuple[str, Integrated]) -> None:
    """E[∇ log q] = 0, or the family says that it is not."""
    name, case = at
    means = [abs(v) for v in case.by_score(np.ones_like(case.z)).values()]
    assert max(means) > 0.5 if name in NO_IDENTITY else max(means) < 1e-10


@pytest.mark.parametrize("i", COORDINATES)
def test_triangular_score_has_no_variance(i: int) -> None:
    """E score² up to a distance from the ends grows with the distance's logarithm, without end."""
    case = Integrated("triangular", i)
    e, squares = case.noise["base"][:, 0], case.weights * case.score["loc"][:, 0] ** 2
    upto = [squares[(e > d) & (e < -math.log(d))].sum() for d in (1e-8, 1e-14, 1e-20)]
    assert upto[2] - upto[1] == pytest.approx(upto[1] - upto[0], rel=0.1)
    assert upto[1] - upto[0] > 0.3 * upto[0]


@pytest.mark.matrix
@pytest.mark.parametrize("order", range(6))
def test_moments(at: tuple[str, Integrated], order: int) -> None:
    name, case = at
    if order > HIGHEST.get(name, 5):
        with pytest.raises(NotApplicable, match=f"family {name} .*{order}"):
            case.family.power_moment(PARAMETERS[name], order)
        return
    moment, gradient = case.family.power_moment(case.parameters, order)
    slope = order * case.z ** (order - 1) if order else np.zeros_like(case.z)
    assert moment.shape == (1,)
    if order or name not in NO_IDENTITY:
        case.check(case.z**order, slope, float(moment[0]), {block: float(g[0]) for block, g in gradient.items()})


def _triangular(k: float, p: dict[str, Any]) -> Any:
    low, width = p["loc"], np.exp(p["log_scale"])
    mode, high = low + width / (1.0 + np.exp(-p["logit_mode"])), low + width
    terms = (high - mode) * np.exp(-k * low) - width * np.exp(-k * mode) + (mode - low) * np.exp(-k * high)
    return 2.0 * terms / ((mode - low) * width * (high - mode) * k * k)


def _rayleigh(k: float, p: dict[str, Any]) -> Any:
    s = k * np.exp(p["log_scale"])
    return 1.0 - s * np.exp(0.5 * s * s) * math.sqrt(0.5 * math.pi) * (1.0 - erf(s / math.sqrt(2.0)))


def _reciprocal(k: float, p: dict[str, Any]) -> Any:
    low, span = np.exp(p["log_low"]), np.exp(p["log_span"])
    return (exp1(k * low) - exp1(k * low * np.exp(span))) / span


def _symmetric(standard: Callable[[Any], Any]) -> Callable[[float, dict[str, Any]], Any]:
    return lambda k, p: np.exp(-k * p["loc"]) * standard(k * np.exp(p["log_scale"]))


#: E exp(−kz), analytic in λ, so that a complex step differentiates it to rounding.
LAPLACE: dict[str, Callable[[float, dict[str, Any]], Any]] = {
    "normal": _symmetric(lambda t: np.exp(0.5 * t * t)),
    "laplace": _symmetric(lambda t: 1.0 / (1.0 - t * t)),
    "logistic": _symmetric(lambda t: np.pi * t / np.sin(np.pi * t)),
    "uniform": _symmetric(lambda t: (1.0 - np.exp(-t)) / t),
    "gumbel": _symmetric(lambda t: gamma(1.0 + t)),
    "exponential": lambda k, p: np.exp(p["log_rate"]) / (np.exp(p["log_rate"]) + k),
    "triangular": _triangular,
    "rayleigh": _rayleigh,
    "reciprocal": _reciprocal,
}


@pytest.mark.parametrize("name", LAPLACE)
@pytest.mark.parametrize("i", COORDINATES)
def test_exponentials(name: str, i: int) -> None:
    """f = exp(−kz)."""
    k, step, case = 0.47, 1e-30, Integrated(name, i)
    values = np.exp(-k * case.z)
    p = {block: complex(v[0]) for block, v in case.parameters.items()}
    gradient = {block: float(np.imag(LAPLACE[name](k, {**p, block: v + 1j * step})) / step) for block, v in p.items()}
    case.check(values, -k * values, float(np.real(LAPLACE[name](k, p))), gradient)


@pytest.mark.parametrize("i", COORDINATES)
def test_cauchy_has_a_logarithm(i: int) -> None:
    """E log(1 + z²) = log(loc² + (1 + σ)²), since log(1 + z²) is 2 Re log(1 − iz)."""
    case = Integrated("cauchy", i)
    loc, scale = float(case.parameters["loc"][0]), float(np.exp(case.parameters["log_scale"])[0])
    size = loc * loc + (1.0 + scale) ** 2
    gradient = {"loc": 2.0 * loc / size, "log_scale": 2.0 * scale * (1.0 + scale) / size}
    case.check(np.log1p(case.z**2), 2.0 * case.z / (1.0 + case.z**2), math.log(size), gradient)


def test_entropy(at: tuple[str, Integrated]) -> None:
    """∇ of the entropy is the mean of d/dλ −log q(t(ε, λ)), and what the path gives without the family's shortcut."""
    case = at[1]
    if not has(case.family, "entropy_gradient"):
        return
    moved = case.family.entropy_pathwise(case.backend, case.parameters, case.noise, case.z)
    slope = case.family.log_density_gradient(case.backend, case.parameters, case.z)
    path, score = case.pathwise(-slope), case.by_score(np.ones_like(case.z))  # −score(z) is the rest of d/dλ −log q
    for block, exact in case.family.entropy_gradient(case.backend, case.parameters).items():
        expected = pytest.approx(float(exact[0]), rel=1e-10, abs=1e-10)
        assert case.mean(moved.get(block, 0.0) + np.zeros_like(case.z)) == expected
        assert path[block] - score[block] == expected


def test_samples_have_the_density(at: tuple[str, Integrated]) -> None:
    """E exp(−½z²), against SciPy's density; in pieces that meet where it has a corner."""
    name, case = at
    law = FROZEN[name](case.parameters)
    h = lambda z: np.exp(-0.5 * z * z)  # noqa: E731
    corner = [1.0 / (1.0 + np.exp(-case.parameters["logit_mode"][0]))] if name == "triangular" else []
    places = [law.ppf(u)[0] for u in sorted([1e-13, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 1e-13, *corner])]
    subintervals = itertools.pairwise(places)
    expected = sum(quad(lambda z: h(z) * law.pdf(z)[0], a, b, epsabs=1e-13, epsrel=1e-12)[0] for a, b in subintervals)
    assert case.mean(h(case.z)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("normal", "student-t", "log-normal")])
def test_inverse_cdf(name: str, backend: Backend) -> None:
    """The sample at given noise is SciPy's quantile of u; u = 1 − exp(−e), for the Gumbel exp(−e)."""
    family, law = FAMILIES[name].Config().family, FROZEN[name](PARAMETERS[name])
    (spec,) = family.noise((17,), 3).values()
    (noise,) = draws({"base": spec}, 1).values()
    parameters = {k: backend.asarray(a, "float64") for k, a in PARAMETERS[name].items()}
    found = backend.to_numpy(family.sample(backend, parameters, {"base": backend.asarray(noise, "float64")}))
    if spec.kind == "uniform":
        expected = law.ppf(noise)
    else:
        expected = law.ppf(np.exp(-noise)) if name == "gumbel" else law.isf(np.exp(-noise))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_mirrored(name: str, numpy_backend: Backend) -> None:
    """The mirror image of a sample at the quantile u is the one at 1 − u; Student's t, −T of T."""
    family, parameters = FAMILIES[name].Config().family, PARAMETERS[name]
    noise = draws(family.noise((50,), 3), 1)
    law = FROZEN[name](parameters)
    here, there = (
        law.cdf(family.sample(numpy_backend, parameters, n)) for n in (noise, family.mirrored(numpy_backend, noise))
    )
    np.testing.assert_allclose(here + there, 1.0, atol=1e-12)
