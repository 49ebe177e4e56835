"""What the tests share: cells at points nobody tuned for, estimates from given noise, integration over noise."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import roots_hermitenorm, roots_laguerre, roots_legendre

from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.kernel import Setting, evaluator
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.problems import Problem
from gradmeter.bench.sweep.measuring import measure_cell
from gradmeter.estimators import NAMED_ALONE, VARIANTS, Estimator, Expectation, Noise, Normal, UsageError, draw
from gradmeter.estimators.backends import get, missing
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.noise import DrawnNoise, stream_root
from tests.families import FAMILY_PROBLEMS

Blocks = dict[str, np.ndarray]

TEST_FUNCTIONS = (
    "square[k=1.37,loc=-0.6,scale=0.83]",
    "exponential[k=0.9,loc=0.7,scale=0.8]",
    "cosine[k=1.9,loc=0.45,scale=1.2]",
)
IN_THREE_DIMENSIONS = tuple(f"{text[:-1]},dim=3]" for text in TEST_FUNCTIONS)
REGRESSIONS = (
    "linear-regression[loc=-0.23,scale=0.61]",
    "linear-regression[at=fitted]",
    "linear-regression[loc=-0.23,scale=0.61,batch=7,entropy=analytic]",
    "logistic-regression[loc=0.17,scale=0.71]",
    "logistic-regression[at=fitted,entropy=analytic]",
    "logistic-regression[loc=0.17,scale=0.71,batch=7]",
)
#: Models whose likelihood or whose q is another: every estimator meets them in `test_models.py`.
MODELS = (
    "poisson-regression[loc=0.2,scale=0.3]",
    "poisson-regression[loc=0.2,scale=0.3,batch=7,entropy=analytic]",
    "student-t-regression[loc=-0.23,scale=0.61,df=2.5,batch=7]",
    "logistic-regression[family=multivariate-normal,loc=0.17,scale=0.71,correlation=0.3,batch=7]",
    "student-t-regression[family=low-rank-normal,loc=0.17,scale=0.71,rank=2]",
    "gamma-poisson[family=gamma,concentration=2.3,rate=1.7,dim=3]",
    "beta-bernoulli[family=beta,alpha=1.7,beta=2.3,dim=3,entropy=analytic]",
)
#: Families of finitely many states, on what their relaxations are made for.
DISCRETE_PROBLEMS = tuple(FAMILY_PROBLEMS[name] for name in ("bernoulli", "tied-bernoulli", "categorical"))
#: Smooth rules integrate over both, and between them they have every kind of derivative.
TWO_FAMILIES = (FAMILY_PROBLEMS["multivariate-normal"], FAMILY_PROBLEMS["exponential"])
#: Estimators that the Normal takes.
ON_NORMAL = tuple(v for v in VARIANTS if make_estimator(v).unsupported_reason(Normal(), "none") is None)
PROBLEMS = (*TEST_FUNCTIONS, *IN_THREE_DIMENSIONS, *REGRESSIONS)
#: Further integrands, of one coordinate or of two: their own arithmetic, with one of each kind of estimator.
INTEGRAND_PROBLEMS = (
    "exponential-moment[t=0.7,loc=0.7,scale=0.8,dim=3]",
    "step[k=0.4,loc=-0.6,scale=0.83,dim=3]",
    "absolute-value[k=0.4,loc=-0.6,scale=0.83,dim=3]",
    "banana[bend=0.4,width=1.7,loc=0.3,scale=0.7,dim=4]",
    "tilted-square[a=0.4,loc=-0.6,scale=0.83,dim=3]",
)
#: Kin of the score function, which differ from it in one place each: tested on a covering subset of the problems.
KIN = (
    *(v for v in VARIANTS if v.startswith(("rao", "importance", "overdispersed")) or "-fitted" in v or "=fitted" in v),
    *("score-function[draws=antithetic]", "score-function[draws=stratified]"),
    *NAMED_ALONE,
    "injected-squared-model-weights",
)
COVERING = (TEST_FUNCTIONS[2], IN_THREE_DIMENSIONS[0], REGRESSIONS[5], *TWO_FAMILIES)
PLANTED = (
    "injected-self-included-baseline",
    "injected-in-sample-coefficient",
    "injected-in-sample-coefficient[form=ratio]",
    "injected-differentiated-sampler",
    "injected-differentiated-baseline",
    "injected-naive-exchange",
    "injected-redrawn-failures",
    "injected-opposite-biases",
    "injected-missing-path",
    "injected-squared-model-weights",
)


def needs(name: str) -> None:
    """Skip, with the reason, where a framework is missing."""
    reason = missing(name)
    if reason:
        pytest.skip(reason)


def make_cell(
    problem: str | Problem, estimator: str, samples: int | None = None, backend: str = "numpy", **more: Any
) -> Cell:
    """A cell from text, or of a problem as it is; without `samples`, the least S the estimator takes."""
    goals = StoppingCriteria(**{name: more.pop(name) for name in tuple(vars(StoppingCriteria())) if name in more})
    made = make_estimator(estimator)
    size = made.smallest_num_samples() if samples is None else samples
    at = problem if isinstance(problem, Problem) else make_problem(problem)
    return Cell(at, made, backend, num_samples=size, goals=goals, **more)


def problem_is_refused(text: str, message: str) -> None:
    """One line that says what is wrong with a problem's text."""
    with pytest.raises(UsageError) as caught:
        make_problem(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def measured(cell: Cell) -> dict[str, dict[str, Any]]:
    """The rows of a cell that can be measured, by parameter block."""
    rows = measure_cell(cell).rows
    assert rows[0]["status"] == "ok", rows[0]["reason"]
    return {row["block"]: row for row in rows}


def covered(problem: str, estimator: str) -> bool:
    """Whether a pair belongs to the tests that go over all estimators and problems."""
    return estimator not in KIN or problem in COVERING


def applies(problem: str | Problem, estimator: str, samples: int) -> bool:
    return infeasible(make_cell(problem, estimator, samples)) is None


def cases(problems: tuple[str, ...], estimators: tuple[str, ...] = VARIANTS, samples: int = 4) -> list[tuple[str, str]]:
    """Every pair that has a meaning."""
    return [(p, e) for p in problems for e in estimators if applies(p, e, samples)]


def state_of(problem: str | Problem, estimator: str, samples: int) -> Blocks:
    """The estimator's frozen state, in float64 from NumPy's noise."""
    return dict(prepare(make_cell(problem, estimator, samples)).setting.state)


def draws(specs: dict[str, Noise], replicates: int, seed: int = 0) -> Blocks:
    """Named noise from NumPy, the same for whoever asks."""
    backend = get("numpy")
    roots = {name: stream_root("tests", seed, name) for name in specs}
    return draw(backend, specs, roots, 0, replicates, "float64")


def estimate(
    backend: Backend,
    estimator: Estimator,
    expectation: Expectation,
    parameters: Blocks,
    noise: Blocks,
    state: Blocks | None = None,
    *,
    dtype: str = "float64",
    compiled: bool = False,
) -> Blocks:
    """Estimates [R, *shape] by parameter block: NumPy arrays in, NumPy arrays out."""

    def put(arrays: Blocks) -> dict[str, Any]:
        return {k: backend.asarray(a, None if np.asarray(a).dtype.kind == "i" else dtype) for k, a in arrays.items()}

    call = _runner(backend, estimator, _Structure(expectation), compiled)
    found = call(put(expectation.data), put(parameters), put(noise), put(state or {}))
    return {name: backend.to_numpy(values) for name, values in found.items()}


def called_once(backend: Backend, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function: on JAX as one program, where otherwise every operation is compiled for itself."""
    return backend.compile_for_few_calls(function, handful=True)(*arguments)


class _Structure:
    """An expectation as a key: equal where its structure is."""

    def __init__(self, expectation: Expectation) -> None:
        self.expectation = expectation

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Structure) and self.expectation.structure == other.expectation.structure

    def __hash__(self) -> int:
        return hash(self.expectation.structure)


@functools.lru_cache(maxsize=256)  # each compiled by JAX maps memory, and a process may have 65,530 such maps
def _runner(backend: Backend, estimator: Estimator, structure: _Structure, compiled: bool) -> Callable[..., Any]:
    def run(data: Any, parameters: Any, noise: Any, state: Any) -> Any:
        drawn = DrawnNoise(noise, next(iter(noise.values())).shape[0] if noise else 1)
        return estimator.estimate(backend, structure.expectation.bind(data), parameters, drawn, state)

    return backend.compile(run) if compiled else backend.compile_for_few_calls(run, handful=True)


def single(loc: Any, scale: Any) -> Blocks:
    """λ of a Normal."""
    return {"loc": np.atleast_1d(np.asarray(loc, float)), "log_scale": np.log(np.atleast_1d(np.asarray(scale, float)))}


def expectation_of(integrand: Any, entropy: Any = "none", **data: float) -> Expectation:
    return Expectation(Normal(), integrand, {name: np.asarray(value) for name, value in data.items()}, entropy)


# Integration over the noise, written apart from gradmeter.bench.measurement.integrate: Gauss rules throughout.


def gauss(kind: str, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and probability weights."""
    if kind in ("normal", "maxwell"):
        x, w = roots_hermitenorm(nodes)
        w = w * (x * x if kind == "maxwell" else 1.0)
    elif kind == "exponential":
        x, w = roots_laguerre(nodes)
    elif kind == "rademacher":
        x, w = np.asarray([-1.0, 1.0]), np.ones(2)
    else:
        x, w = roots_legendre(nodes)
        x = 0.5 * (x + 1.0)
        if kind == "rayleigh":
            x = 12.0 * x
            w = w * x * np.exp(-0.5 * x * x)
    return x, w / w.sum()


def tensor(kinds: list[str], nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, len(kinds)] and weights [N] of a tensor grid."""
    rules = [gauss(kind, nodes) for kind in kinds]
    points = np.stack([a.ravel() for a in np.meshgrid(*(x for x, _ in rules), indexing="ij")], axis=1)
    weights = math.prod(np.meshgrid(*(w for _, w in rules), indexing="ij")).ravel()
    return points, weights


def integrated(
    backend: Backend,
    estimator: Estimator,
    expectation: Expectation,
    parameters: Blocks,
    samples: int,
    *,
    state: Blocks | None = None,
    dimension: int | None = None,
    nodes: int = 48,
    axes: Callable[[str, int], bool] | None = None,
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """By parameter block: E ĝ, Var ĝ and E |ĝ| over the noise.

    `axes(name, position)` says which numbers of noise to integrate over (all that the block reads, unless given);
    the others stay at an arbitrary value.
    """
    dimension = dimension or len(next(iter(parameters.values())))
    specs = estimator.noise_specs(expectation, samples, dimension)
    reads = estimator.noise_by_block(expectation, samples, dimension)
    result = {}
    for block, names in reads.items():
        places = [
            (name, i)
            for name in sorted(names)
            for i in range(math.prod(specs[name].shape))
            if axes is None or axes(name, i)
        ]
        points, weights = tensor([specs[name].kind for name, _ in places], nodes)
        flat = {name: np.full((len(points), math.prod(spec.shape)), 0.37) for name, spec in specs.items()}
        for column, (name, i) in zip(points.T, places, strict=True):
            flat[name][:, i] = column
        noise = {name: values.reshape(len(points), *specs[name].shape) for name, values in flat.items()}
        found = estimate(backend, estimator, expectation, parameters, noise, state)[block]
        mean, size = (np.tensordot(weights, values, 1) for values in (found, np.abs(found)))
        result[block] = (mean, np.tensordot(weights, (found - mean) ** 2, 1), size)
    return result


def integrated_problem(
    backend: Backend, problem: str | Problem, estimator: str, samples: int | None = None, **more: Any
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The same for names as on the command line."""
    cell = make_cell(problem, estimator, samples)
    return integrated(
        backend,
        cell.estimator,
        cell.problem.expectation(),
        cell.problem.parameters(),
        cell.num_samples,
        dimension=cell.problem.dimension,
        state=state_of(problem, estimator, cell.num_samples),
        **more,
    )


def setting_of(
    problem: str | Problem, estimator: str, backend: str, samples: int | None = None, **more: Any
) -> Setting:
    return prepare(make_cell(problem, estimator, samples, backend, **more)).setting


def estimates(setting: Setting, noise: Blocks) -> dict[str, np.ndarray]:
    """Evaluate the estimates [R, P] from given noise, called once, as NumPy arrays."""
    found = called_once(
        setting.backend, evaluator(setting), setting.expectation.data, setting.parameters, setting.state, noise
    )
    return {name: setting.backend.to_numpy(a) for name, a in found.items()}
