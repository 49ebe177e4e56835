"""A user's own integrand: what it must bring, and what is worked out where it brings less."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest

from gradmeter.estimators import Expectation, Integrand, Normal, NotApplicable
from gradmeter.estimators.backends.backend import Backend
from tests.support import (
    INTEGRAND_PROBLEMS,
    MODELS,
    PROBLEMS,
    TWO_FAMILIES,
    Blocks,
    applies,
    called_once,
    draws,
    estimate,
    expectation_of,
    make_cell,
    make_estimator,
    single,
)

BUNDLED = (*(p for p in PROBLEMS if "at=fitted" not in p), *INTEGRAND_PROBLEMS)
BATCHED = "{}-regression[loc=0.17,scale=0.71,batch=1{}]"


class Coupled(Integrand):
    """sin(a Σz) + Σ z⁴, with nothing but its value."""

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return xp.sin(data["a"] * xp.sum(z, axis=-1)) + xp.sum(z**4, axis=-1)


class CoupledWithGradient(Coupled):
    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return data["a"] * xp.cos(data["a"] * xp.sum(z, axis=-1, keepdims=True)) + 4.0 * z**3


class Stripped(Integrand):
    """Another integrand without what it need not offer."""

    def __init__(self, whole: Integrand) -> None:
        self.whole = whole
        self.noise_specs = whole.noise_specs  # type: ignore[method-assign]
        self.reads, self.explicit_pullback = whole.reads, whole.explicit_pullback

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stripped) and self.whole == other.whole

    def __hash__(self) -> int:
        return hash(self.whole)

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return self.whole.value(xp, data, z, noise)


class ByProducts(Stripped):
    """With its gradient and its products with the Hessian, which it does not write out."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByProducts) and self.whole == other.whole

    __hash__ = Stripped.__hash__

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return self.whole.gradient(xp, data, z, noise)

    def hessian_product(self, xp: Any, data: Any, z: Any, vector: Any, noise: Any) -> Any:
        return self.whole.hessian_product(xp, data, z, vector, noise)


def ask(backend: Backend, expectation: Expectation, estimator: str, parameters: Blocks, samples: int = 3) -> Blocks:
    made = make_estimator(estimator)
    noise = draws(made.noise_specs(expectation, samples, len(parameters["loc"])), 5)
    return estimate(backend, made, expectation, parameters, noise, compiled=backend.name == "jax")


def close(found: Blocks, expected: Blocks, relative: float = 1e-11) -> None:
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0.0, atol=relative * max(1.0, np.abs(values).max()))


HERE = single([0.4, -0.3, 1.1], [0.7, 1.2, 0.3])


def test_numpy_says_what_to_add(numpy_backend: Backend) -> None:
    message = "NumPy cannot differentiate: give the integrand a `gradient` method, or use the torch or jax backend"
    with pytest.raises(NotApplicable, match=re.escape(message)):
        ask(numpy_backend, expectation_of(Coupled(), a=0.8), "pathwise", HERE)


@pytest.mark.parametrize("samples", [1, 3])
def test_automatic_gradient(differentiating: Backend, numpy_backend: Backend, samples: int) -> None:
    found = ask(differentiating, expectation_of(Coupled(), a=0.8), "pathwise", HERE, samples)
    close(found, ask(numpy_backend, expectation_of(CoupledWithGradient(), a=0.8), "pathwise", HERE, samples))


@pytest.mark.parametrize("entropy", ["none", "sampled", "analytic"])
def test_values_suffice_elsewhere(backend: Backend, numpy_backend: Backend, entropy: str) -> None:
    """Score function and measure-valued ask nothing of f but its values."""
    for estimator in ("score-function[baseline=leave-one-out]", "measure-valued"):
        expectation = expectation_of(Coupled(), entropy, a=0.8)
        found = ask(backend, expectation, estimator, HERE)
        close(found, ask(numpy_backend, expectation_of(CoupledWithGradient(), entropy, a=0.8), estimator, HERE))


@pytest.mark.matrix
@pytest.mark.parametrize("problem", [p for p in (*BUNDLED, *MODELS[1:3]) if applies(p, "pathwise", 3)])
@pytest.mark.parametrize("samples", [1, 3])
def test_bundled_gradients_are_gradients(differentiating: Backend, problem: str, samples: int) -> None:
    """differentiate=autodiff agrees with the closed form."""
    closed, automatic = make_cell(problem, "pathwise"), make_cell(f"{problem[:-1]},differentiate=autodiff]", "pathwise")
    assert automatic.problem.expectation().differentiate == "autodiff"
    found, expected = (
        ask(differentiating, cell.problem.expectation(), "pathwise", cell.problem.parameters(), samples)
        for cell in (automatic, closed)
    )
    close(found, expected)


@pytest.mark.matrix
@pytest.mark.parametrize("problem", [*BUNDLED, *TWO_FAMILIES, *MODELS[1:3]])
@pytest.mark.parametrize("samples", [1, 3])
def test_bundled_hessian_products(differentiating: Backend, numpy_backend: Backend, problem: str, samples: int) -> None:
    """The closed form on NumPy against automatic differentiation."""
    found = []
    for backend, more in ((numpy_backend, ""), (differentiating, ",differentiate=autodiff")):
        at = make_cell(f"{problem[:-1]}{more}]", "pathwise").problem
        whole = at.expectation()
        expectation = whole.bind({k: backend.asarray(a, "float64") for k, a in whole.data.items()})
        parameters = {k: backend.asarray(a, "float64") for k, a in at.parameters().items()}
        drawn = draws(make_estimator("pathwise").noise_specs(whole, samples, at.dimension), 5)
        noise = {k: backend.asarray(a, None if a.dtype.kind == "i" else "float64") for k, a in drawn.items()}

        def product(
            parameters: Any, noise: Any, backend: Backend = backend, expectation: Expectation = expectation
        ) -> Any:
            z = expectation.family.sample(backend, parameters, noise)
            there, parameters = expectation.at(parameters)
            return z, there.hessian_product(backend, parameters, z, backend.xp.flip(z, axis=0), noise)

        z, products = called_once(backend, product, parameters, noise)
        assert products.shape == z.shape
        found.append(backend.to_numpy(products))
    close({"product": found[1]}, {"product": found[0]})


