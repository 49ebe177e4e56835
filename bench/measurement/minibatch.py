"""Split a minibatch estimate's variance in two: Var ĝ = E_B[Var_z(ĝ | B)] + Var_B(E_z[ĝ | B]).

Let two estimates ĝ, ĝ′ share the minibatch B and nothing else. Then the variance of (ĝ − ĝ′)/√2 is the sampling part,
and the variance of (ĝ + ĝ′)/√2 is the sampling part plus twice the minibatch part, which is the covariance of ĝ and ĝ′.
Both are measured like any estimate, on the same noise; the sum of the parts can then be compared with the variance of ĝ
itself on other noise. More samples reduce the sampling part as 1/S, and not the minibatch part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.cells import Cell, StoppingCriteria
from gradmeter.bench.measurement.analyses import Measurement, measure_source
from gradmeter.bench.measurement.kernel import Setting, StatisticsKernel
from gradmeter.bench.measurement.moments import GROUPS
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.estimators import Estimator, Expectation, Noise, NotApplicable, Requires
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks
from gradmeter.estimators.noise import DrawnNoise

#: t quantile of a 95 % interval from 64 groups.
T_95 = 1.9983405425207412
AGAIN = "again_"


@dataclass(frozen=True)
class PairedEstimator(Estimator):
    """The estimator (ĝ + sign ĝ′)/√2 of two estimates ĝ and ĝ′ on one minibatch."""

    name: ClassVar[str] = "twice"
    summary: ClassVar[str] = "two estimates that share a minibatch, added or subtracted"
    requires: ClassVar[Requires] = Requires()

    inner: Estimator
    sign: float

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        specs, shared = self.inner.noise_specs(expectation, num_samples, dimension), expectation.noise_specs()
        return {**specs, **{AGAIN + name: spec for name, spec in specs.items() if name not in shared}}

    def estimate(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> Blocks:
        first = {name: values for name, values in noise.items() if not name.startswith(AGAIN)}
        second = {**first, **{name.removeprefix(AGAIN): a for name, a in noise.items() if name.startswith(AGAIN)}}
        one, other = (
            self.inner.estimate(backend, expectation, parameters, DrawnNoise(n, noise.replicates), state)
            for n in (first, second)
        )
        return {name: math.sqrt(0.5) * (one[name] + self.sign * other[name]) for name in one}

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> Blocks:
        raise NotImplementedError("two whole estimates are made")


def split(cell: Cell) -> list[dict[str, Any]]:
    """Measure the parts of a cell's variance for each parameter block and `all`, over `max_replicates` pairs.

    Returns
    -------
    One dict per block: block, num_samples, replicates, and `sampling`, `minibatch` and `total`, each with its 95 %
    interval `_low` and `_high`; `sampling` and `total` also with the `_flag` of their variance.

    Raises
    ------
    NotApplicable
        The estimator does not apply to the problem, or the problem draws no minibatch.
    """
    setting = prepare(cell).setting
    if not cell.problem.draws_inputs:
        raise NotApplicable(f"problem {cell.problem.name} draws no minibatch here; give it a batch")
    goals = replace(cell.goals, precision=np.finfo(float).tiny)  # use all replicates, so that pairs stay paired
    less, more = (
        _measured(replace(setting, estimator=PairedEstimator(setting.estimator, sign)), goals) for sign in (-1.0, 1.0)
    )
    whole = _measured(replace(setting, path=(*setting.path, "whole")), goals)
    return [
        {
            "block": block,
            "num_samples": setting.num_samples,
            "replicates": less.replicates,
            **_columns("sampling", less.blocks[block]),
            **_covariance(more.squared_norms[block] - less.squared_norms[block], less.replicates),
            **_columns("total", whole.blocks[block]),
        }
        for block in less.blocks
    ]


def _measured(setting: Setting, goals: StoppingCriteria) -> Measurement:
    return measure_source(StatisticsKernel(setting), None, goals)


def _columns(part: str, found: dict[str, Any]) -> dict[str, Any]:
    return {part + end: found["variance" + end] for end in ("", "_low", "_high", "_flag")}


def _covariance(doubled: np.ndarray, replicates: int) -> dict[str, Any]:
    """Return half the mean over groups of the sum's less the difference's squared norm, with a t interval.

    Parameters
    ----------
    doubled
        Squared norm of (ĝ + ĝ′)/√2 less that of (ĝ − ĝ′)/√2 by group [64].
    """
    per_group = 0.5 * doubled * replicates / (replicates - 1)
    mean, error = float(per_group.mean()), T_95 * float(per_group.std(ddof=1)) / math.sqrt(GROUPS)
    return {"minibatch": mean, "minibatch_low": mean - error, "minibatch_high": mean + error}
