"""Replicates that are no functions of their own noise, or not of the declared form, are refused with one clear line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest

import gradmeter
from gradmeter.bench.cells import Cell, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement import replicates as replicates_module
from gradmeter.bench.measurement.kernel import Setting, StatisticsKernel
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.measurement.replicates import check_estimates, check_largest
from gradmeter.bench.measurement.stream import pilot_mean
from gradmeter.estimators import Estimator, Noise, Requires, UsageError
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import mean_over_samples, spread
from tests.support import DISCRETE_PROBLEMS, INTEGRAND_PROBLEMS, REGRESSIONS, make_cell, needs

SQUARE = "square[k=1.3,loc=0.4,dim=3]"
OTHERS = ("torch", "jax")


@dataclass(frozen=True)
class Mine(Estimator):
    """A score function, with something done to its gradients, or to the values of f."""

    name: ClassVar[str] = "mine"
    summary: ClassVar[str] = "a score function, changed"
    requires: ClassVar[Requires] = Requires(("score", "score_identity"))

    #: (xp, {block: [R, *shape]}, noise) -> what is returned.
    change: Callable[..., Any] = field(default=lambda xp, gradients, noise: gradients, repr=False)
    #: (xp, f [R, S], noise) -> f.
    values: Callable[..., Any] = field(default=lambda xp, f, noise: f, repr=False)
    coin: bool = False

    def noise_specs(self, expectation: Any, num_samples: int, dimension: int) -> dict[str, Noise]:
        coin = {"coin": Noise("uniform", ())} if self.coin else {}
        return {**super().noise_specs(expectation, num_samples, dimension), **coin}

    def estimate_integrand(self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any) -> Any:
        xp, q = backend.xp, expectation.family
        z = q.sample(backend, parameters, noise)
        f = self.values(xp, expectation.value(backend, parameters, z, noise), noise)
        scores = q.score(backend, parameters, z)
        return self.change(xp, {n: mean_over_samples(xp, spread(f, s) * s) for n, s in scores.items()}, noise)


def of_each(change: Callable[[Any, Any], Any]) -> Mine:
    return Mine(lambda xp, gradients, noise: {name: change(xp, g) for name, g in gradients.items()})


def setting_of(
    estimator: Estimator, problem: str = SQUARE, samples: int = 6, backend: str = "numpy", **more: Any
) -> Setting:
    return prepare(Cell(make_problem(problem), estimator, backend, num_samples=samples, **more)).setting


def refused(estimator: Estimator, *said: str, **more: Any) -> None:
    with pytest.raises(UsageError) as caught:
        check_estimates(setting_of(estimator, **more))
    assert all(words in str(caught.value) for words in said), str(caught.value)
    assert "\n" not in str(caught.value)


def look_at_largest(setting: Setting) -> None:
    """What a measurement does after its first block."""
    if setting.draws_inside:  # then the kernel's own numbers are not looked at, and it takes long to compile
        return check_largest(setting, setting.roots("main"), 0, setting.zeros(), {})
    kernel = StatisticsKernel(setting)
    centre, roots = setting.to_device(pilot_mean(kernel)), setting.roots("main")
    found = kernel(roots, 0, centre)
    return check_largest(setting, roots, 0, centre, {name: sums[3][0] for name, sums in found.items()})


SHAPES = {
    "mean over replicates": (lambda xp, g: xp.mean(g, axis=0), "(3,)", "do not average over the replicates"),
    "mean, axis kept": (
        lambda xp, g: xp.mean(g, axis=0, keepdims=True),
        "(1, 3)",
        "do not average over the replicates",
    ),
    "mean over everything": (lambda xp, g: xp.mean(g), "numpy.float64", "return an array of numpy"),
    "seven rows": (lambda xp, g: g[:7], "(7, 3)", "one estimate for every replicate"),
    "trailing axis": (lambda xp, g: g[..., None], "(8, 3, 1)", "remove the last axis"),
    "samples kept": (lambda xp, g: xp.stack([g] * 6, axis=1), "(8, 6, 3)", "average over the samples"),
    "flattened": (lambda xp, g: xp.reshape(g, (-1,)), "(24,)", "one estimate for every replicate"),
    "complex": (lambda xp, g: g + 0.0j, "complex128", "real part"),
    "whole": (lambda xp, g: xp.astype(g, xp.int64), "int64", "real floating numbers"),
    "a list": (lambda xp, g: g.tolist(), "is list;", "return an array of numpy"),
}


@pytest.mark.parametrize("case", SHAPES)
def test_shapes_and_dtypes(case: str) -> None:
    change, *said = SHAPES[case]
    refused(of_each(change), "estimate of loc", *said)


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("case", ["mean over replicates", "seven rows", "trailing axis"])
def test_shapes_on_other_backends(case: str, backend: str) -> None:
    needs(backend)
    change, *said = SHAPES[case]
    refused(of_each(change), "estimate of loc", *said, backend=backend)


def test_an_array_of_another_framework() -> None:
    needs("jax")
    zeros = of_each(lambda xp, g: np.zeros(g.shape))
    refused(zeros, "estimate of loc is numpy.ndarray", "return an array of jax", backend="jax")


def test_another_dtype_than_the_cells() -> None:
    double = of_each(lambda xp, g: xp.astype(g, xp.float64))
    refused(double, "float64 in a cell of float32", "dtype of the noise", dtype="float32")
    check_estimates(setting_of(double))


def test_blocks() -> None:
    def renamed(**names: str | None) -> Mine:
        return Mine(lambda xp, g, noise: {new: g[old] for old in g if (new := names.get(old, old)) is not None})

    refused(renamed(log_scale=None), "no estimate of log_scale")
    refused(renamed(log_scale="log_sigma"), "log_sigma and none of log_scale", "loc, log_scale")
    refused(Mine(lambda xp, g, noise: {**g, "bias": g["loc"]}), "estimate of bias, which is no parameter block here")
    refused(Mine(lambda xp, g, noise: None), "returns None", "return a dict")
    refused(Mine(lambda xp, g, noise: (g["loc"], g["log_scale"])), "returns tuple;", "return a dict")


def test_no_mean_over_samples() -> None:
    """What README's example makes without its sum, and with it over the wrong axis."""

    @dataclass(frozen=True)
    class Unsummed(Mine):
        def estimate_integrand(
            self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any
        ) -> Any:
            z = expectation.family.sample(backend, parameters, noise)
            f = expectation.value(backend, parameters, z, noise)
            return {n: f[..., None] * s for n, s in expectation.family.score(backend, parameters, z).items()}

    @dataclass(frozen=True)
    class WrongAxis(Unsummed):
        def estimate_integrand(self, *given: Any) -> Any:
            return {n: given[0].xp.mean(g, axis=0) for n, g in super().estimate_integrand(*given).items()}

    refused(Unsummed(), "(8, 6, 3)", "average over the samples")
    refused(WrongAxis(), "(6, 3)", "where (8, 3) is wanted")
    refused(WrongAxis(), "depends on the other replicates", samples=8)