def test_numpy_says_what_to_add_for_a_hessian(numpy_backend: Backend) -> None:
    expectation, z = expectation_of(CoupledWithGradient(), a=0.8), np.ones((2, 3))
    with pytest.raises(NotApplicable, match="give the integrand a `hessian_product` method"):
        expectation.hessian_product(numpy_backend, HERE, z, z, {})


@pytest.mark.matrix
@pytest.mark.parametrize("problem", [p for p in (*BUNDLED, *MODELS[1:3]) if "dim=" in p or "regression" in p])
@pytest.mark.parametrize("samples", [1, 3])
def test_bundled_replacement_is_replacement(backend: Backend, problem: str, samples: int) -> None:
    """An offered coordinate replacement agrees with D evaluations."""
    cell = make_cell(problem, "measure-valued")
    whole, parameters = cell.problem.expectation(), cell.problem.parameters()
    plain = Expectation(Normal(), Stripped(whole.integrand), whole.data, whole.entropy)
    assert whole.integrand.replaced is not None
    assert plain.integrand.replaced is None
    expected = ask(backend, plain, "measure-valued", parameters, samples)
    # Values of f, up to 1e4 for the regressions, are subtracted.
    close(ask(backend, whole, "measure-valued", parameters, samples), expected, 1e-10)


@pytest.mark.parametrize(
    ("problem", "samples"),
    [("logistic-regression[loc=0.17,batch=7]", 3), ("linear-regression", 3), ("student-t-regression", 1)],
)
def test_a_hessian_written_out_is_that_of_its_products(backend: Backend, problem: str, samples: int) -> None:
    cell = make_cell(problem, "price")
    whole, parameters = cell.problem.expectation(), cell.problem.parameters()
    plain = Expectation(Normal(), ByProducts(whole.integrand), whole.data, whole.entropy)
    assert whole.integrand.hessian is not None
    assert plain.integrand.hessian is None
    close(ask(backend, whole, "price", parameters, samples), ask(backend, plain, "price", parameters, samples), 1e-11)


BY_ESTIMATOR = [
    ("pathwise", "analytic"),
    ("measure-valued", "sampled"),
    ("pathwise", "sampled"),
    ("score-function", "sampled"),
]


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("name", "estimator", "entropy"),
    [
        *((name, *how) for name in ("linear", "logistic") for how in BY_ESTIMATOR),
        *((name, *how) for name in ("poisson", "student-t") for how in BY_ESTIMATOR[:2]),
    ],
)
def test_minibatches_average_to_the_whole(backend: Backend, name: str, estimator: str, entropy: str) -> None:
    """Every batch of one row in turn, at the same noise: their mean is the estimate from all rows."""
    batched = make_cell(BATCHED.format(name, f",entropy={entropy}"), estimator).problem
    full = make_cell(BATCHED.format(name, f",entropy={entropy}").replace("batch=1,", ""), estimator).problem
    rows = full.expectation().data["design"].shape[0]
    made, parameters = make_estimator(estimator), full.parameters()
    specs = made.noise_specs(full.expectation(), 2, full.dimension)
    one = draws(specs, 1)
    noise = {k: np.repeat(a, rows, axis=0) for k, a in one.items()}
    noise["rows"] = np.arange(rows)[:, None]
    every = estimate(backend, made, batched.expectation(), parameters, noise)
    assert every["loc"].shape[0] == rows
    whole = estimate(backend, made, full.expectation(), parameters, one)
    for block, values in every.items():
        size = np.abs(values).max()
        np.testing.assert_allclose(values.mean(axis=0), whole[block][0], rtol=0.0, atol=1e-11 * size)
        assert np.ptp(values, axis=0).max() > 1e-3 * size


def test_a_batch_of_all_rows_is_the_whole(backend: Backend) -> None:
    batched = make_cell("linear-regression[loc=0.17,scale=0.71,batch=442]", "pathwise").problem
    full = make_cell("linear-regression[loc=0.17,scale=0.71]", "pathwise").problem
    made, parameters = make_estimator("pathwise"), full.parameters()
    noise = draws(made.noise_specs(batched.expectation(), 2, 11), 3)
    found = estimate(backend, made, batched.expectation(), parameters, noise)
    close(found, estimate(backend, made, full.expectation(), parameters, {"base": noise["base"]}), 1e-12)


def test_equal_integrands_share_functions() -> None:
    structures = [expectation_of(Coupled(), a=a).structure for a in (0.8, 0.9)]
    assert structures[0] == structures[1]
    assert hash(structures[0]) == hash(structures[1])
    others = [
        expectation_of(CoupledWithGradient(), a=0.8).structure,
        expectation_of(Coupled(), "sampled", a=0.8).structure,
    ]
    for one, other in itertools.combinations([structures[0], *others], 2):
        assert one != other
