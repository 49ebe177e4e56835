"""Prepare a cell: build its problem on its backend, check what the user brings, and freeze the estimator's state."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gradmeter.bench.cells import Cell
from gradmeter.bench.checks.session import require_right
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.feasibility.precision import unrepresentable_at
from gradmeter.bench.forms.results import exact_of, expectation_of, parameters_of, require_results, state_of
from gradmeter.bench.measurement.integrate import Integral, integrate
from gradmeter.bench.measurement.kernel import Setting, block_size
from gradmeter.bench.measurement.moved import moved_array
from gradmeter.bench.measurement.plan import capped
from gradmeter.bench.measurement.rounding import MULTIPLE, rounding
from gradmeter.bench.problems import Exact, Problem
from gradmeter.estimators import Normal, NotApplicable
from gradmeter.estimators.backends import get
from gradmeter.estimators.estimator import WarmupContext, values_and_scores
from gradmeter.estimators.noise import DrawnNoise
from gradmeter.estimators.options import effective

WARM_UP = 1024
#: Perturbations of λ by which the rounding of an exact gradient is measured.
MOVED = 4
#: Number of prepared cells kept in a process, the most recently used.
MOST_PREPARED = 8
_PREPARED: dict[Hashable, Prepared] = {}


@dataclass
class Prepared:
    """A cell that is ready to be measured or timed.

    Attributes
    ----------
    exact
        The exact gradient, each block flat [P]; None where it is unknown.
    evaluations
        Evaluations of f per estimate.
    remarks
        What the reason of every row says.
    unmet_share
        The problem's bound on the share of the gradient in rare samples, given their probability; None where it is
        unknown.
    problem
        The problem; None where its exact gradient cannot be computed at another λ.
    checked
        Whether the contract of the estimator was checked in this process; never set where a part is the user's.
    """

    setting: Setting
    exact: Exact | None
    evaluations: int
    remarks: list[str] = field(default_factory=list)
    unmet_share: Callable[[float], float | None] = lambda rarest: None
    problem: Problem | None = None
    checked: bool = False

    @functools.cached_property
    def tolerance(self) -> dict[str, np.ndarray]:
        """τ by parameter block [P]: how far rounding may move a mean."""
        return rounding(self.setting)

    @functools.cached_property
    def integrals(self) -> dict[str, Integral] | None:
        """Means by integration over the noise; None where integration is not possible, or nothing is compared."""
        return None if self.exact is None else integrate(self.setting)

    @functools.cached_property
    def reference_rounding(self) -> dict[str, np.ndarray] | None:
        """How far rounding may move the exact gradient, by parameter block [P]; None where it is unknown.

        It is computed anew at λ moved by units in the last place, which shows the cancellation of its terms.
        """
        if self.problem is None or self.exact is None:
            return None
        given, generator = self.problem.parameters(), np.random.default_rng(0)
        most = {name: np.zeros_like(gradient) for name, gradient in self.exact.gradient.items()}
        for _ in range(MOVED):
            moved = {name: moved_array(np.asarray(a, np.float64), generator) for name, a in given.items()}
            found = self.problem.exact_at(moved)
            if found is None:
                return None
            for name, gradient in found.flat().gradient.items():
                most[name] = np.maximum(most[name], np.abs(gradient - self.exact.gradient[name]))
        return {name: MULTIPLE * change.max(initial=0.0) * np.ones_like(change) for name, change in most.items()}


def prepare(cell: Cell) -> Prepared:
    """Build the problem on the cell's backend and freeze the estimator's state.

    The last few cells of the catalogue are remembered with all that is known of them before replicates are drawn, so
    that a cell measured again in one process is not built, checked and integrated again.

    Raises
    ------
    NotApplicable
        The cell cannot be measured, the exact gradient overflows, or floating-point numbers cannot represent the
        problem at its λ.
    UsageError
        A user's problem, family, integrand or estimator is wrong; the message says what to do.
    """
    key = cell.preparation_key
    if key is None:
        return _prepare(cell)
    _PREPARED[key] = found = _PREPARED.pop(key, None) or _prepare(cell)
    while len(_PREPARED) > MOST_PREPARED:
        _PREPARED.pop(next(iter(_PREPARED)), None)
    return found


def _prepare(cell: Cell) -> Prepared:
    reason = infeasible(cell)
    if reason is not None:
        raise NotApplicable(reason)
    setting, exact = build_setting(cell), finite_exact(cell.problem)
    require_right(cell.problem, cell.backend)
    _check_representable(cell, setting)
    learnt, drew = fitted_state(setting, exact)
    remarks = ["conditional on a state fitted once, on noise of its own, then frozen"] if drew else []
    remarks += [] if setting.backend.compiles else ["no C++ compiler: PyTorch ran eagerly"]
    evaluations = setting.estimator.evaluations(setting.expectation, cell.num_samples, cell.problem.dimension)
    setting = replace(setting, state=setting.to_device(learnt))
    unmet_share = functools.partial(cell.problem.unmet_share, cell.estimator)
    return Prepared(setting, exact and exact.flat(), evaluations, remarks, unmet_share, cell.problem)


def _check_representable(cell: Cell, setting: Setting) -> None:
    """Raise NotApplicable where λ does not come from the options and cannot be handled in floating point."""
    problem, backend = cell.problem, setting.backend
    given, points = problem.q.parameters(problem.dimension), setting.expectation.population
    found = setting.expectation.per_datum_parameters(backend, setting.parameters)
    laws = [{name: backend.to_numpy(a) for name, a in each.items()} for each in found]
    if points == 1 and all(np.array_equal(laws[0][name], a.astype(cell.dtype)) for name, a in given.items()):
        return  # checked when the cell was planned
    dimension = points // len(laws) * problem.dimension
    for law in laws:
        reason = unrepresentable_at(
            problem.family, law, cell.estimator, problem.entropy, dimension, cell.dtype, problem.distances
        )
        if reason is not None:
            raise NotApplicable(reason)


def finite_exact(problem: Any) -> Exact | None:
    """Return the problem's exact gradient; raise NotApplicable if it overflows, as it may at extreme options."""
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        exact = exact_of(problem)
    if exact is None or all(np.all(np.isfinite(gradient)) for gradient in exact.gradient.values()):
        return exact
    raise NotApplicable(f"the exact gradient of problem {problem.name} overflows; give less extreme options")


