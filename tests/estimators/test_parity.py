"""The same noise gives the same gradient on every backend (exact property 11): every estimator on every problem of the
Normal. Other families are in test_matrix."""

from __future__ import annotations

import numpy as np
import pytest

from gradmeter.estimators import NAMED_ALONE, VARIANTS
from gradmeter.estimators.backends.backend import Backend
from tests.parity import Case
from tests.support import (
    IN_THREE_DIMENSIONS,
    INTEGRAND_PROBLEMS,
    PLANTED,
    PROBLEMS,
    REGRESSIONS,
    TWO_FAMILIES,
    applies,
    covered,
)

EIGHT = ("injected-in-sample-coefficient", "injected-in-sample-coefficient[form=ratio]")
#: S = 1 is a shape of its own: checked where there are several coordinates, and with a minibatch.
ONE_SAMPLE = (*IN_THREE_DIMENSIONS, REGRESSIONS[0], REGRESSIONS[-1])
#: Estimators that share their arithmetic with others here: a covering subset of problems, the rest with the slow tests.
KIN = ("taylor", "price", "combined", "quadratic", "draws=sobol")
COVERING = (IN_THREE_DIMENSIONS[2], REGRESSIONS[4], REGRESSIONS[5])


def kin(estimator: str) -> bool:
    return any(part in estimator for part in KIN)


CASES = [
    pytest.param(problem, estimator, samples, marks=[pytest.mark.slow] * (kin(estimator) and problem not in COVERING))
    for problem in PROBLEMS
    for estimator in (*VARIANTS, *NAMED_ALONE, *PLANTED)
    if covered(problem, estimator)
    for samples in ((8,) if estimator in EIGHT else (1, 4) if problem in ONE_SAMPLE else (4,))
    if applies(problem, estimator, samples)
]
#: Integrands of other kinds: one of each estimator that asks something else of f.
INTEGRAND_CASES = [
    (problem, estimator, 4)
    for problem in INTEGRAND_PROBLEMS
    for estimator in (
        "score-function[baseline=leave-one-out]",
        "pathwise",
        "measure-valued",
        "measure-valued[coupling=false]",
        "taylor",
        "price",
    )
    if applies(problem, estimator, 4)
]
FLOAT32 = [*(c for c in CASES if c.values[1] not in PLANTED and c.values[2] == 4), *INTEGRAND_CASES]
#: One of each kind of estimator, and every kind of problem; compiled, that is what costs.
COMPILED = [
    ("square[k=1.37,loc=-0.6,scale=0.83,dim=3]", "score-function[baseline=leave-one-out]", 4),
    ("logistic-regression[loc=0.17,scale=0.71,batch=7]", "pathwise[antithetic=true]", 4),
    ("cosine[k=1.9,loc=0.45,scale=1.2]", "measure-valued", 1),
    (TWO_FAMILIES[0], "pathwise", 1),
    (TWO_FAMILIES[0], "score-function", 1),
    ("logistic-regression[loc=0.17,scale=0.71,batch=7]", "taylor", 4),
    (TWO_FAMILIES[0], "combined-control-variates", 4),
    ("square[k=1.37,loc=-0.6,scale=0.83,dim=3]", "pathwise[draws=sobol]", 4),
    ("categorical-square", "enumeration", 1),
    ("categorical-square", "partial-summation", 1),
]
COMPILED_SLOWLY = [
    pytest.param(p, e, 4, marks=pytest.mark.slow)
    for p in (PROBLEMS[4], PROBLEMS[6], PROBLEMS[11])
    for e in (*VARIANTS, *NAMED_ALONE, *PLANTED[:1])
    if applies(p, e, 4) and (p, e, 4) not in COMPILED
]


@pytest.mark.matrix
@pytest.mark.parametrize(("problem", "estimator", "samples"), [*CASES, *INTEGRAND_CASES])
def test_float64(differentiating: Backend, problem: str, estimator: str, samples: int) -> None:
    case = Case(problem, estimator, samples)
    case.check(case.on(differentiating), 1e-12)


@pytest.mark.matrix
@pytest.mark.parametrize(("problem", "estimator", "samples"), FLOAT32)
def test_float32(backend: Backend, problem: str, estimator: str, samples: int) -> None:
    case = Case(problem, estimator, samples, "float32")
    found = case.on(backend, dtype="float32")
    assert all(g.dtype == np.float32 for g in found.values())
    case.check(found, 1e-5)


@pytest.mark.parametrize(("problem", "estimator", "samples"), [*COMPILED, *COMPILED_SLOWLY])
@pytest.mark.matrix
def test_compiled(differentiating: Backend, problem: str, estimator: str, samples: int) -> None:
    case = Case(problem, estimator, samples)
    case.check(case.on(differentiating, compiled=True), 1e-12)
