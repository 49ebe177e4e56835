"""The number of replicates for a verdict with control variates of known mean, and without.

All draws are counted until every parameter block has its bound: pilots, interim analyses, defensive draws,
confirmation. Where a bound misses its target when the cap is reached, the replicates that would reach the target are
added, with a bound that falls as 1/√n. Cells of over 100 evaluations per estimate are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.measurement.analyses import Measurement
from gradmeter.bench.measurement.cell import measure
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.performance.goals.goal import Goal, Measured
from gradmeter.bench.performance.goals.kernels import present
from gradmeter.bench.rows import ALL
from gradmeter.bench.sweep import suites
from gradmeter.estimators import Estimator, Expectation, Noise, Requires
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks
from gradmeter.estimators.noise import DrawnNoise

SUITES = ("quick", "mohamed2020", "discrete", "vae", "iwae")
REGRESSIONS = ("logistic-regression", "linear-regression", "student-t-regression", "poisson-regression[scale=0.1]")
ESTIMATORS = ("pathwise", "score-function", "score-function[baseline=leave-one-out]")
DEAR = 100
#: Cells of which a stated gain is required.
NAMED = (
    ("student-t-regression", "pathwise", 5.0),
    ("logistic-regression[batch=8]", "pathwise", 7.0),
    ("logistic-regression[batch=64]", "pathwise", 7.0),
)
BOUND, CAP = 0.01, 2**18
#: Allowed excess of replicates with controls where they do not help: this factor, or this number.
WORSE, MORE = 1.1, 4096
FACTORS, SEEDS, FEW, MANY = (0.002, 0.005, 0.01, 0.02), 4, 2**16, 2**20


def replicates() -> Iterator[Goal]:
    """Yield the replicates that certify 1 % at 99.9 % without controls, over those with controls."""
    for name in SUITES:
        yield from _compared(f"suite {name}", _unbiased(suites.load(name).cells))
    for backend in present():
        yield from _compared(f"regressions, {backend}", _regressions(backend))
    for problem, estimator, least in NAMED:
        cell = Cell(make_problem(problem), make_estimator(estimator))
        plain, relieved, _ = _both(cell) or (math.nan, math.nan, False)
        ratio = plain / relieved
        yield Goal(f"replicates to certify, plain over controls: {problem} {estimator}", _once(ratio), least=least)


def _unbiased(cells: Any) -> Iterator[Cell]:
    for cell in cells:
        if not getattr(cell.estimator, "injected", False) and infeasible(cell) is None:
            yield cell


def _regressions(backend: str) -> Iterator[Cell]:
    for problem in REGRESSIONS:
        for text in ESTIMATORS:
            estimator = make_estimator(text)
            cell = Cell(make_problem(problem), estimator, backend, num_samples=estimator.smallest_num_samples())
            if infeasible(cell) is None:
                yield cell


def _compared(what: str, cells: Iterator[Cell]) -> Iterator[Goal]:
    pairs = [pair for cell in cells if (pair := _both(cell)) is not None]
    needed = [(plain, relieved) for plain, relieved, first in pairs if not first]
    if not needed:
        return
    ratios = np.array([plain / relieved for plain, relieved in needed])
    worse = sum(relieved > max(WORSE * plain, plain + MORE) for plain, relieved in needed)
    remark = (
        f"{len(needed)} of {len(pairs)} cells; quarters {np.quantile(ratios, 0.25):.3g} and "
        f"{np.quantile(ratios, 0.75):.3g}; {worse} take over {WORSE} times as many, or {MORE:,} more"
    )
    middle = _once(float(np.median(ratios)))
    yield Goal(f"replicates to certify, plain over controls, median: {what}", middle, least=10.0, remark=remark)


def _once(value: float) -> Measured:
    return Measured(value, value, value)


def _both(cell: Cell) -> tuple[float, float, bool] | None:
    """Return the replicates without and with controls, and whether they are equal as the first analysis sufficed.

    None where plain replicates give no bound, or the noise is integrated over.
    """
    goals = StoppingCriteria(precision=1e6, bias_bound=BOUND, max_replicates=min(CAP, cell.goals.max_replicates))
    ready = prepare(replace(cell, goals=goals))
    if ready.evaluations > DEAR:
        return None
    plain = measure(ready, goals, controlled=False)
    if plain.blocks[ALL].get("certificate") != "sampling" or _needed(plain) is None:
        return None
    relieved = measure(ready, goals)
    found = _needed(plain), _needed(relieved)
    if found[0] is None or found[1] is None:
        return None
    return found[0], found[1], relieved.drawn == plain.drawn


def _needed(found: Measurement) -> float | None:
    bounds = [row.get("bias_bound") for row in found.blocks.values()]
    known = [float(bound) for bound in bounds if bound is not None]
    return found.drawn * max(1.0, (max(known) / BOUND) ** 2) if len(known) == len(bounds) else None


@dataclass(frozen=True)
class Scaled(Estimator):
    """An estimator times a factor, which gives a relative bias of factor − 1 in every coordinate."""

    name: ClassVar[str] = "scaled"
    summary: ClassVar[str] = "an estimator times a factor"
    requires: ClassVar[Requires] = Requires()

    inner: Estimator
    factor: float

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        return self.inner.noise_specs(expectation, num_samples, dimension)

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> Blocks:
        found = self.inner.estimate_integrand(backend, expectation, parameters, noise, state)
        return {name: self.factor * each for name, each in found.items()}


def power() -> Iterator[Goal]:
    """Yield the share of biases that are found at 2^16 replicates with controls, and at 2^20 without."""
    for text in ("pathwise", "score-function"):
        for factor in FACTORS:
            found = {
                cap: sum(_found(text, factor, seed, cap, cap == FEW) for seed in range(SEEDS)) for cap in (FEW, MANY)
            }
            yield Goal(
                f"share of biases of {100 * factor:g} % found at 2^16 with controls: logistic-regression {text}",
                _once(found[FEW] / SEEDS),
                remark=f"at 2^20 without: {found[MANY] / SEEDS:g}; {SEEDS} seeds",
            )


def _found(text: str, bias: float, seed: int, cap: int, controlled: bool) -> bool:
    estimator = Scaled(make_estimator(text), 1.0 + bias)
    goals = StoppingCriteria(precision=1e6, bias_bound=bias / 8.0, max_replicates=cap)
    ready = prepare(Cell(make_problem("logistic-regression"), estimator, seed=seed, goals=goals))
    return bool(measure(ready, goals, controlled=controlled).blocks[ALL]["verdict"] == "biased")
