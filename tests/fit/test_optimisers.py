"""Updates against the frameworks' own, and the natural gradient where one step is the optimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace

from gradmeter.bench.cells import make_problem
from gradmeter.bench.optimisation.optimisers import (
    LEAST_PRECISION,
    ImprovedLearningRule,
    Natural,
    OnlineNewton,
    make_optimiser,
)
from gradmeter.estimators import NotApplicable, UsageError
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.multivariate_normal import factor
from tests.support import needs

UNBOUND = Natural(rate=1.0, forgetting=0.0, clip=1e9)


def gradients(count: int) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(3)
    return [{"a": generator.normal(size=(2, 3)), "b": 100.0 * generator.normal(size=4)} for _ in range(count)]


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_steps_are_those_of_pytorch(name: str) -> None:
    needs("torch")
    import torch

    optimiser = make_optimiser(f"{name}[forgetting=0]", "0.03")
    parameters = {"a": np.full((2, 3), 0.4), "b": np.linspace(-1.0, 1.0, 4)}
    theirs = {key: torch.tensor(values, requires_grad=True) for key, values in parameters.items()}
    peer: Any = (torch.optim.Adam if name == "adam" else torch.optim.SGD)(theirs.values(), lr=0.03, maximize=True)
    memory = optimiser.initial(np, parameters)
    for t, gradient in enumerate(gradients(50), start=1):
        parameters, memory = optimiser.step(np, parameters, gradient, memory, optimiser.numbers(t))
        for key, tensor in theirs.items():
            tensor.grad = torch.tensor(gradient[key])
        peer.step()
        for key, tensor in theirs.items():
            np.testing.assert_allclose(parameters[key], tensor.detach().numpy(), rtol=1e-12)


def test_step_sizes_are_those_of_robbins_and_monro() -> None:
    optimiser = make_optimiser("sgd[rate=0.5,delay=4,forgetting=0.75]")
    assert [optimiser.step_size(t) for t in (1, 5, 61)] == [0.5, 0.5 * 2.0**-0.75, 0.5 * 16.0**-0.75]
    assert make_optimiser("adam[rate=0.5]").step_size(10**6) == 0.5


@pytest.mark.parametrize("start", [(0.0, 1.0), (-3.0, 0.9), (40.0, 7.0)])
def test_one_natural_step_is_the_optimum_of_a_normal_target(start: tuple[float, float]) -> None:
    """ELBO against N(m, s²), coordinates independent; its exact gradient (GROUND_TRUTH: q = p is the maximum)."""
    m, s = np.array([0.7, -1.3, 5.0]), np.array([0.3, 1.1, 0.02])
    here = {"loc": np.full(3, start[0]), "log_scale": np.log(np.full(3, start[1]))}
    variance = np.exp(2.0 * here["log_scale"])
    gradient = {"loc": (m - here["loc"]) / s**2, "log_scale": 1.0 - variance / s**2}
    found, _ = UNBOUND.step(np, here, gradient, {}, UNBOUND.numbers(1))
    np.testing.assert_allclose(found["loc"], m, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.exp(found["log_scale"]), s, rtol=1e-12)


def test_one_natural_step_of_a_regression_is_a_step_of_jacobi() -> None:
    """Its precision XᵀX + I is not diagonal: the scales are there at once, the means as Jacobi's iteration has them."""
    problem: Any = make_problem("linear-regression[loc=0.3,scale=0.2]")
    best, here = problem.optimum(), problem.parameters()
    data = problem.expectation().data
    precision = data["design"].T @ data["design"] + np.eye(problem.dimension)
    found, _ = UNBOUND.step(np, here, problem.exact().gradient, {}, UNBOUND.numbers(1))
    np.testing.assert_allclose(np.exp(-2.0 * found["log_scale"]), np.diag(precision), rtol=1e-12)
    residual = data["design"].T @ data["response"] - precision @ here["loc"]
    np.testing.assert_allclose(found["loc"], here["loc"] + residual / np.diag(precision), rtol=1e-12, atol=1e-14)
    for _ in range(400):  # half a step at a time converges, whatever Jacobi's own would do
        found, _ = Natural.step(np, found, problem.exact_at(found).gradient, {}, (0.4, 1e9))
    assert problem.exact_at(best).objective - problem.exact_at(found).objective < 0.02


def test_a_natural_step_is_held_back() -> None:
    """By the Fisher metric, and at half the precision."""
    here = {"loc": np.zeros(2), "log_scale": np.log(np.array([2.0, 0.5]))}
    gradient = {"loc": np.array([1e3, -2e3]), "log_scale": np.array([-1e4, 3e4])}
    found, _ = Natural.step(np, here, gradient, {}, (1.0, 1e-4))
    length = np.sum((found["loc"] / np.array([2.0, 0.5])) ** 2) + 2.0 * np.sum(
        (found["log_scale"] - here["log_scale"]) ** 2
    )
    assert np.sqrt(length) == pytest.approx(1e-4, rel=1e-3)
    found, _ = UNBOUND.step(np, here, gradient, {}, UNBOUND.numbers(1))
    assert found["log_scale"][1] == pytest.approx(np.log(0.5) - 0.5 * np.log(LEAST_PRECISION), rel=1e-14)


