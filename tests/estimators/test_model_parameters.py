"""Parameters of f itself: estimates hold E ∇_θ f beside ∇_λ, whichever way the samples are drawn."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator
from gradmeter.bench.problems import Exact, Problem
from gradmeter.bench.sweep.measuring import measure_cell
from gradmeter.estimators import Expectation, Integrand, Normal, NotApplicable
from gradmeter.estimators.backends.backend import Backend
from tests.support import Blocks, draws, estimate, integrated

ESTIMATORS = (
    "score-function",
    "score-function[baseline=leave-one-out]",
    "score-function[draws=antithetic]",
    "score-function[draws=stratified]",
    "vargrad",
    "rao-blackwell",
    "importance-sampling",
    "overdispersed",
    "evolution-strategies",
    "pathwise",
    "pathwise[antithetic=true]",
    "taylor",
    "price",
    "measure-valued",
    "measure-valued[coupling=false]",
)


@dataclass(frozen=True)
class Bent(Integrand):
    """−Σ_ij exp(bend_j) (z_i − target)²/2, with θ: bend [2] and target [1]; nothing but its value."""

    def model_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"bend": (2,), "target": (1,)}

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        away = z - data["target"]
        return -0.5 * xp.sum(xp.exp(data["bend"])) * xp.sum(away * away, axis=-1)

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return -xp.sum(xp.exp(data["bend"])) * (z - data["target"])

    def hessian_product(self, xp: Any, data: Any, z: Any, vector: Any, noise: Any) -> Any:
        return -xp.sum(xp.exp(data["bend"])) * vector


class BentWithPullback(Bent):
    unsupported: ClassVar[Any] = {}

    def model_pullback(self, xp: Any, data: Any, z: Any, cotangent: Any, noise: Any) -> Any:
        away, weight = z - data["target"], xp.exp(data["bend"])
        size = xp.sum(cotangent * -0.5 * xp.sum(away * away, axis=-1), axis=1)
        slope = xp.sum(cotangent * xp.sum(away, axis=-1), axis=1)
        return {"bend": size[:, None] * weight, "target": (slope * xp.sum(weight))[:, None]}


def point(dimension: int) -> Blocks:
    loc, scale = np.asarray([0.4, -0.3, 1.1])[:dimension], np.asarray([0.7, 1.2, 0.3])[:dimension]
    return {"loc": loc, "log_scale": np.log(scale), "bend": np.asarray([0.2, -0.5]), "target": np.asarray([0.6])}


def exact(at: Blocks) -> Blocks:
    away, variance, weight = at["loc"] - at["target"], np.exp(2.0 * at["log_scale"]), np.exp(at["bend"])
    return {
        "loc": -weight.sum() * away,
        "log_scale": -weight.sum() * variance,
        "bend": -0.5 * weight * (away**2 + variance).sum(),
        "target": weight.sum() * away.sum(keepdims=True),
    }


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if "stratified" not in name])  # its noise jumps
def test_unbiased_by_integration(numpy_backend: Backend, name: str) -> None:
    """One coordinate, integrated over all its noise."""
    estimator = make_estimator(name)
    expectation, at = Expectation(Normal(), BentWithPullback(), {}), point(1)
    samples = estimator.smallest_num_samples()
    found = integrated(numpy_backend, estimator, expectation, at, samples, nodes=24)
    assert tuple(found) == ("loc", "log_scale", "bend", "target")
    for block in ("bend", "target"):
        mean, _, size = found[block]
        np.testing.assert_allclose(mean, exact(at)[block], rtol=0.0, atol=1e-12 * max(1.0, size.max()))


CASES = [(n, s) for n in ESTIMATORS for s in (1, 4) if s >= make_estimator(n).smallest_num_samples()]


@pytest.mark.parametrize(("name", "samples"), CASES)
def test_the_samples_are_the_estimators_own(numpy_backend: Backend, name: str, samples: int) -> None:
    """The θ blocks are the mean of ∇_θ f over samples that the noise makes; λ's are what they are for θ in `data`."""
    estimator = make_estimator(name)
    at = point(3)
    expectation = Expectation(Normal(), BentWithPullback(), {})
    noise = draws(estimator.noise_specs(expectation, samples, 3), 5)
    found = estimate(numpy_backend, estimator, expectation, at, noise)

    class Plain(Bent):
        def model_shapes(self) -> dict[str, tuple[int, ...]]:
            return {}

    own = {n: at[n] for n in ("loc", "log_scale")}
    plain = Expectation(Normal(), Plain(), {n: at[n] for n in ("bend", "target")})
    for block, values in estimate(numpy_backend, estimator, plain, own, noise).items():
        np.testing.assert_array_equal(found[block], values)
    made = estimator.family_noise(numpy_backend, Normal(), noise)
    z = Normal().sample(numpy_backend, own, made).reshape(5, samples, 3)
    away, weight = z - at["target"], np.exp(at["bend"])
    bend = -0.5 * weight * (away**2).sum(axis=2).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found["bend"], bend, rtol=1e-13)
    np.testing.assert_allclose(found["target"][:, 0], weight.sum() * away.sum(axis=2).mean(axis=1), rtol=1e-12)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("replicates", [1, 5])
