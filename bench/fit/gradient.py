"""Stochastic gradient ascent: any estimator of ∇_λ L inside an optimiser, on any backend.

A step makes one estimate of S samples with the compiled function that `gradvar run` times, on noise of its own: block
t of a stream by (problem, seed, S), the same for every estimator that reads noise of that name and, shared, for every
backend. The optimiser then moves λ on the host, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from bench.fit.method import Method, Objective, Recipe, Vectors
from bench.fit.objective import objective, share_of_data
from bench.fit.optimisers import Optimiser
from bench.measurement.cell import fitted_state, measure_source, unfitted, warm_up_replicates
from bench.measurement.kernel import Setting, StatisticsKernel, stepper
from bench.problems import Problem
from bench.sweep.cells import Cell, Goals
from estimators import Estimator, NotApplicable
from estimators.options import effective, spell

#: One look at 64 blocks of replicates: as many as were asked for, and no more.
_ONE_LOOK = Goals(precision=1e300, bias_bound=1e300, max_replicates=1)
_BLOCKS = 64
#: What goes before the names of a state's arrays: λ, the optimiser's memory, the estimator's state.
_PARAMETERS, _MEMORY, _LEARNT = "λ.", "optimiser.", "estimator."


class GradientMethod(Method):
    """An estimator inside an optimiser.

    Parameters
    ----------
    cell : what is estimated and how: its S, seed, backend and noise source.
    optimiser : what follows the estimates.
    refit : iterations after which an estimator with memory learns its state anew, at the λ reached and on noise of its
        own, whose evaluations count. It is told nothing that is known exactly.
    """

    def __init__(self, cell: Cell, optimiser: Optimiser, refit: int) -> None:
        self.cell, self.optimiser, self.refit = cell, optimiser, refit
        self.setting: Setting = unfitted(cell)
        self._shapes = self.setting.expectation.family.shapes(cell.problem.dimension)
        self._estimate = stepper(self.setting, "fit")
        self._learns = False
        self._share = share_of_data(self.setting.expectation)
        estimates = cell.estimator.evaluations(self.setting.expectation, cell.num_samples, cell.problem.dimension)
        self.evaluations = self._share * estimates

    def initial(self) -> Vectors:
        parameters = {name: np.array(a, dtype=np.float64) for name, a in self.cell.problem.parameters().items()}
        return _joined(parameters, self.optimiser.initial(parameters), self._learn(parameters, 0))

    def _learn(self, parameters: Vectors, block: int) -> Vectors:
        learnt, self._learns = fitted_state(self._at(parameters, {}), None, block)
        return learnt

    def _at(self, parameters: Vectors, learnt: Vectors) -> Setting:
        s = self.setting
        return replace(s, parameters=s.to_device(parameters), state=s.to_device(learnt))

    def estimate(self, parameters: Vectors, learnt: Vectors, t: int) -> Vectors:
        """ĝ of step t."""
        s = self.setting
        found = self._estimate(s.to_device(parameters), s.to_device(learnt), t)
        return {name: g.reshape(self._shapes[name]) for name, g in found.items()}

    def step(self, state: Vectors, t: int) -> Vectors:
        parameters, memory, learnt = _parts(state)
        if learnt and t > 1 and (t - 1) % self.refit == 0:
            learnt = self._learn(parameters, (t - 1) // self.refit)
        gradient = self.estimate(parameters, learnt, t)
        return _joined(*self.optimiser.step(parameters, gradient, memory, t), learnt)

    def warm_up(self, state: Vectors) -> None:
        parameters, _, learnt = _parts(state)
        self.estimate(parameters, learnt, 0)

    def spent(self, t: int) -> float:
        learnt = 1 + max(0, t - 1) // self.refit if self._learns else 0
        samples = warm_up_replicates(self.cell.num_samples) * self.cell.num_samples
        return t * self.evaluations + learnt * samples * self._share

    def objective(self, state: Vectors) -> Objective:
        return objective(self.cell.problem, self.parameters(state), self.cell.seed)

    def parameters(self, state: Vectors) -> Vectors:
        return _parts(state)[0]

    def diagnose(self, state: Vectors, t: int, replicates: int) -> dict[str, Any]:
        """The variance of one estimate at a state, over whole blocks of replicates from a stream of iteration t."""
        parameters, _, learnt = _parts(state)
        at = self._at(parameters, learnt)
        size = max(1, replicates // _BLOCKS)
        setting = replace(at, replicates=size, path=(*at.path, "variance", t))
        found = measure_source(StatisticsKernel(setting), None, lambda: None, _ONE_LOOK, value_based=False)
        columns = found.blocks["all"]
        return {
            **{name: columns[name] for name in ("variance", "variance_low", "variance_high", "variance_flag")},
            "variances": {name: found.blocks[name]["variance"] for name in setting.blocks},
            "replicates": found.replicates,
            "mean_norm": columns["mean_norm"],
        }


def _joined(parameters: Vectors, memory: Vectors, learnt: Vectors) -> Vectors:
    parts = ((_PARAMETERS, parameters), (_MEMORY, memory), (_LEARNT, learnt))
    return {prefix + name: values for prefix, arrays in parts for name, values in arrays.items()}


def _parts(state: Vectors) -> tuple[Vectors, Vectors, Vectors]:
    """λ, the optimiser's memory, and the estimator's state."""

    def under(prefix: str) -> Vectors:
        return {name.removeprefix(prefix): values for name, values in state.items() if name.startswith(prefix)}

    return under(_PARAMETERS), under(_MEMORY), under(_LEARNT)


@dataclass(frozen=True)
class Gradient(Recipe):
    """An estimator, an optimiser, and where and with how many samples."""

    name: ClassVar[str] = "gradient"
    summary: ClassVar[str] = "an estimator of the gradient inside an optimiser"

    estimator: Estimator
    optimiser: Optimiser
    num_samples: int
    backend: str = "numpy"
    device: str = "cpu"
    dtype: str = "float64"
    noise: str = "native"
    refit: int = 100

    def cell(self, problem: Problem, seed: int) -> Cell:
        where = (self.backend, self.device, self.dtype)
        return Cell(problem, self.estimator, *where, self.num_samples, seed, self.noise)

    def columns(self) -> dict[str, Any]:
        return {
            "method": self.name,
            "estimator": self.estimator.name,
            "estimator_options": effective(self.estimator),
            "optimiser": self.optimiser.name,
            "optimiser_options": effective(self.optimiser),
            **{name: getattr(self, name) for name in ("backend", "device", "dtype", "noise", "num_samples")},
        }

    def label(self) -> str:
        estimator = spell(self.estimator.name, effective(self.estimator), type(self.estimator))
        optimiser = spell(self.optimiser.name, effective(self.optimiser), type(self.optimiser))
        return f"{estimator} · {optimiser} · {self.backend} · S={self.num_samples}"

    def check(self, problem: Problem) -> None:
        reason = self.cell(problem, 0).impossible()
        if reason is not None:
            raise NotApplicable(reason)
        self.optimiser.check(problem)

    def prepare(self, problem: Problem, seed: int) -> GradientMethod:
        return GradientMethod(self.cell(problem, seed), self.optimiser, self.refit)
