"""Every family: its density against SciPy, and each derivative against automatic differentiation or integration."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from gradmeter.estimators import FAMILIES, Family, NotApplicable
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.capabilities import CAPABILITIES, has, missing, require
from tests.estimators import laws
from tests.families import DIMENSION, FAMILY_PROBLEMS, FROZEN, KNOWN, PARAMETERS, having
from tests.support import (
    TWO_FAMILIES,
    Blocks,
    called_once,
    draws,
    integrated_problem,
    make_cell,
    needs,
)

COUNT = 11


def made(name: str) -> Family:
    return FAMILIES[name].Config(**KNOWN[name].structure).family


def _covariance(p: Blocks) -> np.ndarray:
    lower = np.zeros((DIMENSION, DIMENSION))
    lower[np.tril_indices(DIMENSION)] = p["cholesky"]
    np.fill_diagonal(lower, np.exp(np.diag(lower)))
    return lower @ lower.T


#: log q(z) by SciPy, from λ as the families' docstrings define it.
SCIPY: dict[str, Callable[[Blocks, np.ndarray], np.ndarray]] = {
    **{name: lambda p, z, law=law: law(p).logpdf(z).sum(axis=-1) for name, law in FROZEN.items()},
    "multivariate-normal": lambda p, z: stats.multivariate_normal(p["loc"], _covariance(p)).logpdf(z),
    "elliptical": lambda p, z: stats.multivariate_t(p["loc"], _covariance(p), np.exp(p["log_degrees"][0])).logpdf(z),
    "low-rank-normal": lambda p, z: stats.multivariate_normal(p["loc"], laws.low_rank(p)).logpdf(z),
    "mixture-of-normals": laws.mixture,
    **{name: functools.partial(laws.log_density, name) for name in laws.ONE},
    "relaxed-bernoulli": lambda p, z: laws.relaxed_bernoulli(p, z).sum(axis=-1),
    "concrete": laws.concrete,
    "categorical": lambda p, z: stats.multinomial(1, special.softmax(p["logits"].ravel())).logpmf(z),
    "stick-breaking-normal": laws.stick,
    "lkj-cholesky": laws.lkj,
    "dirichlet": lambda p, z: stats.dirichlet(np.exp(p["log_concentration"])).logpdf(z.T),
}


class Case:
    """A family at its λ on a backend, with noise and the samples it makes."""

    def __init__(self, name: str, backend: Backend) -> None:
        self.backend, self.family = backend, made(name)
        self.parameters = {k: backend.asarray(a, "float64") for k, a in PARAMETERS[name].items()}
        drawn = draws(self.family.noise((), DIMENSION), COUNT)
        self.noise = {k: backend.asarray(a, "float64") for k, a in drawn.items()}
        self.z = self.called(self.family.sample, self.parameters, self.noise)
        self.vector = backend.asarray(np.random.default_rng(5).standard_normal((COUNT, DIMENSION)), "float64")

    def called(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the family that takes a backend first."""
        return called_once(self.backend, functools.partial(method, self.backend), *arguments)

    def jacobian(self, function: Callable[[Any], Any]) -> dict[str, Any]:
        """∂function(λ)/∂λ by block, automatically."""
        if self.backend.name == "jax":
            import jax

            return jax.jit(jax.jacrev(function))(self.parameters)
        import torch

        return torch.func.jacrev(function)(self.parameters)

    def close(self, found: Any, expected: Any, relative: float = 1e-12) -> None:
        found, expected = self.backend.to_numpy(found), self.backend.to_numpy(expected)
        np.testing.assert_allclose(found, expected, rtol=0.0, atol=relative * max(1.0, np.abs(expected).max()))


@functools.cache
def case_of(name: str, backend: Backend) -> Case:
    return Case(name, backend)


def test_every_family_is_tested() -> None:
    assert set(KNOWN) == set(FAMILIES)
    for name, text in FAMILY_PROBLEMS.items():
        assert make_cell(text, "pathwise").problem.family.name == name


@pytest.mark.parametrize("cls", FAMILIES.values())
def test_capabilities_are_those_defined(cls: type[Family]) -> None:
    """Methods take the arguments of their protocol; a reason stands only where no method is defined."""
    family = cls.Config().family
    assert set(cls.unsupported) <= set(missing(family)) <= set(CAPABILITIES)
    assert has(family, "score")
    assert has(family, "pathwise") != family.discrete
    for name, why in missing(family).items():
        with pytest.raises(NotApplicable, match=f"^family {family.name} has not got .*: {re.escape(why)}$"):
            require(family, name)
    for name, capability in CAPABILITIES.items():
        methods = {n: m for n, m in vars(capability.methods).items() if n[0] != "_" and inspect.isfunction(m)}
        assert not methods or has(family, name) == all(hasattr(family, n) for n in methods), name
        for n, method in methods.items() if has(family, name) else ():
            arguments = list(inspect.signature(method).parameters)
            assert list(inspect.signature(getattr(cls, n)).parameters)[: len(arguments)] == arguments, n


