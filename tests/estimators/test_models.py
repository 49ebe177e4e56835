"""Estimators on models whose likelihood or whose q is another: the same on every backend."""

from __future__ import annotations

import pytest

from gradmeter.estimators import VARIANTS
from gradmeter.estimators.backends import get
from gradmeter.estimators.backends.backend import Backend
from tests.parity import Case
from tests.support import MODELS, applies, needs

#: One of each kind, and those that ask what others do not: Hessian products, local terms, one coordinate replaced.
ASKING = (
    "score-function[baseline=leave-one-out]",
    "pathwise",
    "measure-valued",
    "taylor[hessian=full]",
    "rao-blackwell[baseline=leave-one-out]",
)


def cases(estimators: tuple[str, ...], samples: int = 4) -> list[tuple[str, str]]:
    return [(m, e) for m in MODELS for e in estimators if applies(m, e, samples)]


@pytest.mark.parametrize(("model", "estimator"), cases(ASKING))
def test_float64(model: str, estimator: str) -> None:
    needs("torch")
    case = Case(model, estimator, 4)
    case.check(case.on(get("torch")), 1e-12)


@pytest.mark.parametrize("model", MODELS[1:3])
def test_compiled(model: str) -> None:
    needs("jax")
    case = Case(model, "pathwise", 4)
    case.check(case.on(get("jax"), compiled=True), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "estimator"), cases(VARIANTS))
def test_every_estimator(differentiating: Backend, model: str, estimator: str) -> None:
    case = Case(model, estimator, 4)
    case.check(
        case.on(differentiating, compiled=differentiating.name == "jax"), 1e-12
    )  # eager, it compiles piece by piece


@pytest.mark.slow
@pytest.mark.parametrize(("model", "estimator"), cases(("score-function", "pathwise", "measure-valued"), 1))
def test_one_sample_compiled(differentiating: Backend, model: str, estimator: str) -> None:
    case = Case(model, estimator, 1)
    case.check(case.on(differentiating, compiled=True), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "estimator"), cases(ASKING))
def test_float32(backend: Backend, model: str, estimator: str) -> None:
    case = Case(model, estimator, 4, "float32")
    case.check(case.on(backend, dtype="float32", compiled=backend.name == "jax"), 1e-5)
