"""Amortised inference: one source on three backends, with the backward passes written out or by autodiff."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_estimator, make_problem
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.problems.problem import LOG_2PI
from gradmeter.bench.problems.vae.coding import NormalEncoder
from gradmeter.estimators import VARIANTS, UsageError
from gradmeter.estimators.amortised import AmortisedExpectation
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from tests.support import applies, draws, estimate, make_cell, needs, state_of

PROBLEMS = (
    "linear-vae[size=7,batch=3]",
    "vae[size=9,hidden=5,depth=2,latent=3,likelihood=gaussian,at=initial,kl=analytic]",
    "vae[size=9,batch=4,hidden=5,at=initial]",
)
#: One of each kind.
ASKING = (
    "score-function[baseline=leave-one-out]",
    "score-function[baseline=input-dependent]",
    "rao-blackwell",
    "pathwise",
    "pathwise[draws=sobol]",
    "pathwise[sticking-the-landing=true]",
    "measure-valued",
)


def cases(estimators: tuple[str, ...], samples: int) -> list[tuple[str, str]]:
    return [(p, e) for p in PROBLEMS for e in estimators if applies(p, e, samples)]


def check(backend: Backend, problem: str, name: str, samples: int, compiled: bool = False) -> None:
    """NumPy's own backward passes against this backend's, written out and automatic; relative to the largest number of
    a block, whose terms are up to ten thousand times as large for values of f times scores."""
    made, at = make_estimator(name), make_problem(problem)
    expectation, parameters = at.expectation(), at.parameters()
    outer = expectation.estimated_by(made)
    noise = draws(outer.noise_specs(expectation, samples, at.dimension), 5)
    state = state_of(problem, name, samples)
    expected = estimate(get("numpy"), outer, expectation, parameters, noise, state)
    assert {n: g.shape[1:] for n, g in expected.items()} == {n: a.shape for n, a in parameters.items()}
    for differentiate in ("closed-form", "autodiff"):
        other = replace(at, differentiate=differentiate).expectation()  # type: ignore[type-var]
        found = estimate(backend, outer, other, parameters, noise, state, compiled=compiled)
        for block, values in expected.items():
            assert np.all(np.isfinite(values))
            assert np.abs(found[block] - values).max() <= 1e-10 * max(1.0, np.abs(values).max()), (differentiate, block)


@pytest.mark.parametrize(("problem", "estimator"), cases(ASKING, 4))
def test_parity(problem: str, estimator: str) -> None:
    needs("torch")
    check(get("torch"), problem, estimator, 4)


@pytest.mark.parametrize("problem", [*(pytest.param(p, marks=pytest.mark.slow) for p in PROBLEMS[:2]), PROBLEMS[2]])
def test_parity_of_compiled_jax(problem: str) -> None:
    needs("jax")
    check(get("jax"), problem, "pathwise", 1, compiled=True)


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_every_estimator(differentiating: Backend, problem: str, samples: int) -> None:
    for name in VARIANTS:
        if applies(problem, name, samples):
            check(differentiating, problem, name, samples, compiled=differentiating.name == "jax")


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_decoders_gradient_does_not_ask_which_estimator(numpy_backend: Backend, problem: str) -> None:
    """It is that of the same samples: to the last digit."""
    at = make_problem(problem)
    expectation, parameters = at.expectation(), at.parameters()
    found = []
    for name in ("score-function", "pathwise"):
        outer = expectation.estimated_by(make_estimator(name))
        noise = draws(outer.noise_specs(expectation, 3, at.dimension), 4)
        found.append(estimate(numpy_backend, outer, expectation, parameters, noise))
    for block in parameters:
        assert np.array_equal(found[0][block], found[1][block]) == block.startswith("decoder")


def test_nvil_learns_what_every_datum_expects() -> None:
    """b₀ + b_n against the exact E f_n of a linear VAE: nine tenths of how these differ from datum to datum."""
    problem: Any = make_problem("linear-vae[size=12,batch=3,at=initial]")
    state = prepare(make_cell(problem, "score-function[baseline=input-dependent]", 2)).setting.state
    at, x = problem.parameters(), problem.inputs()
    local = {n: a[0] for n, a in problem.encoder.apply(np, {"inputs": x, **at}, None).items()}
    weight, log_sigma = at["decoder.0.weight"], at["decoder.log_scale"][0]
    variance = np.exp(2.0 * local["log_scale"])
    away = x - local["loc"] @ weight - at["decoder.0.bias"]
    square = (away**2).sum(axis=1) + variance @ (weight**2).sum(axis=1)
    expected = -0.5 * square * np.exp(-2.0 * log_sigma) - 4.0 * (log_sigma + 0.5 * LOG_2PI)
    expected -= (0.5 * (local["loc"] ** 2 + variance - 1.0) - local["log_scale"]).sum(axis=1)
    assert expected.sum() == pytest.approx(problem.exact().objective, rel=1e-12)
    assert state["baseline_rows"].shape == (12,)
    learnt = state["baseline"] + state["baseline_rows"]
    assert np.mean((learnt - expected) ** 2) < 0.1 * expected.var()


def test_what_enters_exactly_needs_its_gradient() -> None:
    @dataclass(frozen=True)
    class Forgetful(NormalEncoder):
        exact_gradient: Any = None

    whole = make_problem("linear-vae[kl=analytic]").expectation()
    encoder, given = Forgetful(whole.encoder.network), (whole.integrand, whole.data)  # type: ignore[attr-defined]
    AmortisedExpectation(whole.family, given[0], encoder, given[1], "sampled")
    with pytest.raises(UsageError, match="add `exact_gradient` to Forgetful, or use entropy=sampled"):
        AmortisedExpectation(whole.family, given[0], encoder, given[1], "analytic")
