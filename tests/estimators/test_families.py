"""Every family: its density against SciPy, and each derivative against automatic differentiation or integration."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from estimators import FAMILIES, Family, NotApplicable
from estimators.backends import get
from estimators.families.family import ABILITIES
from tests.estimators import laws
from tests.support import (
    FAMILY_PROBLEMS,
    TWO_FAMILIES,
    Blocks,
    draws,
    integrated_problem,
    make_cell,
    needs,
)

DIMENSION, COUNT = 3, 11


#: Structure, where the default is the simplest.
STRUCTURE: dict[str, dict[str, int]] = {
    "low-rank-normal": {"rank": 2},
    "mixture-of-normals": {"components": 3},
    "categorical": {"categories": 3},
    "concrete": {"categories": 3},
}


def made(name: str) -> Family:
    return FAMILIES[name].At(**STRUCTURE.get(name, {})).family


def _anywhere(dimension: int, name: str = "multivariate-normal") -> Blocks:
    generator = np.random.default_rng(4)
    shapes = made(name).shapes(dimension)
    return {block: 0.5 * generator.standard_normal(shape) for block, shape in shapes.items()}


def _loc_scale() -> Blocks:
    return {"loc": np.asarray([0.31, -1.7, 0.92]), "log_scale": np.log([0.83, 1.4, 0.27])}


#: λ nobody tuned for, every coordinate another.
PARAMETERS: dict[str, Callable[[], Blocks]] = {
    "normal": lambda: _loc_scale(),
    "multivariate-normal": lambda: _anywhere(DIMENSION),
    "exponential": lambda: {"log_rate": np.log([0.6, 1.3, 4.2])},
    **dict.fromkeys(("laplace", "logistic", "uniform", "cauchy", "gumbel", "log-normal"), lambda: _loc_scale()),
    "student-t": lambda: {**_loc_scale(), "log_df": np.log([4.3, 12.0, 6.5])},
    "triangular": lambda: {**_loc_scale(), "logit_mode": np.asarray([0.4, -1.1, 0.0])},
    "rayleigh": lambda: {"log_scale": np.log([0.83, 1.4, 0.27])},
    "pareto": lambda: {"log_scale": np.log([0.83, 1.4, 0.27]), "log_shape": np.log([9.5, 4.9, 12.0])},
    "weibull": lambda: {"log_scale": np.log([0.83, 1.4, 0.27]), "log_shape": np.log([1.5, 2.6, 0.9])},
    "gompertz": lambda: {"log_shape": np.log([0.3, 1.0, 2.4]), "log_rate": np.log([1.4, 0.6, 2.0])},
    "log-logistic": lambda: {"log_scale": np.log([0.83, 1.4, 0.27]), "log_shape": np.log([9.5, 6.3, 12.0])},
    "reciprocal": lambda: {"log_low": np.log([0.4, 1.0, 2.3]), "log_span": np.log([0.7, 1.9, 3.0])},
    "gamma": lambda: {"log_concentration": np.log([0.4, 1.3, 9.7]), "log_rate": np.log([0.6, 1.3, 4.2])},
    "erlang": lambda: {"log_rate": np.log([0.6, 1.3, 4.2])},
    "chi-squared": lambda: {"log_degrees": np.log([0.9, 3.1, 14.0])},
    "beta": lambda: {"log_alpha": np.log([0.6, 1.3, 4.2]), "log_beta": np.log([0.9, 3.3, 2.2])},
    "f": lambda: {"log_numerator": np.log([1.6, 2.3, 8.2]), "log_denominator": np.log([4.9, 13.3, 22.2])},
    "dirichlet": lambda: {"log_concentration": np.log([0.6, 1.3, 4.2])},
    "low-rank-normal": lambda: _anywhere(DIMENSION, "low-rank-normal"),
    "mixture-of-normals": lambda: _anywhere(DIMENSION, "mixture-of-normals"),
    "elliptical": lambda: _anywhere(DIMENSION, "elliptical") | {"log_degrees": np.log([5.3])},
    "poisson": lambda: {"log_rate": np.log([0.6, 2.3, 8.2])},
    "bernoulli": lambda: {"logits": np.asarray([0.4, -1.1, 2.3])},
    "tied-bernoulli": lambda: {"logits": np.asarray([0.4])},
    "categorical": lambda: {"logits": np.asarray([[0.4, -1.1, 1.3]])},
    "relaxed-bernoulli": lambda: {
        "logits": np.asarray([0.4, -1.1, 2.3]),
        "log_temperature": np.log([0.7, 1.3, 0.4]),
    },
    "concrete": lambda: {"logits": np.asarray([[0.4, -1.1, 1.3]]), "log_temperature": np.log([0.7])},
    "geometric": lambda: {"logits": np.asarray([0.4, -1.1, 2.3])},
}


def _covariance(p: Blocks) -> np.ndarray:
    lower = np.zeros((DIMENSION, DIMENSION))
    lower[np.tril_indices(DIMENSION)] = p["cholesky"]
    np.fill_diagonal(lower, np.exp(np.diag(lower)))
    return lower @ lower.T


#: Families of independent coordinates as SciPy has them, from λ as the families' docstrings define it.
FROZEN: dict[str, Callable[[Blocks], Any]] = {
    "normal": lambda p: stats.norm(p["loc"], np.exp(p["log_scale"])),
    "exponential": lambda p: stats.expon(scale=np.exp(-p["log_rate"])),
    "laplace": lambda p: stats.laplace(p["loc"], np.exp(p["log_scale"])),
    "student-t": lambda p: stats.t(np.exp(p["log_df"]), p["loc"], np.exp(p["log_scale"])),
    "logistic": lambda p: stats.logistic(p["loc"], np.exp(p["log_scale"])),
    "uniform": lambda p: stats.uniform(p["loc"], np.exp(p["log_scale"])),
    "triangular": lambda p: stats.triang(1 / (1 + np.exp(-p["logit_mode"])), p["loc"], np.exp(p["log_scale"])),
    "cauchy": lambda p: stats.cauchy(p["loc"], np.exp(p["log_scale"])),
    "gumbel": lambda p: stats.gumbel_r(p["loc"], np.exp(p["log_scale"])),
    "rayleigh": lambda p: stats.rayleigh(scale=np.exp(p["log_scale"])),
    "pareto": lambda p: stats.pareto(np.exp(p["log_shape"]), scale=np.exp(p["log_scale"])),
    "weibull": lambda p: stats.weibull_min(np.exp(p["log_shape"]), scale=np.exp(p["log_scale"])),
    "gompertz": lambda p: stats.gompertz(np.exp(p["log_shape"]), scale=np.exp(-p["log_rate"])),
    "log-logistic": lambda p: stats.fisk(np.exp(p["log_shape"]), scale=np.exp(p["log_scale"])),
    "reciprocal": lambda p: stats.loguniform(np.exp(p["log_low"]), np.exp(p["log_low"] + np.exp(p["log_span"]))),
    "log-normal": lambda p: stats.lognorm(np.exp(p["log_scale"]), scale=np.exp(p["loc"])),
}

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
    "dirichlet": lambda p, z: stats.dirichlet(np.exp(p["log_concentration"])).logpdf(z.T),
}


class Case:
    """A family at its λ on a backend, with noise and the samples it makes."""

    def __init__(self, name: str, backend: Any) -> None:
        self.backend, self.family = backend, made(name)
        self.parameters = {k: backend.asarray(a, "float64") for k, a in PARAMETERS[name]().items()}
        drawn = draws(self.family.noise((), DIMENSION), COUNT)
        self.noise = {k: backend.asarray(a, "float64") for k, a in drawn.items()}
        self.z = self.family.sample(backend, self.parameters, self.noise)
        self.vector = backend.asarray(np.random.default_rng(5).standard_normal((COUNT, DIMENSION)), "float64")

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
def case_of(name: str, backend: Any) -> Case:
    return Case(name, backend)


def all_but(ability: str) -> list[str]:
    return [name for name, cls in FAMILIES.items() if ability not in cls.lacks]


def test_every_family_is_tested() -> None:
    assert set(PARAMETERS) == set(FAMILIES) == set(FAMILY_PROBLEMS)
    for name, text in FAMILY_PROBLEMS.items():
        assert make_cell(text, "pathwise").problem.family.name == name


@pytest.mark.parametrize("cls", FAMILIES.values())
def test_abilities_are_declared(cls: type[Family]) -> None:
    """What a family lacks has a reason and raises it; what it does not lack, it overrides."""
    methods = [name for name in ABILITIES if hasattr(Family, name) and name != "mirrored"]
    for ability in methods:
        assert (getattr(cls, ability) is getattr(Family, ability)) == (ability in cls.lacks), ability
    assert set(cls.lacks) <= set(ABILITIES)
    family = cls.At().family
    for ability, reason in cls.lacks.items():
        assert reason in str(family.without(ability))
    for ability in set(methods) & set(cls.lacks):
        method = getattr(family, ability)
        with pytest.raises(NotApplicable, match="has not got"):
            method(*[None] * (method.__code__.co_argcount - 1))


@pytest.mark.parametrize("name", FAMILIES)
def test_shapes(name: str, backend: Any) -> None:
    case = case_of(name, backend)
    shapes = case.family.shapes(DIMENSION)
    assert tuple(shapes) == case.family.blocks
    assert {k: tuple(a.shape) for k, a in case.parameters.items()} == shapes
    assert tuple(case.z.shape) == (COUNT, DIMENSION)
    assert case.family == made(name)
    assert hash(case.family) == hash(made(name))


@pytest.mark.parametrize("name", SCIPY)
def test_density(name: str, backend: Any) -> None:
    case = case_of(name, backend)
    found = case.family.log_density(backend, case.parameters, case.z)
    case.close(found, backend.asarray(SCIPY[name](PARAMETERS[name](), backend.to_numpy(case.z)), "float64"))


@pytest.mark.parametrize("name", all_but("score"))
def test_score(name: str, differentiating: Any) -> None:
    case = case_of(name, differentiating)
    found = case.family.score(differentiating, case.parameters, case.z)
    expected = case.jacobian(lambda p: case.family.log_density(differentiating, p, case.z))
    for block, values in expected.items():
        case.close(found[block], values)


@pytest.mark.parametrize("name", [name for name in all_but("pathwise") if name not in laws.IMPLICIT])
def test_pathwise(name: str, differentiating: Any) -> None:
    """cotangent · ∂t(ε, λ)/∂λ, summed over the coordinates of z."""
    case, xp = case_of(name, differentiating), differentiating.xp
    found = case.family.pathwise(differentiating, case.parameters, case.noise, case.z, case.vector)
    pulled = lambda p: xp.sum(case.vector * case.family.sample(differentiating, p, case.noise), axis=-1)  # noqa: E731
    for block, values in case.jacobian(pulled).items():
        case.close(found[block], values)


@pytest.mark.parametrize("name", [name for name in all_but("pathwise") if name not in laws.IMPLICIT])
def test_entropy_along_the_path(name: str, differentiating: Any) -> None:
    """d/dλ of −log q_λ(t(ε, λ)), what a family knows of it and what any works out; a block left out is 0."""
    case = case_of(name, differentiating)
    family, given = case.family, (differentiating, case.parameters, case.noise, case.z)
    along = lambda p: -family.log_density(differentiating, p, family.sample(differentiating, p, case.noise))  # noqa: E731
    known, worked_out = family.entropy_pathwise(*given), {}
    if not {"score", "log_density_gradient"} & set(family.lacks):
        worked_out = Family.entropy_pathwise(family, *given)
    for block, values in case.jacobian(along).items():
        zero = differentiating.xp.zeros_like(values)
        case.close(known.get(block, 0.0) + zero, values)
        if worked_out:
            case.close(worked_out[block], values)


@pytest.mark.parametrize("name", all_but("log_density_gradient"))
def test_derivatives_in_z(name: str, differentiating: Any) -> None:
    case, xp = case_of(name, differentiating), differentiating.xp
    total = lambda z: xp.sum(case.family.log_density(differentiating, case.parameters, z))  # noqa: E731
    gradient = case.family.log_density_gradient(differentiating, case.parameters, case.z)
    case.close(gradient, differentiating.gradient(total)(case.z))
    product = case.family.log_density_hessian_product(differentiating, case.parameters, case.z, case.vector)
    # Added to zeros: PyTorch's tangent of what has none is no array.
    case.close(product, xp.zeros_like(product) + differentiating.hvp(total)(case.z, case.vector))


@pytest.mark.parametrize("name", all_but("log_density_replaced"))
def test_replaced(name: str, backend: Any) -> None:
    case, xp = case_of(name, backend), backend.xp
    other = xp.flip(case.z, axis=0)
    found = case.family.log_density_replaced(backend, case.parameters, case.z, other)
    for i in range(DIMENSION):
        z = xp.stack([(other if j == i else case.z)[:, j] for j in range(DIMENSION)], axis=-1)
        case.close(found[:, i], case.family.log_density(backend, case.parameters, z))


def grid(name: str, dimension: int) -> tuple[Any, Blocks, np.ndarray, np.ndarray]:
    """A family at `At()` moved a little, samples on a tensor grid of its noise, or of z, [N, D] and their weights."""
    from bench.measurement.integrate import rule

    family, backend = FAMILIES[name].At().family, get("numpy")
    parameters = {k: a + 0.1 for k, a in FAMILIES[name].At().parameters(dimension).items()}
    if name in laws.GRIDS:
        return family, parameters, *laws.grid(name, parameters)
    (spec,) = family.noise((), dimension).values()
    x, w = rule(spec.kind, 160, 9.5)
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
    known = "entropy_gradient" not in family.lacks
    entropy = family.entropy_gradient(backend, parameters) if known else {}
    for block, per_sample in score.items():
        s = per_sample.reshape(len(z), -1)
        if "score_identity" not in family.lacks:
            np.testing.assert_allclose(weights @ s, 0.0, atol=1e-12)
        if known:
            np.testing.assert_allclose(entropy[block].ravel(), -(weights * log_density) @ s, atol=1e-11)
    for order in range(6 if "power_moment" not in family.lacks else 0):
        moment, gradient = family.power_moment(parameters, order)
        np.testing.assert_allclose(moment, weights @ z**order, rtol=1e-11, atol=1e-11)
        for block in score:
            expected = (weights * np.sum(z**order, axis=-1)) @ score[block].reshape(len(z), -1)
            np.testing.assert_allclose(gradient[block].ravel(), expected, rtol=1e-10, atol=1e-10)


ONE_OR_TWO = [text.replace("dim=3", f"dim={d}") for text in TWO_FAMILIES for d in (1, 2)]


@pytest.mark.parametrize("problem", ONE_OR_TWO)
def test_gauss_rules_agree(numpy_backend: Any, problem: str) -> None:
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
