"""Measuring one cell: pilot, doubling replicates until the goals hold, verdicts, and the rows' numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bench.measurement.integrate import Integral, integrate
from bench.measurement.judge import Judge
from bench.measurement.kernel import Setting, StatisticsKernel, block_size
from bench.measurement.moments import GROUPS
from bench.measurement.representable import unrepresentable_at
from bench.measurement.stream import Source, Stream, pilot_mean
from bench.problems import Exact
from bench.rows import ALL
from estimators import Normal, NotApplicable, UsageError
from estimators.backends import get
from estimators.estimator import Knowledge, values_and_scores
from estimators.options import effective

WARM_UP = 1024


@dataclass(frozen=True)
class Prepared:
    """A cell ready to be measured or timed."""

    setting: Setting
    exact: Exact | None
    evaluations: int
    remarks: list[str] = field(default_factory=list)


@dataclass
class Measurement:
    """What a cell's statistics came to.

    Attributes
    ----------
    blocks : columns by parameter block, `all` last.
    replicates : n.
    squared_norms : mean of Q in each of the 64 groups of replicates, by parameter block.
    """

    blocks: dict[str, dict[str, Any]]
    replicates: int
    squared_norms: dict[str, np.ndarray] = field(default_factory=dict)


def prepare(cell: Any) -> Prepared:
    """Build the problem on the cell's backend and freeze the estimator's state."""
    setting, exact = unfitted(cell), finite_exact(cell.problem)
    _check_representable(cell, setting)
    learnt, drew = fitted_state(setting, exact)
    remarks = ["conditional on a state fitted once, on noise of its own, then frozen"] if drew else []
    remarks += [] if setting.backend.compiles else ["no C++ compiler: PyTorch ran eagerly"]
    evaluations = setting.estimator.evaluations(setting.expectation, cell.num_samples, cell.problem.dimension)
    return Prepared(replace(setting, state=setting.to_device(learnt)), exact and exact.flat(), evaluations, remarks)


def _check_representable(cell: Any, setting: Setting) -> None:
    """Raise NotApplicable where λ is none that options give, and floating-point numbers cannot follow it."""
    problem, backend = cell.problem, setting.backend
    given, points = problem.q.parameters(problem.dimension), setting.expectation.population
    found = setting.expectation.each_law(backend, setting.parameters)
    laws = {name: backend.to_numpy(a) for name, a in found.items()}
    if points == 1 and all(np.array_equal(laws[name], a.astype(cell.dtype)) for name, a in given.items()):
        return  # asked when the cell was planned
    dimension = points * problem.dimension
    reason = unrepresentable_at(
        problem.family, laws, cell.estimator, problem.entropy, dimension, cell.dtype, problem.distances
    )
    if reason is not None:
        raise NotApplicable(reason)


def finite_exact(problem: Any) -> Exact | None:
    """The problem's exact answer; NotApplicable where it overflows, which at extreme options it may."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        exact: Exact | None = problem.exact()
    if exact is None or all(np.all(np.isfinite(gradient)) for gradient in exact.gradient.values()):
        return exact
    raise NotApplicable(f"the exact gradient of problem {problem.name} overflows; give less extreme options")


def unfitted(cell: Any) -> Setting:
    """The cell's problem at its λ, on its backend; the estimator has no state yet."""
    backend, problem = get(cell.backend, cell.device), cell.problem
    expectation, parameters = problem.expectation(), problem.parameters()
    if expectation.family != problem.family:
        raise UsageError(f"problem {problem.name} has q of {problem.family} and an expectation of {expectation.family}")
    if expectation.importance_samples != problem.importance_samples:
        raise UsageError(
            f"problem {problem.name} has importance_samples = {problem.importance_samples} and an expectation of "
            f"{expectation.importance_samples}; make them the same"
        )
    path = (problem.name, json.dumps(_options(problem), sort_keys=True), cell.seed, cell.num_samples)
    on_device = expectation.bind({name: backend.asarray(a, cell.dtype) for name, a in expectation.data.items()})
    width = expectation.width(problem.dimension)
    return Setting(
        backend=backend,
        dtype=cell.dtype,
        estimator=expectation.estimated_by(cell.estimator),
        expectation=on_device,
        parameters={name: backend.asarray(a, cell.dtype) for name, a in parameters.items()},
        state={},
        dimension=problem.dimension,
        num_samples=cell.num_samples,
        replicates=block_size(width, cell.num_samples),
        path=path,
        shared=cell.noise == "shared",
    )