def test_what_cannot_be_is_refused() -> None:
    exponential = make_problem("polynomial[family=exponential]")
    with pytest.raises(NotApplicable, match="mean-field Normal, not for family exponential"):
        make_optimiser("natural").check(exponential.family, exponential.blocks)
    with pytest.raises(UsageError, match="did you mean 'adam'"):
        make_optimiser("adm")
    with pytest.raises(UsageError, match="leave one out"):
        make_optimiser("adam[rate=0.1]", "0.2")


D = 3


def full_rank(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {"loc": generator.normal(size=D), "cholesky": 0.4 * generator.normal(size=D * (D + 1) // 2)}


def gradient_of(at: dict[str, np.ndarray], by_loc: np.ndarray, by_covariance: np.ndarray) -> dict[str, np.ndarray]:
    """∂L/∂(loc, cholesky), from ∂L/∂μ and ∂L/∂Σ: the lower triangle of 2 (∂L/∂Σ) L, times L_ii on the diagonal."""
    lower = factor(get("numpy"), at)
    moved = 2.0 * by_covariance @ lower
    moved[np.diag_indices(D)] *= np.diag(lower)
    return {"loc": by_loc, "cholesky": moved[np.tril_indices(D)]}


def precision(at: dict[str, np.ndarray]) -> np.ndarray:
    lower = factor(get("numpy"), at)
    return np.asarray(np.linalg.inv(lower @ lower.T))


def test_one_step_of_von_is_the_optimum_of_a_normal_target() -> None:
    """ELBO against N(m, P⁻¹) with a full P: ∂μ = P (m − μ), ∂Σ = ½ (Σ⁻¹ − P). No precision may halve on the way."""
    here, target = full_rank(1), full_rank(2)
    m, p = target["loc"], precision(here) + 0.3 * precision(target)
    gradient = gradient_of(here, p @ (m - here["loc"]), 0.5 * (precision(here) - p))
    von = OnlineNewton(rate=1.0, forgetting=0.0, clip=1e9)
    found, _ = von.step(array_namespace(m), here, gradient, {}, von.numbers(1))
    np.testing.assert_allclose(found["loc"], m, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(precision(found), p, rtol=1e-11, atol=1e-11)


def test_von_in_one_dimension_is_natural() -> None:
    """The limits too: a long step, and a precision that would halve."""
    xp = array_namespace(np.zeros(1))
    for slope in (0.3, 0.9, 40.0):
        for options in ({}, {"clip": 1e9, "rate": 1.0}):
            gradient = {"loc": np.asarray([2.0]), "log_scale": np.asarray([slope])}
            natural, von = Natural(**options), OnlineNewton(**options)  # type: ignore[arg-type]
            here = {"loc": np.asarray([0.4]), "log_scale": np.asarray([-0.3])}
            expected, _ = natural.step(xp, here, gradient, {}, natural.numbers(1))
            there, _ = von.step(
                xp,
                {"loc": here["loc"], "cholesky": here["log_scale"]},
                {"loc": gradient["loc"], "cholesky": gradient["log_scale"]},
                {},
                von.numbers(1),
            )
            np.testing.assert_allclose(there["loc"], expected["loc"], rtol=1e-12)
            np.testing.assert_allclose(there["cholesky"], expected["log_scale"], rtol=1e-12)


def test_iblr_is_its_formula(backend: Backend) -> None:
    """Σ⁻¹ + ρ g + ½ρ² g Σ g, for a g that would make Σ⁻¹ + ρ g indefinite, and μ + ρ Σ ∂μ; on every backend."""
    here, generator = full_rank(3), np.random.default_rng(4)
    g = generator.normal(size=(D, D))
    g = g + g.T - 6.0 * np.eye(D)
    by_loc, rate = generator.normal(size=D), 0.7
    iblr = ImprovedLearningRule(rate=rate, forgetting=0.0, clip=1e9)
    on = [
        {name: backend.asarray(a, "float64") for name, a in blocks.items()}
        for blocks in (here, gradient_of(here, by_loc, -0.5 * g))
    ]
    found, _ = iblr.step(backend.xp, *on, {}, iblr.numbers(1))
    found = {name: backend.to_numpy(a) for name, a in found.items()}
    before = precision(here)
    assert np.linalg.eigvalsh(before + rate * g).min() < 0.0
    expected = before + rate * g + 0.5 * rate**2 * g @ np.linalg.inv(before) @ g
    np.testing.assert_allclose(precision(found), expected, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(found["loc"], here["loc"] + rate * np.linalg.solve(before, by_loc), rtol=1e-11)


def test_full_rank_optimisers_refuse_other_families() -> None:
    for name in ("von", "iblr"):
        with pytest.raises(NotApplicable, match=f"optimiser {name} is for the full-rank Normal"):
            make_optimiser(name).check(make_problem("square").family, ("loc", "log_scale"))
