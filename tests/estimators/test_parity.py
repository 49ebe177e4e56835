"""The same noise gives the same gradient on every backend (exact property 11)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.sweep.cells import NAMED_ALONE, VARIANTS
from estimators import draws as drawing
from tests.support import (
    FAMILY_PROBLEMS,
    IN_THREE_DIMENSIONS,
    INTEGRAND_PROBLEMS,
    MORE_FAMILY_PROBLEMS,
    OTHER_FAMILY_PROBLEMS,
    PLANTED,
    PROBLEMS,
    REGRESSIONS,
    Blocks,
    applies,
    covered,
    draws,
    estimate,
    make_cell,
    state_of,
    tolerance,
)

REPLICATES = 6
#: One of each kind of estimator, for what is special about a family.
PLAIN = (
    "score-function[baseline=leave-one-out]",
    "pathwise",
    "measure-valued",
    "measure-valued[coupling=false]",
    "rejection-reparameterisation",
    "stratified-pathwise",
)
EIGHT = ("planted-in-sample-coefficient", "planted-in-sample-coefficient[form=ratio]")
#: S = 1 is a shape of its own: checked where there are several coordinates, and with a minibatch.
ONE_SAMPLE = (*IN_THREE_DIMENSIONS, REGRESSIONS[0], REGRESSIONS[-1], *FAMILY_PROBLEMS)
#: Estimators that share their arithmetic with others here: a covering subset of problems, the rest with the slow tests.
KIN = ("taylor", "price", "combined", "quadratic", "draws=sobol")
COVERING = (IN_THREE_DIMENSIONS[2], REGRESSIONS[4], REGRESSIONS[5], *FAMILY_PROBLEMS)


def kin(estimator: str) -> bool:
    return any(part in estimator for part in KIN)


CASES = [
    pytest.param(problem, estimator, samples, marks=[pytest.mark.slow] * (kin(estimator) and problem not in COVERING))
    for problem in (*PROBLEMS, *FAMILY_PROBLEMS)
    for estimator in (*VARIANTS, *NAMED_ALONE, *PLANTED)
    if covered(problem, estimator)
    for samples in ((8,) if estimator in EIGHT else (1, 4) if problem in ONE_SAMPLE else (4,))
    if applies(problem, estimator, samples)
]
#: What a family computes: its score, its path, its mirror image; the estimators' own arithmetic is covered above.
FAMILY_CASES = [
    (problem, estimator, 4)
    for problem in MORE_FAMILY_PROBLEMS
    for estimator in ("score-function", "pathwise", "pathwise[antithetic=true]")
    if applies(problem, estimator, 4)
] + [
    (p, e, 4)
    for problems, estimators in ((OTHER_FAMILY_PROBLEMS, PLAIN), (INTEGRAND_PROBLEMS, (*PLAIN, "taylor", "price")))
    for p in problems
    for e in estimators
    if applies(p, e, 4)
]
FLOAT32 = [*(c for c in CASES if c.values[1] not in PLANTED and c.values[2] == 4), *FAMILY_CASES]
#: One of each kind of estimator, and every kind of problem; compiled, that is what costs.
COMPILED = [
    ("square[k=1.37,loc=-0.6,scale=0.83,dim=3]", "score-function[baseline=leave-one-out]", 4),
    ("logistic-regression[loc=0.17,scale=0.71,batch=7]", "pathwise[antithetic=true]", 4),
    ("cosine[k=1.9,loc=0.45,scale=1.2]", "measure-valued", 1),
    (FAMILY_PROBLEMS[0], "pathwise", 1),
    (FAMILY_PROBLEMS[0], "score-function", 1),
    ("logistic-regression[loc=0.17,scale=0.71,batch=7]", "taylor", 4),
    (FAMILY_PROBLEMS[0], "combined-control-variates", 4),
    ("square[k=1.37,loc=-0.6,scale=0.83,dim=3]", "pathwise[draws=sobol]", 4),
]
COMPILED_SLOWLY = [
    *(
        (p, e, 4)
        for p in (PROBLEMS[4], PROBLEMS[6], PROBLEMS[11])
        for e in (*VARIANTS, *NAMED_ALONE, *PLANTED[:1])
        if applies(p, e, 4)
    ),
    *FAMILY_CASES,
]
#: Every estimator with every family.
WHOLE = [
    (p, e, s)
    for p in MORE_FAMILY_PROBLEMS + OTHER_FAMILY_PROBLEMS
    for e in VARIANTS
    for s in (1, 4)
    if applies(p, e, s)
]


class Case:
    """One cell's NumPy estimate in float64, with the noise and state it was made from."""

    def __init__(self, problem: str, estimator: str, samples: int, dtype: str = "float64") -> None:
        self.cell = make_cell(problem, estimator, samples)
        self.expectation, self.parameters = self.cell.problem.expectation(), self.cell.problem.parameters()
        specs = self.cell.estimator.noise_specs(self.expectation, samples, self.cell.problem.dimension)
        # Rounded to `dtype` first, so that every backend sees the same numbers.
        self.noise = {
            name: a if a.dtype.kind == "i" else a.astype(dtype).astype("float64")
            for name, a in draws(specs, REPLICATES).items()
        }
        self.state = state_of(problem, estimator, samples)

    def on(self, backend: Any, **more: Any) -> Blocks:
        arguments = (self.cell.estimator, self.expectation, self.parameters, self.noise, self.state)
        return estimate(backend, *arguments, **more)

    def scale(self, backend: Any, found: Blocks) -> dict[str, float]:
        """The size of the terms that are added up, by parameter block, since ĝ may be a small difference of them.

        Terms are the estimate itself and, one sample at a time, |f| |score| for an estimator built from values of f
        (|f| times the weight too for `measure-valued`, where that may be random), |∇f| |∂z/∂λ| + |score| for one built
        from its gradient; both for a planted bug.
        """
        estimator, family = self.cell.estimator, self.expectation.family
        expectation, parameters = self.expectation.at(self.parameters)
        drawn = drawing.from_uniforms(backend, family, self.noise)
        # Without base noise D = 1: ± 2 σ. Without a component, it is summed over: any will do.
        noise = {"base": np.asarray([[-2.0], [2.0]]), "component": np.asarray([[0.3]]), **drawn}
        z = family.sample(backend, parameters, noise)
        score = family.score(backend, parameters, z)
        built = estimator.requirements(self.cell.problem.entropy).integrand
        sizes = {name: np.abs(found[name]).max() for name in score}
        if not built or estimator.planted:
            value = np.abs(expectation.value(backend, parameters, z, self.noise)).max()
            sizes = {name: size + value * np.abs(score[name]).max() for name, size in sizes.items()}
            if estimator.name == "measure-valued":
                weak = family.weak_derivatives(backend, parameters, self.noise, estimator.coupling)
                sizes = {name: size + value * np.abs(weak[name][0]).max() for name, size in sizes.items()}
        if built:
            slope = np.abs(expectation.gradient(backend, parameters, z, self.noise)).max()
            path = family.pathwise(backend, parameters, noise, z, np.full_like(z, slope))
            sizes = {name: size + np.abs(path[name]).max() + np.abs(score[name]).max() for name, size in sizes.items()}
        model = [name for name in found if name not in score]
        if model:  # derivatives of f in its own parameters, summed over the data as f is
            value = np.abs(expectation.value(backend, parameters, z, self.noise)).max()
            sizes |= {name: np.abs(found[name]).max() + value for name in model}
        return {name: float(size) for name, size in sizes.items()}