def build_setting(cell: Cell) -> Setting:
    """Return the cell's problem at its λ on its backend, with an estimator that has no state yet."""
    backend, problem = get(cell.backend, cell.device), cell.problem
    expectation = expectation_of(problem)
    parameters = parameters_of(problem, expectation)
    require_results(cell.estimator, expectation, cell.num_samples, problem.dimension)
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
        replicates=capped(block_size(width, cell.num_samples), cell.goals.max_replicates),
        path=path,
        shared=cell.noise == "shared",
    )


def fitted_state(setting: Setting, exact: Exact | None, block: int = 0) -> tuple[dict[str, np.ndarray], bool]:
    """Return the estimator's state at the setting's λ, and whether a warm-up was drawn to learn it.

    Parameters
    ----------
    setting
        The cell that is measured.
    exact
        Exact values that the estimator may use without drawing; None if there are none.
    block
        Block of the warm-up's noise stream that the estimator learns from.
    """
    drew = False

    def pilot() -> Any:
        nonlocal drew
        drew = True
        replicates = warm_up_replicates(setting.num_samples)
        noise = setting.noise(setting.roots("warm-up"), block, replicates)
        return setting.backend, *setting.expectation.at(setting.parameters), DrawnNoise(noise, replicates)

    def warm_up() -> Any:
        return values_and_scores(*pilot())

    objective, baseline = (exact.objective, exact.optimal_baseline) if exact is not None else (None, None)
    known = WarmupContext(objective, baseline, warm_up, pilot)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # the learner checks for non-finite numbers
        learnt = state_of(setting.estimator, setting.estimator.fit(known))
    return learnt, drew


def warm_up_replicates(num_samples: int) -> int:
    """Return the number of estimates of S samples that an estimator with memory learns from."""
    return max(64, WARM_UP // num_samples)


def _options(problem: Any) -> dict[str, Any]:
    """Return the options that name a problem's noise streams.

    Options that were added later are omitted at their default, so that old seeds stay valid.
    """
    once = [("family", Normal.name), ("importance-samples", 1), ("weights", 1.0)]
    return {name: value for name, value in effective(problem).items() if (name, value) not in once}
