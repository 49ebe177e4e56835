"""Options that floating-point numbers cannot follow: a reason, before anything is measured or called biased."""

from __future__ import annotations

import re

import pytest

from gradmeter.bench.cells import grid, make_estimator, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.feasibility.precision import unrepresentable
from gradmeter.bench.sweep.measuring import measure_cell
from gradmeter.estimators import FAMILIES, NotApplicable, UsageError
from gradmeter.estimators.options import describe
from tests.support import make_cell, measured

EXTREMES = ("1e300", "1e-300", "1e15", "1e-15", "-1e300")


def reason(problem: str, estimator: str = "pathwise", dtype: str = "float64") -> str | None:
    [cell] = grid([make_problem(problem)], [make_estimator(estimator)], dtype=[dtype])
    return infeasible(cell)


@pytest.mark.parametrize(
    ("problem", "dtype", "said"),
    [
        ("cosine[family=cauchy,loc=1e300]", "float64", "lie 0 apart"),
        ("cosine[family=weibull,shape=1e300]", "float64", "lie 0 apart"),
        ("cosine[family=log-normal,scale=1e-300]", "float64", "lie 0 apart"),
        ("cosine[family=log-normal,loc=-1e300]", "float64", "too small for float64"),
        ("cosine[family=log-normal,loc=1e300]", "float64", "overflow in float64"),
        ("cosine[family=mixture-of-normals,distance=1e15]", "float64", "5e+14 that lie"),
        ("cosine[family=cauchy,scale=1e300]", "float64", "between 8.6e-78 and 1.2e+77"),
        ("step[scale=1e-300]", "float64", "between 8.6e-78 and 1.2e+77"),
        ("step[loc=1e5]", "float32", "float32 at that size needs"),
        ("step[loc=1e5]", "float64", None),
        ("step[loc=1e3]", "float32", None),
        ("step[scale=1e12]", "float32", "fourth moments"),
        ("step[scale=1e12]", "float64", None),
    ],
)
def test_reasons(problem: str, dtype: str, said: str | None) -> None:
    found = reason(problem, dtype=dtype)
    assert (said is None) == (found is None)
    assert found is None or (said in found and "\n" not in found)


def test_weak_derivatives_of_narrow_laws() -> None:
    """1 − s is of the order of 1/α, so it takes twice the digits."""
    narrow = "polynomial[family=gamma,concentration=1e14]"
    assert "weak derivatives" in str(reason(narrow, "measure-valued"))
    assert reason(narrow) is None
    assert "weak derivatives" in str(reason("step[family=gamma,concentration=1e5]", "measure-valued", "float32"))
    assert reason("step[family=gamma,concentration=100]", "measure-valued", "float32") is None


@pytest.mark.parametrize("family", FAMILIES)
def test_every_option_of_every_family(family: str) -> None:
    """At extreme values each is refused in one line, or its samples can be told apart; with no warning."""
    for option, about in describe(FAMILIES[family].Config).items():
        for value in EXTREMES if about["type"] == "float" else ():
            try:
                problem = make_problem(f"cosine[family={family},dim=4,{option}={value}]")
            except (UsageError, NotApplicable):
                continue
            found = unrepresentable(problem.q, make_estimator("pathwise"), "none", 4, "float64")
            assert found is None or re.fullmatch(r"family \S+ (has|is|counts) [^\n]+", found), option


def test_exact_gradients_that_overflow() -> None:
    """A reason, not a verdict."""
    rows = measure_cell(make_cell("cosine[k=1e300]", "score-function", max_replicates=64)).rows
    assert all(row["status"] == "n/a" and "overflows" in row["reason"] for row in rows)


@pytest.mark.parametrize("df", [1e4, 1e12])
def test_student_t_of_many_degrees(df: float) -> None:
    """Its score in ν is a difference of large numbers, and was called biased for their rounding."""
    rows = measured(make_cell(f"polynomial[family=student-t,df={df}]", "score-function", max_replicates=64))
    assert all((row["verdict"], row["certificate"]) == ("unbiased", "integration") for row in rows.values())


@pytest.mark.parametrize(
    ("problem", "dtype", "said"),
    [
        ("bayesian-gaussian-mixture[at=cavi,bound=mean-field,sigma=1e-15]", "float64", "float64 at that size needs"),
        ("bayesian-gaussian-mixture[at=cavi,bound=mean-field,sigma=1e-8]", "float32", "float32 at that size needs"),
        ("bayesian-gaussian-mixture[at=cavi,bound=mean-field,sigma=1e-4]", "float64", None),
        ("linear-gaussian[dim=2,perturbation=1000]", "float32", None),
    ],
)
def test_points_that_no_options_give(problem: str, dtype: str, said: str | None) -> None:
    """λ of a fit is seen once there is one; it was called biased, or exact, for want of digits."""
    cell = make_cell(problem, "pathwise", dtype=dtype, max_replicates=2**14)
    assert infeasible(cell) is None
    row = measure_cell(cell).rows[-1]
    assert row["status"] == ("n/a" if said else "ok")
    assert said is None or said in row["reason"]


def test_an_encoder_that_gives_what_samples_cannot_be_told_apart_at(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = make_cell("linear-vae[size=6,batch=3]", "pathwise", max_replicates=64)
    far = {n: a + 1e17 if n == "encoder.0.bias" else a for n, a in cell.problem.parameters().items()}
    monkeypatch.setattr(type(cell.problem), "parameters", lambda problem: far)
    row = measure_cell(cell).rows[-1]
    assert row["status"] == "n/a"
    assert "overflow" in row["reason"] or "that lie" in row["reason"]