def over_batch(kind: str) -> Mine:
    """An estimator that looks at its whole call."""
    if kind == "mean":
        return Mine(values=lambda xp, f, noise: f - xp.mean(f))
    if kind == "scale":
        return of_each(lambda xp, g: g / xp.std(g, axis=0))
    if kind == "sort":
        return of_each(lambda xp, g: xp.sort(g, axis=0))
    if kind == "neighbour":
        return of_each(lambda xp, g: g + 0.01 * xp.roll(g, 1, axis=0))
    if kind == "place":
        return of_each(lambda xp, g: g * xp.cumulative_sum(xp.ones_like(g), axis=0))
    if kind == "slight":
        return of_each(lambda xp, g: g + 1e-6 * xp.mean(g, axis=0))
    raise ValueError(kind)


@pytest.mark.parametrize("kind", ["mean", "scale", "sort", "neighbour", "place", "slight"])
def test_estimates_that_depend_on_their_call(kind: str) -> None:
    refused(over_batch(kind), "depends on the other replicates of its call", "check the axes of mean, std, sort")


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("kind", ["mean", "neighbour"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_same_on_other_backends(kind: str, backend: str, dtype: str) -> None:
    needs(backend)
    refused(over_batch(kind), "depends on the other replicates of its call", backend=backend, dtype=dtype)


def test_how_many_replicates_there_are() -> None:
    """An axis mistaken: divided by R in place of S."""
    by_replicates = of_each(lambda xp, g: g * 6.0 / g.shape[0])
    refused(by_replicates, "depends on the other replicates of its call", "among 8", "alone")
    needs("jax")  # which is asked at the first real block
    setting = setting_of(by_replicates, backend="jax")
    check_estimates(setting)
    with pytest.raises(UsageError, match="depends on the other replicates of its call"):
        look_at_largest(setting)


def test_generators_of_an_estimators_own() -> None:
    generator = np.random.default_rng(3)
    hidden = of_each(lambda xp, g: g + generator.standard_normal(g.shape))
    refused(hidden, "the same noise gave", "declare everything random in `noise_specs`")
    seeded_alike = of_each(lambda xp, g: g + np.random.default_rng(3).standard_normal(g.shape))
    refused(seeded_alike, "depends on the other replicates of its call")
    calls: list[int] = []
    counting = of_each(lambda xp, g: g * (calls.append(0) or len(calls)))
    refused(counting, "keep nothing between calls")


LARGEST = {
    "clipped at 3": lambda xp, g: _clipped(xp, g, 3.0),
    "clipped at 10": lambda xp, g: _clipped(xp, g, 10.0),
    "first rows": lambda xp, g: xp.concat([g[:100], 0.5 * g[100:]], axis=0),
}


def _clipped(xp: Any, g: Any, deviations: float) -> Any:
    middle, reach = xp.mean(g, axis=0), deviations * xp.std(g, axis=0)
    return xp.minimum(xp.maximum(g, middle - reach), middle + reach)


@pytest.mark.parametrize("backend", ["numpy", "jax"])
@pytest.mark.parametrize("case", LARGEST)
def test_what_only_a_real_block_shows(case: str, backend: str) -> None:
    needs(backend)
    setting = setting_of(of_each(LARGEST[case]), "polynomial[degree=4,dim=1]", samples=1, backend=backend)
    with pytest.raises(UsageError, match=r"estimate of \w+ depends on the other replicates of its call: replicate \d"):
        look_at_largest(setting)


def test_rare_choices_are_no_dependence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A threshold that a single call crosses by rounding is not seen again on other noise."""
    found = [("loc", 3, 1.0, 0.0), None]
    monkeypatch.setattr(replicates_module, "_first_difference", lambda *given: found.pop(0) if found else None)
    check_estimates(setting_of(of_each(lambda xp, g: g)))
    assert not found


RIGHT = [
    *[(SQUARE, f"score-function[{o}]", 4) for o in ("baseline=leave-one-out", "baseline=fitted", "draws=stratified")],
    *[
        (SQUARE, e, 4)
        for e in ("pathwise[antithetic=true]", "pathwise[draws=sobol]", "measure-valued", "taylor", "price")
    ],
    *[(p, "pathwise", 1) for p in (REGRESSIONS[1], REGRESSIONS[5], *INTEGRAND_PROBLEMS[:3:2])],
    *[(p, e, 2) for p in DISCRETE_PROBLEMS for e in ("disarm", "rebar", "enumeration", "score-function")],
    ("linear-regression[family=multivariate-normal,at=fitted]", "pathwise[sticking-the-landing=true]", 1),
    ("gamma-poisson[family=gamma,concentration=2.3,rate=1.7,dim=3]", "pathwise", 2),
    ("square[k=1000,loc=3.3,dim=10]", "score-function[baseline=leave-one-out]", 2),
    ("linear-vae", "pathwise", 1),
    ("linear-vae[batch=16]", "score-function[baseline=leave-one-out]", 2),
]


@pytest.mark.matrix
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("problem", "estimator", "samples"), RIGHT)
def test_right_estimators_pass(problem: str, estimator: str, samples: int, dtype: str) -> None:
    cell = make_cell(problem, estimator, samples, dtype=dtype)
    if infeasible(cell) is None:
        setting = prepare(cell).setting
        check_estimates(setting)
        look_at_largest(setting)


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("case", [RIGHT[0], RIGHT[8], RIGHT[-2]])
def test_right_estimators_pass_on_other_backends(case: tuple[str, str, int], backend: str) -> None:
    needs(backend)
    check_estimates(prepare(make_cell(*case, backend, dtype="float32")).setting)


def test_not_finite_is_not_its_business() -> None:
    def undefined(xp: Any, g: Any) -> Any:
        return xp.where(g > 0.0, g * xp.nan, g * xp.inf)

    check_estimates(setting_of(of_each(undefined)))


def test_once_for_an_estimator_and_its_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """And again for every object that a user brings, even where two are equal."""
    monkeypatch.setattr(replicates_module, "_checked", {})
    looked: list[int] = []
    impurity = replicates_module._impurity
    monkeypatch.setattr(replicates_module, "_impurity", lambda *given: looked.append(0) or impurity(*given))

    def count(estimator: Any, problem: str = SQUARE) -> int:
        cell = make_cell(problem, estimator, 2) if isinstance(estimator, str) else None
        check_estimates(prepare(cell).setting if cell else setting_of(estimator, problem))
        return len(looked)

    assert count("pathwise") == 1
    assert count("pathwise", "square[k=2,loc=3,dim=3]") == 1
    assert count("pathwise", "square[k=2,loc=3,dim=4]") == 2

    def make(c: float) -> Estimator:
        @dataclass(frozen=True)
        class Scaled(Mine):
            name: ClassVar[str] = "scaled"

            def __eq__(self, other: object) -> bool:
                return type(self).__qualname__ == type(other).__qualname__

            def __hash__(self) -> int:
                return 1

        return Scaled(lambda xp, g, noise: {name: c * each for name, each in g.items()})

    first = make(1.0)
    assert count(first) == 3
    assert count(first) == 3
    assert count(make(3.0)) == 4


def test_what_changes_after_the_checks() -> None:
    """An estimate that is 1.2 times as large from its 31st call on: found out at the end of the measurement."""
    calls = [0]

    def later(xp: Any, g: Any, noise: Any) -> Any:
        calls[0] += 1
        return {name: (1.2 if calls[0] > 30 else 1.0) * each for name, each in g.items()}

    row = gradmeter.measure(SQUARE, Mine(later), samples=6, timing=False).iloc[-1]
    assert row["status"] == "exception"
    assert "not a function of its noise" in row["reason"]


def test_a_name_of_the_familys_noise() -> None:
    """Noise of another kind under the family's name would take its place."""

    class Colliding(Mine):
        name: ClassVar[str] = "colliding"

        def noise_specs(self, e: Any, S: int, D: int) -> Any:
            return {**super().noise_specs(e, S, D), "base": Noise("uniform", (D,))}

    with pytest.raises(UsageError, match="give it another name"):
        check_estimates(setting_of(Colliding(lambda xp, g, noise: g), SQUARE))
