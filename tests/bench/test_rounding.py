"""τ covers what rounding does to estimators that are right, and is no larger than it has to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from gradmeter.bench.cells import Cell, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.integrate import integrate
from gradmeter.bench.measurement.kernel import Setting
from gradmeter.bench.measurement.moved import FewEstimates, moved_array
from gradmeter.bench.measurement.prepared import Prepared, prepare
from gradmeter.bench.measurement.rounding import CALLS, MULTIPLE, rounding
from gradmeter.estimators import Estimator, Expectation, Integrand, Noise, Requires
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families import Normal
from gradmeter.estimators.noise import DrawnNoise
from tests.support import estimates, make_cell, needs

DTYPES = ("float64", "float32")
FITTED = "linear-regression[family=multivariate-normal,at=fitted]"
STICKING = "pathwise[sticking-the-landing=true]"


def prepared(problem: str, estimator: str, samples: int | None = None, backend: str = "numpy", **more: Any) -> Prepared:
    needs(backend)
    return prepare(make_cell(problem, estimator, samples, backend, **more))


@dataclass(frozen=True)
class Own(Integrand):
    """f with all its numbers in the code."""

    function: Callable[..., Any] = field(repr=False)

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        return self.function(xp, z)


def on_normal(function: Callable[..., Any], estimator: str, samples: int, dtype: str = "float64") -> Setting:
    """The estimator of ∇ E f for z ~ N(0.7, 0.8²)."""
    setting = prepared("square[k=1,loc=0.7,scale=0.8]", estimator, samples, dtype=dtype).setting
    return replace(setting, expectation=Expectation(Normal(), Own(function), {}))


@dataclass(frozen=True)
class Coin(Estimator):
    """1 or 0 by uniform noise and a threshold: what rounding turns over is rare."""

    name: ClassVar[str] = "coin"
    summary: ClassVar[str] = "a coin"
    requires: ClassVar[Requires] = Requires()
    thresholds: tuple[float, ...]

    def noise_specs(self, expectation: Any, num_samples: int, dimension: int) -> dict[str, Noise]:
        return {"coin": Noise("uniform", ())}

    def estimate_integrand(self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any) -> Any:
        xp, coin = backend.xp, noise["coin"][:, None]
        heads = sum(xp.astype(coin > at, coin.dtype) for at in self.thresholds)
        return {name: heads + xp.zeros_like(a)[None, :] for name, a in parameters.items()}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("problem", ["cosine[k=9]", "cosine[k=5]", "square[k=1000,dim=10]"])
def test_nothing_rounds_zero(problem: str, dtype: str) -> None:
    tau = rounding(prepared(problem, "injected-naive-exchange", dtype=dtype).setting)
    assert all(np.all(values == 0.0) for values in tau.values())


@pytest.mark.parametrize("dtype", DTYPES)
def test_terms_that_cancel(dtype: str) -> None:
    """At the optimum ∇ log p and ∇ log q are of size 100, and what is left of their difference is rounding."""
    setting = prepared(FITTED, STICKING, dtype=dtype).setting
    tau, eps = rounding(setting), float(np.finfo(dtype).eps)
    few = FewEstimates(setting)
    found = few(few.setting.host_noise("test", 0, 2048))
    for name, values in found.items():
        deviation = np.sqrt(np.mean(values.astype(float) ** 2, axis=0))
        assert np.all(deviation < tau[name])
        assert np.all(tau[name] < 2e5 * eps)
    assert tau["loc"].max() > 5e3 * eps  # 1e-12 in float64


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_on_every_backend(backend: str, dtype: str) -> None:
    """Within what chance movements do: the noise is the same."""
    problem, estimator = "linear-regression[at=fitted]", "measure-valued"
    here, expected = (
        rounding(prepared(problem, estimator, backend=b, dtype=dtype).setting) for b in (backend, "numpy")
    )
    for name, tau in here.items():
        assert np.all((tau < 2.0 * expected[name]) & (expected[name] < 2.0 * tau))


@pytest.mark.parametrize("estimator", ["score-function[baseline=leave-one-out]", "score-function[baseline=none]"])
def test_a_large_constant_in_the_code_of_f(estimator: str) -> None:
    """No input shows its rounding, which is ε times the constant."""
    plain = rounding(on_normal(lambda xp, z: xp.sum(z * z, axis=-1), estimator, 2))
    large = rounding(on_normal(lambda xp, z: 1e6 + xp.sum(z * z, axis=-1), estimator, 2))
    assert all(np.all(large[name] > 1e4 * plain[name]) for name in plain)
    assert all(np.all(large[name] < 1e3 * MULTIPLE * 1e6 * 2e-16) for name in plain)


def test_a_constant_that_swallows_f() -> None:
    """1e8 + z² is 1e8 in float32, and no leave-one-out estimate of it is more than rounding: the gradient is 1.4."""
    setting = on_normal(
        lambda xp, z: 1e8 + xp.sum(z * z, axis=-1), "score-function[baseline=leave-one-out]", 2, "float32"
    )
    assert rounding(setting)["loc"][0] > 1.4


def test_choices_turned_over_by_rounding() -> None:
    """One threshold within a unit in the last place of one of the 32 replicates says nothing of the average."""
    setting = prepare(Cell(make_problem("square[k=1,dim=1]"), Coin((0.5,)))).setting
    few = FewEstimates(setting)
    coins = np.concatenate([few.setting.host_noise("rounding", call, few.size)["coin"] for call in range(CALLS)])
    eps = float(np.finfo(float).eps)
    for count, small in ((0, True), (1, True), (2, True), (16, False)):
        tau = rounding(replace(setting, estimator=Coin((0.5, *map(float, coins[:count])))))
        assert (tau["loc"][0] < 100.0 * eps * (1 + count)) == small, (count, tau)


#: Right estimators whose estimates are all alike, by integrands and families.
CONSTANT = [
    ("square[k=1000,loc=3.3,scale=0.7]", "pathwise[antithetic=true]", "loc"),
    ("square[k=1.3,loc=20.7,scale=3]", "price", "log_scale"),
    ("square[k=0.1,loc=1000.7,scale=0.01]", "price", "log_scale"),
    ("square[family=bernoulli,probability=0.3,dim=3]", "enumeration", "logits"),
    ("square[family=categorical,categories=4,dim=4]", "enumeration", "logits"),
    ("three-bernoullis", "enumeration", "logits"),
    ("linear-regression[at=fitted]", "taylor[hessian=full]", "loc"),
    ("linear-regression", "price", "log_scale"),
    (FITTED, STICKING, "cholesky"),
]


@pytest.mark.matrix
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("problem", "estimator", "block"), CONSTANT)
def test_averages_of_estimates_without_variance(
    problem: str, estimator: str, block: str, dtype: str, backend: str
) -> None:
    if backend != "numpy" and problem not in (CONSTANT[0][0], FITTED):
        return
    cell = prepared(problem, estimator, 2 if "antithetic" in estimator else None, backend, dtype=dtype)
    assert cell.exact is not None
    few = FewEstimates(cell.setting)
    found = few(few.setting.host_noise("test", 0, few.size))[block].astype(float) - cell.exact.gradient[block]
    tau = rounding(cell.setting)[block]
    assert np.all(np.abs(found.mean(axis=0)) <= tau)
    assert np.all(found.std(axis=0) <= tau)


#: Points of small and of large scale, where a tolerance of a fixed size is wrong by powers of ten.
SCALES = [
    *("square[k=2]", "square[k=1000,loc=3.3]", "exponential[k=1,loc=4,scale=0.1]", "cosine[k=9]"),
    *("polynomial[degree=4,scale=0.0001]", "polynomial[degree=4,loc=0.3,scale=0.0001]"),
    *("polynomial[family=gamma,concentration=2.3,rate=1.7,degree=3]", "square[family=bernoulli,probability=0.3]"),
]


@pytest.mark.matrix
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("problem", SCALES)
@pytest.mark.parametrize("estimator", ["score-function", "score-function[baseline=leave-one-out]", "pathwise"])
def test_integrals_of_right_estimators(problem: str, estimator: str, dtype: str) -> None:
    """The mean is off by less than τ, and τ is no reason to doubt what sampling could find."""
    cell = make_cell(problem, estimator, dtype=dtype)
    if infeasible(cell) is not None:
        return
    made = prepare(cell)
    tau, integrals = rounding(made.setting), integrate(made.setting)
    assert made.exact is not None
    few = FewEstimates(made.setting)
    found = few(few.setting.host_noise("test", 0, 1024))
    for name, exact in made.exact.gradient.items():
        if integrals is not None:
            assert np.all(np.abs(integrals[name].mean - exact) <= tau[name] + integrals[name].error)
        # A million replicates know the mean to a thousandth of their deviation.
        assert np.all(tau[name] < 0.1 * found[name].astype(float).std(axis=0))


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_unmoved_estimates_are_those_that_are_measured(backend: str) -> None:
    """To the last bit; moved ones differ everywhere."""
    for problem, estimator in (("logistic-regression[loc=0.17,scale=0.71,batch=7]", "pathwise"), (FITTED, STICKING)):
        setting = prepared(problem, estimator, backend=backend).setting
        few = FewEstimates(setting)
        noise = few.setting.host_noise("test", 0, few.size)
        on_device = {name: setting.backend.asarray(a, None) for name, a in noise.items()}
        plain, expected = few(noise), estimates(setting, on_device)
        moved = few(noise, few.moved(np.random.default_rng(1)))
        for name, values in plain.items():
            np.testing.assert_array_equal(values, expected[name])
            assert np.any(moved[name] != values)


def test_what_is_exact_is_not_moved() -> None:
    generator = np.random.default_rng(2)
    setting = prepared("logistic-regression[loc=3,scale=0.71,batch=7]", "rao-blackwell", dtype="float32").setting
    few = FewEstimates(setting)
    moved = few.moved(generator)
    for name, values in setting.expectation.data.items():
        whole = values == np.rint(values)
        np.testing.assert_array_equal(moved.data[name][whole], values[whole])
    assert any(np.any(moved.data[name] != values) for name, values in setting.expectation.data.items())
    assert np.any(moved.parameters["loc"] != 3.0)  # λ is no code, whatever its numbers
    assert all(a.dtype == np.float32 for a in moved.parameters.values())
    noise = few.setting.host_noise("test", 0, few.size)
    np.testing.assert_array_equal(few.moved_noise(noise, generator)["rows"], noise["rows"])


def test_uniform_noise_stays_below_one() -> None:
    setting = prepare(Cell(make_problem("square[k=1,dim=1]"), Coin((0.5,)))).setting
    few, last = FewEstimates(setting), np.nextafter(1.0, 0.0)
    moved = few.moved_noise(DrawnNoise({"coin": np.full(1000, last)}, 1000), np.random.default_rng(3))["coin"]
    assert np.all(moved < 1.0)
    assert len(np.unique(moved)) > 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_movements_are_units_in_the_last_place(dtype: str) -> None:
    values = np.geomspace(1e-20, 1e20, 999).astype(dtype)
    moved = moved_array(values, np.random.default_rng(4))
    assert moved.dtype == values.dtype
    steps = np.abs(moved.astype(float) - values) / np.spacing(values).astype(float)
    assert steps.max() <= 2.0
    assert 0.5 < np.mean(steps > 0.0) < 0.8