@pytest.mark.matrix
@pytest.mark.parametrize("name", FAMILIES)
def test_shapes(name: str, backend: Backend) -> None:
    case = case_of(name, backend)
    shapes = case.family.shapes(DIMENSION)
    assert tuple(shapes) == case.family.blocks
    assert {k: tuple(a.shape) for k, a in case.parameters.items()} == shapes
    assert tuple(case.z.shape) == (COUNT, DIMENSION)
    assert case.family == made(name)
    assert hash(case.family) == hash(made(name))


@pytest.mark.matrix
@pytest.mark.parametrize("name", SCIPY)
def test_density(name: str, backend: Backend) -> None:
    case = case_of(name, backend)
    found = case.called(case.family.log_density, case.parameters, case.z)
    case.close(found, backend.asarray(SCIPY[name](PARAMETERS[name], backend.to_numpy(case.z)), "float64"))


@pytest.mark.matrix
@pytest.mark.parametrize("name", having("score"))
def test_score(name: str, differentiating: Backend) -> None:
    case = case_of(name, differentiating)
    found = case.called(case.family.score, case.parameters, case.z)
    expected = case.jacobian(lambda p: case.family.log_density(differentiating, p, case.z))
    for block, values in expected.items():
        case.close(found[block], values)


@pytest.mark.matrix
@pytest.mark.parametrize("name", [name for name in having("pathwise") if name not in laws.IMPLICIT])
def test_pathwise(name: str, differentiating: Backend) -> None:
    """cotangent · ∂t(ε, λ)/∂λ, summed over the coordinates of z."""
    case, xp = case_of(name, differentiating), differentiating.xp
    found = case.family.pathwise(differentiating, case.parameters, case.noise, case.z, case.vector)
    pulled = lambda p: xp.sum(case.vector * case.family.sample(differentiating, p, case.noise), axis=-1)  # noqa: E731
    for block, values in case.jacobian(pulled).items():
        case.close(found[block], values)


@pytest.mark.matrix
@pytest.mark.parametrize("name", [name for name in having("pathwise") if name not in laws.IMPLICIT])
def test_entropy_along_the_path(name: str, differentiating: Backend) -> None:
    """d/dλ of −log q_λ(t(ε, λ)), what a family knows of it and what any works out; a block left out is 0."""
    case = case_of(name, differentiating)
    family, given = case.family, (differentiating, case.parameters, case.noise, case.z)
    along = lambda p: -family.log_density(differentiating, p, family.sample(differentiating, p, case.noise))  # noqa: E731
    known, worked_out = family.entropy_pathwise(*given), {}
    if has(family, "score", "log_density_gradient"):
        worked_out = Family.entropy_pathwise(family, *given)
    for block, values in case.jacobian(along).items():
        zero = differentiating.xp.zeros_like(values)
        case.close(known.get(block, 0.0) + zero, values)
        if worked_out:
            case.close(worked_out[block], values)


@pytest.mark.matrix
@pytest.mark.parametrize("name", having("log_density_gradient"))
def test_derivatives_in_z(name: str, differentiating: Backend) -> None:
    case, xp = case_of(name, differentiating), differentiating.xp
    total = lambda z: xp.sum(case.family.log_density(differentiating, case.parameters, z))  # noqa: E731
    gradient = case.called(case.family.log_density_gradient, case.parameters, case.z)
    case.close(gradient, called_once(differentiating, differentiating.gradient(total), case.z))
    product = case.called(case.family.log_density_hessian_product, case.parameters, case.z, case.vector)
    # Added to zeros: PyTorch's tangent of what has none is no array.
    tangent = called_once(differentiating, differentiating.hvp(total), case.z, case.vector)
    case.close(product, xp.zeros_like(product) + tangent)


@pytest.mark.matrix
@pytest.mark.parametrize("name", having("log_density_replaced"))
def test_replaced(name: str, backend: Backend) -> None:
    case, xp = case_of(name, backend), backend.xp
    other = xp.flip(case.z, axis=0)
    found = case.called(case.family.log_density_replaced, case.parameters, case.z, other)
    for i in range(DIMENSION):
        z = xp.stack([(other if j == i else case.z)[:, j] for j in range(DIMENSION)], axis=-1)
        case.close(found[:, i], case.called(case.family.log_density, case.parameters, z))


def grid(name: str, dimension: int) -> tuple[Any, Blocks, np.ndarray, np.ndarray]:
    """A family near `Config()`, samples on a tensor grid of its noise or of z [N, D], and their weights."""
    from gradmeter.bench.measurement.rules import rule

    family, backend = FAMILIES[name].Config().family, get("numpy")
    parameters = {k: a + 0.1 for k, a in FAMILIES[name].Config().parameters(dimension).items()}
    if name in laws.GRIDS:
        return family, parameters, *laws.grid(name, parameters)
    (spec,) = family.noise((), dimension).values()
    nodes = rule(spec.kind, 160, 9.5, 0.5)
    x, w = nodes.x, nodes.w
    base = np.stack([a.ravel() for a in np.meshgrid(*[x] * dimension, indexing="ij")], axis=-1)
    weights = np.prod(np.stack([a.ravel() for a in np.meshgrid(*[w] * dimension, indexing="ij")]), axis=0)
    (noise,) = family.noise((), dimension)
    return family, parameters, family.sample(backend, parameters, {noise: base}), weights