def test_the_backends_pullback_is_the_closed_form(
    differentiating: Backend, numpy_backend: Backend, samples: int, replicates: int
) -> None:
    estimator, at = make_estimator("pathwise"), point(3)
    noise = draws(estimator.noise_specs(Expectation(Normal(), Bent(), {}), samples, 3), replicates)
    expected = estimate(numpy_backend, estimator, Expectation(Normal(), BentWithPullback(), {}), at, noise)
    for integrand, compiled in ((Bent(), differentiating.name == "jax"), (BentWithPullback(), False)):
        found = estimate(differentiating, estimator, Expectation(Normal(), integrand, {}), at, noise, compiled=compiled)
        for block, values in expected.items():
            np.testing.assert_allclose(found[block], values, rtol=0.0, atol=1e-12 * max(1.0, np.abs(values).max()))


@pytest.mark.slow
def test_the_pullback_compiles(differentiating: Backend, numpy_backend: Backend) -> None:
    estimator, at = make_estimator("pathwise"), point(3)
    noise = draws(estimator.noise_specs(Expectation(Normal(), Bent(), {}), 2, 3), 4)
    expected = estimate(numpy_backend, estimator, Expectation(Normal(), BentWithPullback(), {}), at, noise)
    found = estimate(differentiating, estimator, Expectation(Normal(), Bent(), {}), at, noise, compiled=True)
    for block, values in expected.items():
        np.testing.assert_allclose(found[block], values, rtol=0.0, atol=1e-12 * max(1.0, np.abs(values).max()))


def test_numpy_says_what_to_add(numpy_backend: Backend) -> None:
    estimator, expectation = make_estimator("score-function"), Expectation(Normal(), Bent(), {})
    noise = draws(estimator.noise_specs(expectation, 1, 3), 2)
    message = "give the integrand a `model_pullback` method, or use the torch or jax backend"
    with pytest.raises(NotApplicable, match=re.escape(message)):
        estimate(numpy_backend, estimator, expectation, point(3), noise)


@dataclass(frozen=True)
class BentProblem(Problem):
    name = "bent"
    summary = "a quadratic with parameters of its own"
    dimension = 1
    differentiate: str = "closed-form"
    integrand = BentWithPullback()

    def parameters(self) -> Blocks:
        return point(1)

    def exact_at(self, parameters: Blocks) -> Exact:
        return Exact(exact(parameters), "closed-form")


def test_rows_of_a_model(numpy_backend: Backend) -> None:
    """Every block has its row, certified by integration."""
    rows = measure_cell(Cell(BentProblem(), make_estimator("pathwise"), goals=StoppingCriteria(precision=0.5))).rows
    assert [row["block"] for row in rows] == ["loc", "log_scale", "bend", "target", "all"]
    assert {row["verdict"] for row in rows} == {"unbiased"}
    assert {row["certificate"] for row in rows} == {"integration"}
