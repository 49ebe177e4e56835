"""Stochastic gradient ascent: any estimator of ∇_λ L inside an optimiser, on any backend.

A step makes one estimate of S samples with the compiled function that `gradvar run` times, on noise of its own: block
t of a stream by (problem, seed, S), the same for every estimator that reads noise of that name and, shared, for every
backend. The optimiser then moves λ on the host, in float64.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bench.fit.held_out import columns
from bench.fit.method import Method, Objective, Vectors
from bench.fit.objective import objective, share_of_data
from bench.fit.optimisers import Optimiser
from bench.measurement.cell import fitted_state, measure_source, unfitted, warm_up_replicates
from bench.measurement.kernel import Setting, StatisticsKernel, stepper
from bench.measurement.stream import NonFinite
from bench.sweep.cells import Cell, Goals

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
        self._shapes = self.setting.expectation.shapes(cell.problem.dimension)
        self._estimate = stepper(self.setting, "fit")
        self._learns = False
        self._share = share_of_data(self.setting.expectation)
        s, dimension = self.setting, cell.problem.dimension
        estimates = s.estimator.evaluations(s.expectation, cell.num_samples, dimension)
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
        found = self._estimate(parameters, learnt, t)
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

    def held_out(self, state: Vectors, last: bool) -> dict[str, Any]:
        return columns(self.cell.problem, self.parameters(state), self.cell.seed, last)

    def parameters(self, state: Vectors) -> Vectors:
        return _parts(state)[0]

    def diagnose(self, state: Vectors, t: int, replicates: int) -> dict[str, Any]:
        """The variance of one estimate at a state, over whole blocks of replicates from a stream of iteration t."""
        parameters, _, learnt = _parts(state)
        at = self._at(parameters, learnt)
        size = max(1, replicates // _BLOCKS)
        setting = replace(at, replicates=size, path=(*at.path, "variance", t))
        try:
            found = measure_source(StatisticsKernel(setting), None, lambda: None, _ONE_LOOK, value_based=False)
        except NonFinite:  # one estimate of many; the fit itself may never meet such a one
            return {"variance_flag": "not-estimable"}
        of_all = found.blocks["all"]
        return {
            **{name: of_all[name] for name in ("variance", "variance_low", "variance_high", "variance_flag")},
            "variances": {name: found.blocks[name]["variance"] for name in setting.blocks},
            "replicates": found.replicates,
            "mean_norm": of_all["mean_norm"],
        }


def _joined(parameters: Vectors, memory: Vectors, learnt: Vectors) -> Vectors:
    parts = ((_PARAMETERS, parameters), (_MEMORY, memory), (_LEARNT, learnt))
    return {prefix + name: values for prefix, arrays in parts for name, values in arrays.items()}


def _parts(state: Vectors) -> tuple[Vectors, Vectors, Vectors]:
    """λ, the optimiser's memory, and the estimator's state."""

    def under(prefix: str) -> Vectors:
        return {name.removeprefix(prefix): values for name, values in state.items() if name.startswith(prefix)}

    return under(_PARAMETERS), under(_MEMORY), under(_LEARNT)