def check(case: Case, numpy_backend: Any, found: Blocks, relative: float) -> None:
    reference = case.on(numpy_backend)
    scale = case.scale(numpy_backend, reference)
    assert found.keys() == reference.keys()
    for name, expected in reference.items():
        assert found[name].shape == expected.shape == (REPLICATES, *case.parameters[name].shape)
        assert np.abs(found[name] - expected).max() <= relative * scale[name], name


@pytest.mark.parametrize(("problem", "estimator", "samples"), CASES + FAMILY_CASES)
def test_float64(differentiating: Any, numpy_backend: Any, problem: str, estimator: str, samples: int) -> None:
    case = Case(problem, estimator, samples)
    compiled = differentiating.name == "jax" and problem in OTHER_FAMILY_PROBLEMS  # eager, it compiles piece by piece
    check(case, numpy_backend, case.on(differentiating, compiled=compiled), tolerance(problem))


@pytest.mark.parametrize(("problem", "estimator", "samples"), FLOAT32)
def test_float32(backend: Any, numpy_backend: Any, problem: str, estimator: str, samples: int) -> None:
    case = Case(problem, estimator, samples, "float32")
    compiled = backend.name == "jax" and problem in OTHER_FAMILY_PROBLEMS
    found = case.on(backend, dtype="float32", compiled=compiled)
    assert all(g.dtype == np.float32 for g in found.values())
    check(case, numpy_backend, found, 1e-5)


@pytest.mark.parametrize(("problem", "estimator", "samples"), COMPILED)
def test_compiled(differentiating: Any, numpy_backend: Any, problem: str, estimator: str, samples: int) -> None:
    case = Case(problem, estimator, samples)
    check(case, numpy_backend, case.on(differentiating, compiled=True), tolerance(problem))


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "estimator", "samples"), WHOLE)
def test_every_family(differentiating: Any, numpy_backend: Any, problem: str, estimator: str, samples: int) -> None:
    case = Case(problem, estimator, samples)
    check(case, numpy_backend, case.on(differentiating), tolerance(problem))


@pytest.mark.slow
@pytest.mark.parametrize(("problem", "estimator", "samples"), COMPILED_SLOWLY)
def test_all_compiled(differentiating: Any, numpy_backend: Any, problem: str, estimator: str, samples: int) -> None:
    case = Case(problem, estimator, samples)
    check(case, numpy_backend, case.on(differentiating, compiled=True), tolerance(problem))
