"""Cells whose mean is judged by replicates relieved of controls: right ones certified, wrong ones found, from few."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.measurement.controls.fit import PILOT, fit
from gradmeter.bench.measurement.controls.frozen import Controls
from gradmeter.bench.measurement.controls.relieved import Relieved
from gradmeter.bench.measurement.defensive import DefensiveDraws
from gradmeter.bench.measurement.evaluate import estimates_of, in_double
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.measurement.stream import Stream
from gradmeter.bench.performance.goals.certificates import Scaled
from gradmeter.bench.problems import Problem
from gradmeter.estimators import Integrand, Normal, Pathwise
from gradmeter.estimators.backends.backend import Backend
from tests.support import measured, needs

LOGISTIC = "logistic-regression[scale=0.5]"


def cell(problem: str, estimator: Any, samples: int = 1, backend: str = "numpy", cap: int = 2**19, **more: Any) -> Cell:
    made = make_estimator(estimator) if isinstance(estimator, str) else estimator
    return Cell(
        make_problem(problem), made, backend, num_samples=samples, goals=StoppingCriteria(max_replicates=cap), **more
    )


def test_functions_that_cancel_are_no_controls() -> None:
    """Odd functions of mirrored noise cancel, but for a constant where jumps are rounded to single precision."""
    row = measured(cell("sigmoid-belief-network[images=6]", "disarm", 4, dtype="float32"))["all"]
    assert row["verdict"] == "unbiased"
    assert row["control_gain"] > 100.0


def test_a_model_that_cancels_is_no_control() -> None:
    """Of a symmetric q nothing but rounding is left of the average of a model over mirrored samples."""
    for seed in (8, 75):
        row = measured(cell("three-bernoullis", "arm", 4, dtype="float32", cap=2**17, seed=seed))["all"]
        assert row["verdict"] != "biased"
        assert abs(row["bias_z"]) < 4.0


@dataclass(frozen=True)
class Windfall(Pathwise):
    """Pathwise, and 20 more where the first normal number lies in a window of probability 2e-4: 2 % of the gradient."""

    name: ClassVar[str] = "windfall"

    def estimate_integrand(self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any) -> Any:
        found = super().estimate_integrand(backend, expectation, parameters, noise, state)
        first = noise["base"][:, 0, :1]
        return {**found, "loc": found["loc"] + 600.0 * ((first > 0.5) & (first < 0.500568))}


@pytest.mark.parametrize("seed", range(4))
def test_what_plain_replicates_meet_later_counts(seed: int) -> None:
    """An event that none of those relieved of controls may have met, but some of all plain replicates."""
    row = measured(cell("square[loc=1.5,dim=2]", Windfall(), cap=2**17, seed=seed))["loc"]
    true = 600.0 * 2e-4 / row["exact_norm"]
    assert row["bias_bound"] is None or row["bias_bound"] > true


CASES = [
    (LOGISTIC, "score-function", 1),
    (LOGISTIC, "score-function[baseline=leave-one-out]", 4),
    (LOGISTIC, "pathwise", 1),
    ("linear-regression", "measure-valued", 1),
    ("logistic-regression[batch=8]", "pathwise", 1),
    ("sigmoid-belief-network[images=6]", "disarm", 2),
    ("sigmoid-belief-network", "score-function[baseline=leave-one-out]", 2),
    ("square[family=weibull,dim=5]", "pathwise", 1),
]


@pytest.mark.parametrize(("problem", "estimator", "samples"), CASES)
@pytest.mark.matrix
def test_right_estimators_are_certified(problem: str, estimator: str, samples: int) -> None:
    rows = measured(cell(problem, estimator, samples))
    assert rows["all"]["verdict"] == "unbiased"
    assert rows["all"]["control_gain"] > 2.0


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_on_other_backends(backend: str, dtype: str, eager: None) -> None:
    needs(backend)
    row = measured(cell(LOGISTIC, "score-function", backend=backend, dtype=dtype))["all"]
    assert row["verdict"] == "unbiased"
    assert row["control_gain"] > 100.0


@pytest.mark.parametrize("factor", [0.98, 1.02])
def test_a_bias_of_two_percent_is_found(factor: float) -> None:
    """From at most 2^16 replicates, where plain sampling has an error of 1 % of the gradient."""
    row = measured(cell(LOGISTIC, Scaled(Pathwise(), factor), cap=2**16))["all"]
    assert row["verdict"] == "biased"
    assert row["bias_low"] <= 0.02 <= row["bias_high"]


def fitted(problem: str, estimator: str, samples: int, seed: int = 0) -> tuple[Any, Controls]:
    prepared = prepare(cell(problem, estimator, samples, seed=seed))
    zero = {name: np.zeros(size) for name, size in prepared.setting.sizes.items()}
    controls = fit(prepared.setting, zero, DefensiveDraws(prepared.setting).widened)
    assert controls is not None
    assert controls.replicates <= PILOT
    return prepared, controls


@pytest.mark.parametrize(("problem", "estimator", "samples"), CASES)
@pytest.mark.matrix
def test_what_is_left_has_the_same_mean(problem: str, estimator: str, samples: int) -> None:
    """z of every coordinate against the exact gradient, over four seeds: Σ z² of k independent ones is within 6
    standard errors of k, were they independent; a chance of 1e-3 for coordinates that are not."""
    z: list[np.ndarray] = []
    for seed in range(4):
        prepared, controls = fitted(problem, estimator, samples, seed)
        kernel = Relieved(prepared.setting, controls)
        stream = Stream(kernel, "test", {n: -c for n, c in controls.constant.items()}, controls.constant)
        stream.extend(64)
        for name, moments in stream.moments.items():
            mean = moments.shift() + stream.centre[name] + stream.offset[name]
            error = np.sqrt(moments.variances() / moments.count)
            off = mean - prepared.exact.gradient[name]
            varies = error > 1e-12 * np.abs(prepared.exact.gradient[name]).max()
            z.append(off[varies] / error[varies])
    every = np.concatenate(z)
    assert np.abs(every).max() < 5.0
    assert np.mean(every**2) < 1.0 + 6.0 * np.sqrt(2.0 / len(every))


@dataclass(frozen=True)
class Twice(Pathwise):
    """Pathwise whose noise is not what the controls are made of: they cannot help."""

    name: ClassVar[str] = "twice"

    def estimate_integrand(self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any) -> Any:
        xp = backend.xp
        whole = {"base": xp.sign(noise["base"]) * xp.sqrt(xp.abs(noise["base"]) + 1e-3) * 0.0 + noise["base"]}
        found = super().estimate_integrand(backend, expectation, parameters, whole, state)
        wave = xp.cos(40.0 * noise["base"][:, 0])
        return {name: each + 30.0 * wave for name, each in found.items()}


def test_where_controls_do_not_help_they_are_left() -> None:
    """A fast wave hides all that polynomials know: the mean is judged by the estimates themselves."""
    row = measured(cell("square[dim=5]", Twice()))["all"]
    assert row["control_gain"] == 1.0


def test_no_pilot_where_the_first_look_certifies(monkeypatch: pytest.MonkeyPatch) -> None:
    from gradmeter.bench.measurement import cell as module

    def none(*given: Any) -> None:
        raise AssertionError("a pilot was drawn")

    monkeypatch.setattr(module, "fit", none)
    made = replace(cell("square[dim=6,loc=4,scale=0.1]", "pathwise"), goals=StoppingCriteria(bias_bound=0.9))
    assert measured(made)["all"]["verdict"] == "unbiased"


class Curved(Integrand):
    """−Σ_r log(1 + exp(a_r · z)) − ½ ‖z‖²."""

    unsupported: ClassVar[dict[str, str]] = {}

    def _predictor(self, xp: Any, data: dict[str, Any], z: Any) -> Any:
        return xp.matmul(z, xp.matrix_transpose(data["rows"]))

    def value(self, xp: Any, data: dict[str, Any], z: Any, noise: dict[str, Any]) -> Any:
        u = self._predictor(xp, data, z)
        return -xp.sum(xp.logaddexp(xp.zeros_like(u), u), axis=-1) - 0.5 * xp.sum(z * z, axis=-1)

    def gradient(self, xp: Any, data: dict[str, Any], z: Any, noise: dict[str, Any]) -> Any:
        return -xp.matmul(0.5 + 0.5 * xp.tanh(0.5 * self._predictor(xp, data, z)), data["rows"]) - z


@dataclass(frozen=True)
class ManyNumbers(Problem):
    """`dim` numbers that all interact, by `rank` directions."""

    name: ClassVar[str] = "many-numbers"
    entropy: ClassVar[str] = "sampled"
    q = Normal.Config(0.0, 0.3)
    integrand = Curved()
    dim: int = 80
    rank: int = 40

    @property
    def dimension(self) -> int:
        return self.dim

    def data(self) -> dict[str, np.ndarray]:
        rows = np.random.default_rng(0).normal(size=(self.rank, self.dim)) / np.sqrt(1.0 + np.arange(self.dim) / 5.0)
        return {"rows": rows}

    def exact(self) -> None:
        return None


@pytest.mark.parametrize(
    ("dim", "estimator", "gain"),
    [
        (80, "pathwise", 20.0),
        (80, "score-function", 500.0),
        pytest.param(1000, "pathwise", 10.0, marks=pytest.mark.slow),
    ],
)
def test_products_of_many_numbers(dim: int, estimator: str, gain: float) -> None:
    """Modelled from gradients of f; what is left has the mean of what it is taken off."""
    prepared = prepare(Cell(ManyNumbers(dim=dim), make_estimator(estimator), "numpy"))
    setting = prepared.setting
    controls = fit(setting, {n: np.zeros(size) for n, size in setting.sizes.items()}, DefensiveDraws(setting).widened)
    assert controls is not None
    noise = setting.host_noise("test", 0, 4096)
    plain = in_double(estimates_of(setting, noise))
    left = controls.relieved(noise, plain)
    assert sum(a.var(axis=0).sum() for a in plain.values()) > gain * sum(a.var(axis=0).sum() for a in left.values())
    for name, a in left.items():
        removed = plain[name] - a
        z = removed.mean(axis=0) / (removed.std(axis=0) / 64.0)
        assert np.abs(z).max() < 5.5
