"""What an estimator says that it costs is what it asks of f: counted, at one replicate."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_estimator
from gradmeter.bench.performance.goals import cost
from gradmeter.estimators import FAMILIES, NAMED_ALONE, VARIANTS, Expectation, Integrand, Noise, Normal
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Estimator
from tests.support import draws, make_cell, state_of

DIMENSION = 4


class Counting(Integrand):
    """Σ z⁴; every sample at which it is evaluated counts once, and a product with its Hessian twice."""

    def __init__(self) -> None:
        self.count = 0

    def noise_specs(self, data: dict[str, Any]) -> dict[str, Noise]:
        return {"rows": Noise("rows", (2,), population=4)} if "batch" in data else {}

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        self.count += math.prod(z.shape[:-1])
        return xp.sum(z**4, axis=-1)

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        self.count += math.prod(z.shape[:-1])
        return 4.0 * z**3

    def hessian_product(self, xp: Any, data: Any, z: Any, vector: Any, noise: Any) -> Any:
        self.count += 2 * math.prod(z.shape[:-1])
        return 12.0 * z**2 * vector


@pytest.mark.parametrize("larger", [False, True])
@pytest.mark.parametrize("text", [*VARIANTS, *NAMED_ALONE])
def test_evaluations_are_counted(numpy_backend: Backend, text: str, larger: bool) -> None:
    estimator: Estimator = make_estimator(text)
    samples = 4 if larger else estimator.smallest_num_samples()
    entropy, batch = estimator.default_entropy(), "input-dependent" in text
    elbo = entropy == "sampled"
    family = next(
        f for f in (c.Config().family for c in FAMILIES.values()) if estimator.unsupported_reason(f, entropy) is None
    )
    data = {"batch": np.zeros(2)} if batch else {}
    f = Counting()
    expectation = Expectation(family, f, data, entropy)  # type: ignore[arg-type]
    estimator.check(family, expectation.entropy, samples, DIMENSION)
    if batch:
        state = {"baseline": np.asarray(0.3), "baseline_rows": np.ones(4)}
    else:
        problem = "square[k=2" if family == Normal() else f"polynomial[family={family.name}"
        state = {} if elbo else state_of(f"{problem},dim={DIMENSION}]", text, samples)
    noise = draws(estimator.noise_specs(expectation, samples, DIMENSION), 1)
    parameters = FAMILIES[family.name].Config().parameters(DIMENSION)
    estimator.estimate(numpy_backend, expectation, parameters, noise, state)
    assert f.count == estimator.evaluations(expectation, samples, DIMENSION)


def test_the_unit_of_cost_is_a_plain_estimator() -> None:
    """Pathwise for what evaluates ∇f, else the plain score function: of the same problem, backend and S. Where z is
    discrete there is no pathwise."""
    discrete = make_cell("polynomial[family=bernoulli,dim=3]", "rebar")
    assert cost.unit(discrete).estimator == make_estimator("score-function")
    for text, expected in (("price", "pathwise"), ("measure-valued", "score-function"), ("vargrad", "score-function")):
        cell = make_cell(cost.PROBLEMS[0], text, 2, "jax")
        unit = cost.unit(cell)
        assert unit.estimator == make_estimator(expected)
        assert (unit.problem, unit.backend, unit.num_samples) == (cell.problem, "jax", 2)


def test_every_estimator_is_compared_somewhere() -> None:
    """On both problems where it takes them."""
    found = {text: [cell.problem.name for cell in cost.cells(text, "numpy")] for text in (*VARIANTS, *NAMED_ALONE)}
    assert all(found.values())
    assert found["price"] == ["cosine", "logistic-regression"]
    assert found["score-function[baseline=input-dependent]"] == ["logistic-regression"]
    assert found["stratified-pathwise"] == found["rejection-reparameterisation"] == ["polynomial"]
