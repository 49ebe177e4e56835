"""Identities that hold at the same noise, sample by sample: no statistics (exact properties 2 to 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradmeter.estimators import Expectation, Integrand, Normal
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Estimator
from tests.support import ON_NORMAL, Blocks, draws, estimate, make_estimator

REPLICATES = 7
#: Compilers take subnormal numbers for 0.
numbers = st.floats(-3.0, 3.0, allow_subnormal=False)
scales = st.floats(0.05, 4.0)

#: Sticking the landing is for ELBOs alone, which have tests of their own.
#: Those that share all their arithmetic with another are with the slow tests.
ALIKE = (
    "score-function[baseline=mean,draws=sobol]",
    "taylor[hessian=diagonal]",
    "taylor[hessian=none]",
    "combined-control-variates[controls=score]",
    "quadratic-surrogate[curvature=diagonal]",
    "score-function[baseline=fitted]",
    "rao-blackwell[baseline=none]",
    "rao-blackwell[baseline=leave-one-out]",
)
#: Those that a Normal takes, and an f without entropy and minibatch.
TAKEN = tuple(v for v in ON_NORMAL if "sticking" not in v and "input-dep" not in v)
ANY_F = tuple(pytest.param(v, marks=[pytest.mark.slow] * (v in ALIKE)) for v in TAKEN)
WEAK = ("measure-valued", "measure-valued[coupling=false]")
LEAVE_ONE_OUT = "score-function[baseline=leave-one-out]"


class Polynomial(Integrand):
    """constant + slope·z + zᵀ bend z + cube·Σ z³ + wave Σ cos z, gradients and Hessian included."""

    def value(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        z = z @ data["turn"]
        bent = xp.sum((z @ data["bend"]) * z, axis=-1)
        odd = xp.sum(data["slope"] * z + data["cube"] * z**3 + data["wave"] * xp.cos(z), axis=-1)
        return data["constant"] + odd + bent

    def gradient(self, xp: Any, data: Any, z: Any, noise: Any) -> Any:
        z = z @ data["turn"]
        curved = z @ (data["bend"] + data["bend"].T)
        inner = data["slope"] + 3.0 * data["cube"] * z**2 - data["wave"] * xp.sin(z) + curved
        return inner @ data["turn"].T

    def hessian_product(self, xp: Any, data: Any, z: Any, vector: Any, noise: Any) -> Any:
        z, vector = z @ data["turn"], vector @ data["turn"]
        own = 6.0 * data["cube"] * z - data["wave"] * xp.cos(z)
        return (own * vector + vector @ (data["bend"] + data["bend"].T)) @ data["turn"].T


def polynomial(dimension: int, **coefficients: Any) -> Blocks:
    """Data of `Polynomial`: zero but for what is given, every array of full shape so that all are alike."""
    shapes = {"constant": (), "slope": (dimension,), "bend": (dimension, dimension), "cube": (), "wave": ()}
    data = {name: np.zeros(shape) + coefficients.get(name, 0.0) for name, shape in shapes.items()}
    return {**data, "turn": np.asarray(coefficients.get("turn", np.eye(dimension)))}


@dataclass
class Point:
    """An estimator with its noise at a λ, on a backend: what an identity is checked at."""

    backend: Backend
    estimator: Estimator
    samples: int
    loc: np.ndarray
    scale: np.ndarray
    seed: int = 0

    @property
    def noise(self) -> Blocks:
        expectation = Expectation(Normal(), Polynomial(), {})
        specs = self.estimator.noise_specs(expectation, self.samples, len(self.loc))
        return draws(specs, REPLICATES, self.seed)

    @property
    def parameters(self) -> Blocks:
        return {"loc": self.loc, "log_scale": np.log(self.scale)}

    def state(self, factor: float) -> Blocks:
        """What is fitted elsewhere: a baseline or a quadratic that scales with f and with λ, as fitted ones do;
        coefficients of control variates, of which that of the score does."""
        names = {
            "optimal": ("baseline_loc", "baseline_log_scale"),
            "fitted": ("baseline_loc", "baseline_log_scale"),
            "mean": ("baseline",),
            "moving-average": ("baseline",),
        }
        if self.estimator.name == "quadratic-surrogate":
            slope = 0.7 * factor / self.scale
            return {"slope": slope, "curvature": 0.4 * factor * np.diag(1.0 / self.scale**2)}
        if self.estimator.name == "combined-control-variates":
            each = np.asarray([0.7 * factor, 0.4, -0.3])[:, None] + np.zeros(len(self.loc))
            return {"coefficient_loc": each, "coefficient_log_scale": 2.0 * each}
        return dict.fromkeys(names.get(getattr(self.estimator, "baseline", ""), ()), np.asarray(0.7 * factor))

    def __call__(self, noise: Blocks | None = None, factor: float = 1.0, **coefficients: Any) -> Blocks:
        expectation = Expectation(Normal(), Polynomial(), polynomial(len(self.loc), **coefficients))
        noise = self.noise if noise is None else noise
        arguments = (self.estimator, expectation, self.parameters, noise, self.state(factor))
        # Eager JAX would compile its loops anew at every call.
        return estimate(self.backend, *arguments, compiled=self.backend.name == "jax")


def point(backend: Backend, text: str, samples: int = 4, dimension: int = 3, **more: Any) -> Point:
    """At a λ nobody tuned for."""
    loc = more.pop("loc", np.asarray([0.31, -1.7, 0.92])[:dimension])
    scale = more.pop("scale", np.asarray([0.83, 1.4, 0.27])[:dimension])
    return Point(backend, make_estimator(text), samples, np.asarray(loc), np.asarray(scale), **more)


def close(found: Blocks, expected: Blocks, size: float) -> None:
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=0.0, atol=1e-12 * size, err_msg=name)


def largest(*results: Blocks) -> float:
    return max(1.0, *(float(np.abs(g).max()) for result in results for g in result.values()))


@pytest.mark.matrix
@pytest.mark.parametrize("estimator", ANY_F)
@pytest.mark.parametrize("samples", [2, 4])
@given(a=numbers, b=numbers, seed=st.integers(0, 2**32))
def test_linear_in_f(backend: Backend, estimator: str, samples: int, a: float, b: float, seed: int) -> None:
    at = point(backend, estimator, samples, seed=seed)
    first, second = {"cube": 0.3, "slope": 1.1}, {"wave": 2.0, "bend": 0.4, "constant": -0.8}
    one, other = at(factor=1.0, **first), at(factor=1.0, **second)
    both = at(factor=a + b, **{k: a * v for k, v in first.items()}, **{k: b * v for k, v in second.items()})
    expected = {name: a * one[name] + b * other[name] for name in one}
    # The terms are values of f, of order 100 over these samples, divided by scales of 0.27.
    close(both, expected, 1e3 * (1.0 + abs(a) + abs(b)) * largest(one, other))


@pytest.mark.matrix
@pytest.mark.parametrize("estimator", ANY_F)
@given(shift=numbers, stretch=scales)
def test_translation_and_scale(backend: Backend, estimator: str, shift: float, stretch: float) -> None:
    """f(z) = h((z − shift)/stretch) at (shift + stretch μ, stretch σ): ∂loc is divided by stretch, ∂log σ is kept."""
    at = point(backend, estimator)
    shape = {"slope": 0.9, "bend": np.diag([0.4, -0.2, 1.0])}
    plain = at(**shape)
    slope, bend = np.full(3, 0.9), np.diag([0.4, -0.2, 1.0])
    offset = np.full(3, shift)
    moved = point(backend, estimator, loc=shift + stretch * at.loc, scale=stretch * at.scale)(
        constant=-slope @ offset / stretch + offset @ bend @ offset / stretch**2,
        slope=slope / stretch - 2.0 * bend @ offset / stretch**2,
        bend=bend / stretch**2,
    )
    expected = {"loc": plain["loc"] / stretch, "log_scale": plain["log_scale"]}
    rounding = 1e3 * (1.0 + abs(shift) / stretch) ** 2 * (1.0 + 1.0 / stretch)
    close(moved, expected, rounding * largest(plain))


@pytest.mark.parametrize("estimator", ["score-function", LEAVE_ONE_OUT, "pathwise", "pathwise[antithetic=true]"])
@given(angle=st.floats(-3.1, 3.1))
def test_rotation(backend: Backend, estimator: str, angle: float) -> None:
    """Isotropic q: turning f, μ and the noise turns ∂loc."""
    turn = np.asarray([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    at = point(backend, estimator, dimension=2, scale=np.full(2, 0.6))
    turned = point(backend, estimator, loc=turn @ at.loc, scale=at.scale)
    shape = {"cube": 0.3, "slope": np.asarray([1.0, -2.0]), "wave": 0.7}
    plain = at(**shape)
    found = turned(noise={"base": at.noise["base"] @ turn.T}, **shape, turn=turn)  # z @ turn is the old z again
    close({"loc": found["loc"]}, {"loc": plain["loc"] @ turn.T}, 1e3 * largest(plain))


@given(slope=st.tuples(numbers, numbers))
def test_pathwise_of_a_linear_f(backend: Backend, slope: tuple[float, float]) -> None:
    """∂loc is the slope, every sample of it; a coordinate that f does not use gets exactly 0."""
    at = point(backend, "pathwise", samples=1)
    found = at(slope=np.asarray([slope[0], 0.0, slope[1]]))
    np.testing.assert_array_equal(found["loc"], np.tile([slope[0], 0.0, slope[1]], (REPLICATES, 1)))
    np.testing.assert_array_equal(found["log_scale"][:, 1], np.zeros(REPLICATES))


def test_antithetic_pathwise(backend: Backend) -> None:
    at = point(backend, "pathwise[antithetic=true]")
    bend = np.asarray([[0.5, 0.2, 0.0], [0.2, -1.0, 0.3], [0.0, 0.3, 2.0]])
    quadratic = at(bend=bend, slope=0.8)
    np.testing.assert_allclose(quadratic["loc"], np.tile(2.0 * bend @ at.loc + 0.8, (REPLICATES, 1)), atol=1e-13)
    assert np.ptp(quadratic["log_scale"]) > 0.1
    np.testing.assert_allclose(at(slope=np.asarray([0.8, -3.0, 1.1]))["log_scale"], 0.0, atol=1e-14)


@given(constant=numbers)
def test_constant_f(backend: Backend, constant: float) -> None:
    """f = c: the score function gives c times the score, pathwise and measure-valued 0, leave-one-out 0."""
    at = point(backend, "score-function", samples=1)
    base = at.noise["base"].reshape(REPLICATES, 3)
    score = {"loc": base / at.scale, "log_scale": base**2 - 1.0}
    close(at(constant=constant), {name: constant * s for name, s in score.items()}, 10.0 * largest(score))
    for estimator in ("pathwise", *WEAK, LEAVE_ONE_OUT):
        for name, found in point(backend, estimator)(constant=constant).items():
            np.testing.assert_allclose(found, 0.0, atol=1e-13, err_msg=f"{estimator} {name}")


@given(constant=st.floats(-1e3, 1e3))
def test_leave_one_out_ignores_a_constant(backend: Backend, constant: float) -> None:
    at = point(backend, LEAVE_ONE_OUT)
    shape = {"cube": 0.3, "wave": 1.0}
    close(at(constant=constant, **shape), at(**shape), 100.0 * (1.0 + abs(constant)))


def test_leave_one_out_of_two(backend: Backend) -> None:
    """S = 2 is ½ (f₁ − f₂)(s₁ − s₂)."""
    at = point(backend, LEAVE_ONE_OUT, samples=2)
    base = at.noise["base"]
    z = at.loc + at.scale * base
    value = (0.3 * z**3 + np.cos(z)).sum(axis=-1, keepdims=True)
    score = {"loc": base / at.scale, "log_scale": base**2 - 1.0}
    expected = {n: 0.5 * (value[:, 0] - value[:, 1]) * (s[:, 0] - s[:, 1]) for n, s in score.items()}
    close(at(cube=0.3, wave=1.0), expected, 10.0 * largest(expected))


@pytest.mark.parametrize("estimator", [LEAVE_ONE_OUT, "score-function", "pathwise", "measure-valued"])
@given(order=st.permutations(range(4)))
def test_symmetric_in_the_samples(backend: Backend, estimator: str, order: list[int]) -> None:
    at = point(backend, estimator)
    shuffled = {name: values[:, order] for name, values in at.noise.items()}
    plain = at(cube=0.3, wave=1.0)
    close(at(noise=shuffled, cube=0.3, wave=1.0), plain, 100.0 * largest(plain))


def test_coupled_measure_valued_of_an_even_f(backend: Backend) -> None:
    """f even in z_i about μ_i: ∂loc_i is 0 at every sample; nothing follows for ∂log σ, nor without coupling."""
    at = point(backend, "measure-valued", loc=np.zeros(3))
    found = at(bend=np.diag([1.0, -0.4, 0.2]), wave=0.9)
    np.testing.assert_array_equal(found["loc"], np.zeros((REPLICATES, 3)))
    assert np.all(np.abs(found["log_scale"]) > 0.0)
    apart = point(backend, "measure-valued[coupling=false]", loc=np.zeros(3))
    assert np.all(np.abs(apart(bend=np.diag([1.0, -0.4, 0.2]), wave=0.9)["loc"]) > 0.0)


#: All but those whose samples need each other.
AVERAGED = [v for v in TAKEN if not any(part in v for part in ("cross", "stratified", "sobol"))]


@pytest.mark.matrix
@pytest.mark.parametrize("estimator", AVERAGED)
def test_more_samples_are_an_average(backend: Backend, estimator: str) -> None:
    """S = 4 is the mean of its samples' own estimates; leave-one-out, of the estimates of its pairs."""
    at = point(backend, estimator)
    whole, noise = at(cube=0.3, wave=1.0), at.noise
    groups = [[0], [1], [2], [3]]
    if "leave-one-out" in estimator:
        groups = [[i, j] for i in range(4) for j in range(i)]
    elif "antithetic" in estimator:
        groups = [[0], [1]]
    parts = [at(noise={k: a[:, g] for k, a in noise.items()}, cube=0.3, wave=1.0) for g in groups]
    expected = {name: np.mean([part[name] for part in parts], axis=0) for name in whole}
    close(whole, expected, 100.0 * largest(whole))