#: The rest is in test_one_coordinate.
@pytest.mark.parametrize("name", ["normal", "multivariate-normal", "exponential", *laws.GRIDS])
def test_integrals(name: str) -> None:
    """E score = 0; the entropy's gradient is −E[log q score]; moments are E zⁿ, their gradients E[Σ zⁿ score]."""
    backend, dimension = get("numpy"), 2
    family, parameters, z, weights = grid(name, dimension)
    score, log_density = family.score(backend, parameters, z), family.log_density(backend, parameters, z)
    known = has(family, "entropy_gradient")
    entropy = family.entropy_gradient(backend, parameters) if known else {}
    for block, per_sample in score.items():
        s = per_sample.reshape(len(z), -1)
        if has(family, "score_identity"):
            np.testing.assert_allclose(weights @ s, 0.0, atol=1e-12)
        if known:
            np.testing.assert_allclose(entropy[block].ravel(), -(weights * log_density) @ s, atol=1e-11)
    for order in range(6 if has(family, "power_moment") else 0):
        moment, gradient = family.power_moment(parameters, order)
        np.testing.assert_allclose(moment, weights @ z**order, rtol=1e-11, atol=1e-11)
        for block in score:
            expected = (weights * np.sum(z**order, axis=-1)) @ score[block].reshape(len(z), -1)
            np.testing.assert_allclose(gradient[block].ravel(), expected, rtol=1e-10, atol=1e-10)


ONE_OR_TWO = [text.replace("dim=3", f"dim={d}") for text in TWO_FAMILIES for d in (1, 2)]


@pytest.mark.parametrize("problem", ONE_OR_TWO)
def test_gauss_rules_agree(numpy_backend: Backend, problem: str) -> None:
    for estimator in ("score-function", "pathwise"):
        exact = make_cell(problem, estimator).problem.exact()
        for block, (mean, _, size) in integrated_problem(numpy_backend, problem, estimator, nodes=24).items():
            np.testing.assert_allclose(mean, exact.gradient[block], rtol=0.0, atol=1e-11 * max(1.0, size.max()))


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_special_functions_share_their_names(name: str) -> None:
    needs(name)
    backend, x = get(name), np.asarray([0.3, 1.7, 6.1])
    for function in ("digamma", "gammaln", "erf"):
        found = getattr(backend.special, function)(backend.asarray(x, "float64"))
        np.testing.assert_allclose(backend.to_numpy(found), getattr(get("numpy").special, function)(x), rtol=1e-12)


@pytest.mark.parametrize("size", [2, 3])
def test_lkj(size: int) -> None:
    """Over independent partial correlations: E score = 0, moments with their gradients, and the entropy's gradient; and
    samples have the correlations' law, at a false-alarm rate of 1e-6."""
    backend, family, eta = get("numpy"), FAMILIES["lkj-cholesky"].Config(size=size).family, 3.3
    at, count = {"log_concentration": np.log([eta])}, size * (size - 1) // 2
    t = np.linspace(-2.3, 2.3, 55)
    s = 0.5 * np.pi * np.sinh(t)
    w, jacobian = np.tanh(s), 0.5 * np.pi * np.cosh(t) / np.cosh(s) ** 2 * (t[1] - t[0])
    b = [eta + 0.5 * (size - 1 - j) for i in range(2, size + 1) for j in range(1, i)]
    each = [stats.beta(k, k, loc=-1.0, scale=2.0).pdf(w) * jacobian for k in b]
    points = np.stack([a.ravel() for a in np.meshgrid(*[w] * count, indexing="ij")], axis=-1)
    weights = np.prod(np.stack([a.ravel() for a in np.meshgrid(*each, indexing="ij")]), axis=0)
    z = np.array(points)
    if size == 3:
        z[:, 2] *= np.sqrt(1.0 - z[:, 1] ** 2)
    score, log_density = family.score(backend, at, z)["log_concentration"], family.log_density(backend, at, z)
    np.testing.assert_allclose(weights @ score, 0.0, atol=1e-9)
    for order in (0, 1, 2, 4):
        moment, gradient = family.power_moment(at, order)
        np.testing.assert_allclose(moment, weights @ z**order, rtol=1e-9, atol=1e-9)
        expected = (weights * np.sum(z**order, axis=-1)) @ score
        np.testing.assert_allclose(gradient["log_concentration"], expected, rtol=1e-8, atol=1e-8)
    entropy = family.entropy_gradient(backend, at)["log_concentration"]
    np.testing.assert_allclose(entropy, -(weights * log_density) @ score, rtol=1e-8)
    drawn = family.sample(backend, at, draws(family.noise((), count), 20_000))
    law = stats.beta(*[eta + 0.5 * (size - 2)] * 2, loc=-1.0, scale=2.0)  # of each correlation: here L₂₁ and R₃₁ = L₃₁
    for column in range(min(count, 2)):
        assert stats.kstest(drawn[:, column], law.cdf).pvalue > 1e-6
