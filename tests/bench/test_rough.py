"""Step and absolute value: which estimators are right for what is not smooth, and what may be certified of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.integrate import integrate
from gradmeter.estimators import VARIANTS
from tests.support import Blocks, applies, estimate, make_cell, measured, setting_of, state_of

STEP = "step[k=0.4,loc=-0.6,scale=0.83]"
ABSOLUTE = "absolute-value[k=0.4,loc=-0.6,scale=0.83]"
#: Estimators of one number of noise, ε.
OF_ONE = (
    *(f"score-function[baseline={b}]" for b in ("none", "mean", "optimal")),
    "pathwise",
    *(f"taylor[hessian={h}]" for h in ("full", "diagonal", "product", "none")),
    "combined-control-variates",
    "quadratic-surrogate",
    "quadratic-surrogate[curvature=diagonal]",
)
#: Those that move samples by ∇f and nothing else.
BY_GRADIENT = ("pathwise", "taylor", "combined", "quadratic")


def mean_in_pieces(problem: str, estimator: str) -> Blocks:
    """E ĝ over ε by Gauss-Legendre rules on either side of where z = k."""
    cell = make_cell(problem, estimator)
    q: Any = cell.problem.q
    corner = (cell.problem.k - q.loc) / q.scale  # type: ignore[attr-defined]
    x, w = np.polynomial.legendre.leggauss(120)
    subintervals = [(-12.0, corner), (corner, 12.0)]
    base = np.concatenate([0.5 * (a + b) + 0.5 * (b - a) * x for a, b in subintervals])
    weights = np.concatenate([0.5 * (b - a) * w for a, b in subintervals])
    weights = weights * np.exp(-0.5 * base * base) / math.sqrt(2.0 * math.pi)
    setting = setting_of(problem, estimator, "numpy")
    expectation, parameters = cell.problem.expectation(), cell.problem.parameters()
    state = state_of(problem, estimator, 1)
    found = estimate(setting.backend, cell.estimator, expectation, parameters, {"base": base[:, None, None]}, state)
    return {block: weights @ values for block, values in found.items()}


@pytest.mark.parametrize("estimator", OF_ONE)
def test_all_are_right_for_the_absolute_value(estimator: str) -> None:
    """Those with a quadratic control variate too: it is a quadratic of z whatever the Hessian of f was taken for."""
    exact = make_cell(ABSOLUTE, estimator).problem.exact()
    assert exact is not None
    for block, mean in mean_in_pieces(ABSOLUTE, estimator).items():
        np.testing.assert_allclose(mean, exact.gradient[block], rtol=0.0, atol=1e-12)


@pytest.mark.parametrize("estimator", OF_ONE)
def test_gradients_miss_a_step(estimator: str) -> None:
    exact = make_cell(STEP, estimator).problem.exact()
    assert exact is not None
    for block, mean in mean_in_pieces(STEP, estimator).items():
        expected = np.zeros(1) if estimator.startswith(BY_GRADIENT) else exact.gradient[block]
        np.testing.assert_allclose(mean, expected, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (STEP, "price needs E ∇²f as the curvature of E f; problem step has ∇f = 0 wherever it has a gradient at all"),
        (ABSOLUTE, "price needs E ∇²f as the curvature of E f; problem absolute-value has ∇²f = 0 wherever"),
    ],
)
def test_identities_of_the_hessian_do_not_hold(problem: str, reason: str) -> None:
    found = infeasible(make_cell(problem, "price"))
    assert found is not None
    assert reason in found


#: Estimators whose noise has at most four numbers, so that they are integrated where f is smooth.
INTEGRATED = [e for e in VARIANTS if applies(ABSOLUTE, e, 1)]


@pytest.mark.parametrize("estimator", INTEGRATED)
def test_no_certificate_by_grids(estimator: str) -> None:
    """Even where a grid is right by symmetry, or cannot see that there is a jump."""
    for options in ("k=0.4,loc=-0.6,scale=0.83", "k=0.3,loc=0.3", "k=6.5"):
        for problem in ("step", "absolute-value"):
            assert integrate(setting_of(f"{problem}[{options}]", estimator, "numpy")) is None


@pytest.mark.parametrize("estimator", ["score-function", "measure-valued"])
@pytest.mark.parametrize(
    "options",
    [
        "polynomial[family=poisson,rate=1e-7]",
        "polynomial[family=poisson,rate=1.7,degree=6]",
        "exponential-moment[family=poisson,rate=2,t=1]",
    ],
)
def test_counts_are_no_bias(options: str, estimator: str) -> None:
    """Enumerated, a count is as probable as floating point makes it: where f grows fast, that is not to rounding."""
    for row in measured(make_cell(options, estimator, max_replicates=2**17)).values():
        assert row["verdict"] != "biased"


@pytest.mark.parametrize(
    ("problem", "estimator", "verdict"),
    [
        (STEP, "pathwise", "biased"),
        (STEP, "pathwise[antithetic=true]", "biased"),
        (STEP, "taylor", "biased"),
        (STEP, "score-function[baseline=mean]", "unbiased"),
        (STEP, "measure-valued", "unbiased"),
        ("step[family=gamma,concentration=2.3,rate=1.7,k=0.9]", "pathwise", "biased"),
        ("step[family=gamma,concentration=2.3,rate=1.7,k=0.9]", "score-function[baseline=mean]", "unbiased"),
        ("step[family=uniform,low=-0.3,high=1.4,k=0.5]", "pathwise", "biased"),
        ("step[family=exponential,rate=1.7,k=0.5]", "measure-valued", "unbiased"),
        (ABSOLUTE, "pathwise", "unbiased"),
        (ABSOLUTE, "taylor", "unbiased"),
        ("absolute-value[family=gamma,concentration=2.3,rate=1.7,k=0.9]", "pathwise", "unbiased"),
        ("absolute-value[family=laplace,k=0.5]", "pathwise", "unbiased"),
    ],
)
def test_verdicts(problem: str, estimator: str, verdict: str) -> None:
    """A right estimator is called biased once in 1e7; one seed, fixed. `unbiased` is a bound of 5 %."""
    rows = measured(make_cell(problem, estimator, max_replicates=2**20, bias_bound=0.05, precision=0.2))
    assert {row["certificate"] for row in rows.values()} == {"sampling"}
    assert rows["all"]["verdict"] == verdict
    assert rows["all"]["exact_source"] in ("closed-form", "quadrature", "enumeration")


@pytest.mark.parametrize("k", [4.9, 6.5, 9.0])
@pytest.mark.parametrize(("estimator", "verdict"), [("score-function", "inconclusive"), ("pathwise", "biased")])
def test_a_step_far_out(estimator: str, k: float, verdict: str) -> None:
    """A step so rare that hardly a replicate sees it: defensive draws tell a score function, which is right, from a
    path, whose gradient is 0 everywhere. However small the gradient is, 0 is not it."""
    for row in measured(make_cell(f"step[k={k}]", estimator, max_replicates=2**18)).values():
        assert row["verdict"] == verdict
