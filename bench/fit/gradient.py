"""Stochastic gradient ascent with any estimator of ∇_λ L and any optimiser, on any backend.

A step makes one estimate from S samples, with the function that `gradmeter run` times. Its noise is block t of a stream
keyed by (problem, seed, S), common to all estimators that use noise of the same name and, if shared, to all backends.
The optimiser's update is part of the same compiled function.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gradmeter.bench.cells import Cell, StoppingCriteria
from gradmeter.bench.fit.held_out import columns
from gradmeter.bench.fit.objective import objective, share_of_data
from gradmeter.bench.fit.step import LEARNT, MEMORY, PARAMETERS, Stepper, packed, unpacked
from gradmeter.bench.measurement.analyses import measure_source
from gradmeter.bench.measurement.kernel import Setting, StatisticsKernel
from gradmeter.bench.measurement.prepared import build_setting, fitted_state, warm_up_replicates
from gradmeter.bench.measurement.stream import NonFinite
from gradmeter.bench.optimisation.method import Method, Objective, State, Vectors
from gradmeter.bench.optimisation.optimisers import Optimiser

#: Number of blocks of replicates, for the variance and for a pilot.
_BLOCKS, _PILOT = 64, 4
#: Steps between synchronisations with a compiled backend; checking every step could take as long as a small step.
_UNCHECKED = 100


class GradientMethod(Method):
    """A gradient estimator inside an optimiser.

    Parameters
    ----------
    cell : Cell
        Problem and estimator with S, seed, backend and noise source.
    optimiser : Optimiser
        Applied to the estimates.
    refit : int
        Iterations between refits of an estimator with memory, at the current λ and on separate noise. Their evaluations
        count. The estimator gets no exactly known quantities.
    """

    def __init__(self, cell: Cell, optimiser: Optimiser, refit: int) -> None:
        self.cell, self.optimiser, self.refit = cell, optimiser, refit
        self.setting: Setting = build_setting(cell)
        self._shapes = self.setting.expectation.shapes(cell.problem.dimension)
        self.stepper = Stepper(self.setting, optimiser, "fit")
        self._learns = False
        self._share = share_of_data(self.setting.expectation)
        s, dimension = self.setting, cell.problem.dimension
        estimates = s.estimator.evaluations(s.expectation, cell.num_samples, dimension)
        self.evaluations = self._share * estimates
        self.check_every = 1 if cell.backend == "numpy" else _UNCHECKED

    def initial(self) -> State:
        parameters = {name: np.array(a, dtype=np.float64) for name, a in self.cell.problem.parameters().items()}
        whole = packed(np, parameters, self._shapes)
        memory = {MEMORY + kind: np.zeros_like(whole) for kind in self.optimiser.memories}
        return {**self.setting.to_device({PARAMETERS: whole, **memory}), **self._learn(parameters, 0)}

    def _learn(self, parameters: Vectors, block: int) -> State:
        at = replace(self.setting, parameters=self.setting.to_device(parameters))
        learnt, self._learns = fitted_state(at, None, block)
        return {LEARNT + name: a for name, a in self.setting.to_device(learnt).items()}

    def step(self, state: State, t: int) -> State:
        if t > 1 and (t - 1) % self.refit == 0 and any(name.startswith(LEARNT) for name in state):
            state = {**state, **self._learn(self.parameters(state), (t - 1) // self.refit)}
        return self.stepper(state, t)

    def wait(self, state: State) -> None:
        self.setting.backend.block_until_ready(state)

    def warm_up(self, state: State) -> None:
        self.wait(self.stepper(state, 1))

    def to_host(self, state: State) -> Vectors:
        """Convert a state to NumPy, with one entry per block: `λ.loc`, `optimiser.mean.loc`."""
        found: Vectors = {}
        for name, a in state.items():
            values = self.setting.backend.to_numpy(a)
            blocks = {} if name.startswith(LEARNT) else unpacked(np, values, self._shapes)
            found |= {f"{name}.{block}": part for block, part in blocks.items()} or {name: values}
        return found

    def to_device(self, kept: Vectors) -> State:
        learnt = {name: a for name, a in kept.items() if name.startswith(LEARNT)}
        whole = (PARAMETERS, *(MEMORY + kind for kind in self.optimiser.memories))
        moved = {w: packed(np, {n: kept[f"{w}.{n}"] for n in self._shapes}, self._shapes) for w in whole}
        return self.setting.to_device({**moved, **learnt})

    def spent(self, t: int) -> float:
        learnt = 1 + max(0, t - 1) // self.refit if self._learns else 0
        samples = warm_up_replicates(self.cell.num_samples) * self.cell.num_samples
        return t * self.evaluations + learnt * samples * self._share

    def objective(self, state: State) -> Objective:
        return objective(self.cell.problem, self.parameters(state), self.cell.seed)

    def held_out(self, state: State, last: bool) -> dict[str, Any]:
        return columns(self.cell.problem, self.parameters(state), self.cell.seed, last)

    def parameters(self, state: State) -> Vectors:
        whole = self.setting.backend.to_numpy(state[PARAMETERS]).astype(np.float64)
        return unpacked(np, whole, self._shapes)

    def diagnose(self, state: State, t: int, replicates: int) -> dict[str, Any]:
        """Measure the variance of one estimate at a state, over whole blocks of replicates keyed by iteration t."""
        learnt = {name.removeprefix(LEARNT): a for name, a in state.items() if name.startswith(LEARNT)}
        at = replace(self.setting, parameters=self.setting.to_device(self.parameters(state)), state=learnt)
        size = max(1, replicates // _BLOCKS)
        setting = replace(at, replicates=size, path=(*at.path, "variance", t))
        try:
            once = StoppingCriteria(precision=1e300, max_replicates=size * (_BLOCKS + _PILOT))
            found = measure_source(StatisticsKernel(setting), None, once)
        except NonFinite:  # one of many estimates; the fit itself may never meet one
            return {"variance_flag": "not-estimable"}
        of_all = found.blocks["all"]
        return {
            **{name: of_all[name] for name in ("variance", "variance_low", "variance_high", "variance_flag")},
            "variances": {name: found.blocks[name]["variance"] for name in setting.blocks},
            "replicates": found.replicates,
            "mean_norm": of_all["mean_norm"],
        }