def fitted_state(setting: Setting, exact: Exact | None, block: int = 0) -> tuple[dict[str, np.ndarray], bool]:
    """The estimator's state at the setting's λ, and whether a warm-up was drawn for it.

    Parameters
    ----------
    exact : what the estimator may know without drawing; None if nothing.
    block : which block of the warm-up's noise it learns from.
    """
    drew = False

    def pilot() -> Any:
        nonlocal drew
        drew = True
        noise = setting.noise(setting.roots("warm-up"), block, warm_up_replicates(setting.num_samples))
        return setting.backend, *setting.expectation.at(setting.parameters), noise

    def warm_up() -> Any:
        return values_and_scores(*pilot())

    objective, baseline = (exact.objective, exact.optimal_baseline) if exact is not None else (None, None)
    known = Knowledge(objective, baseline, warm_up, pilot)
    return setting.estimator.fit(known), drew


def warm_up_replicates(num_samples: int) -> int:
    """How many estimates of S samples an estimator with memory learns from."""
    return max(64, WARM_UP // num_samples)


def _options(problem: Any) -> dict[str, Any]:
    """The options that name a problem's noise streams: not what was once the only value, and is the default now."""
    once = {("family", Normal.name), ("importance-samples", 1)}
    return {name: value for name, value in effective(problem).items() if (name, value) not in once}


def measure(prepared: Prepared, goals: Any, each: Any = None) -> Measurement:
    """Draw until precision and bias bound hold for every row, or the cap is reached.

    Parameters
    ----------
    prepared : from `prepare`.
    goals : precision, bias_bound, max_replicates.
    each : called with the number of replicates so far.
    """
    setting, exact = prepared.setting, prepared.exact
    return measure_source(
        StatisticsKernel(setting),
        exact,
        lambda: integrate(setting) if exact is not None else None,
        goals,
        value_based=not setting.estimator.requirements(setting.expectation.entropy).integrand,
        each=each,
        rare=setting.expectation.family.discrete,
    )


def measure_source(
    kernel: Source,
    exact: Exact | None,
    integrals: Callable[[], dict[str, Integral] | None],
    goals: Any,
    value_based: bool,
    each: Any = None,
    rare: bool = False,
) -> Measurement:
    """`measure`, of estimates from anywhere.

    Parameters
    ----------
    integrals : integrates the estimator over its noise, if that can be done; called once estimates were seen finite.
    value_based : whether estimates are differences of values of f, whose rounding is that of f.
    rare : whether z is discrete, and may have states that no replicate meets.
    """
    setting = kernel.setting
    centre = pilot_mean(kernel)
    main, confirm = Stream(kernel, "main", centre), None
    looks = 1 + max(0, int(math.log2(max(1, goals.max_replicates // (GROUPS * setting.replicates)))))
    judge = Judge(setting, exact, integrals(), looks, goals.bias_bound, value_based, rare)
    result: dict[str, dict[str, Any]] = {}
    for look in range(looks):
        blocks = GROUPS << look
        main.extend(blocks, each)
        for name, suspicion in judge.suspects(main).items():
            if confirm is None or confirm.total.blocks != blocks:
                confirm = confirm or Stream(kernel, "confirm", centre)
                confirm.extend(blocks)
            judge.confirm(name, suspicion, confirm)
        if look + 1 < looks and not judge.may_be_precise(main, goals.precision):
            continue
        result = judge.rows(main)
        if all(_good_enough(columns, goals) for columns in result.values()):
            break
    squared = {name: moments.group_squared_norms() for name, moments in main.moments.items()}
    squared[ALL] = sum(squared.values(), np.zeros(GROUPS))
    for columns in result.values():
        columns.pop("half_width")
    return Measurement(result, main.total.count, squared)


def _good_enough(columns: dict[str, Any], goals: Any) -> bool:
    precise = columns["half_width"] <= goals.precision and columns["variance_flag"] == "ok"
    return precise and columns["verdict"] != "inconclusive"
