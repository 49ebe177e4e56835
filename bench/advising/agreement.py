"""The mean of one estimator as the reference of all others, where there is no exact gradient."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from gradmeter.bench.audit.findings import means_of
from gradmeter.bench.cells import Cell, StoppingCriteria
from gradmeter.bench.measurement.cell import measure
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.problems import Exact
from gradmeter.bench.problems.user_model import Model
from gradmeter.bench.report.ranking import Ranking
from gradmeter.bench.rows import Row

#: The probability that the error bound of the mean fails for any coordinate. An estimator with the right mean is called
#: `disagrees` only if that bound fails, or if chance passes both stages of the test (1e-7).
LEVEL = 1e-3
#: Replicates of the mean at first; at most; and the part of the time that more of them may take.
REPLICATES, MOST, SHARE = 2**15, 2**20, 0.2
#: The difference, relative to the mean of the reference, that is to be excluded. It is larger than for an exact
#: gradient, since the reference has an error of its own.
BIAS_BOUND = 0.05
#: Error of the reference to reach, which is what `Exact.error` holds.
PRECISION = BIAS_BOUND / 4
#: Added to the seed, so that the mean is independent of what is compared with it.
OTHER_SEED = 1
ESTIMATOR = "estimator"
WORDS = {"unbiased": "agrees", "biased": "disagrees"}


@dataclass(frozen=True)
class Agreement:
    """The estimator whose mean is the reference."""

    reference: str

    def remarks(self, ranking: Ranking) -> list[str]:
        apart = [r.estimator for r in ranking.unranked if r["verdict"] == "disagrees"]
        found = [f"there is no exact gradient here; the reference is the mean of {self.reference}"]
        if apart:
            found.append(
                f"{', '.join(apart)} and {self.reference} have different means; if f has jumps, the pathwise gradient "
                "is wrong, and the score function's right"
            )
        return found


def with_reference(cells: Sequence[Cell], seconds: float) -> tuple[list[Cell], Agreement | None]:
    """Return the cells of a `Model` without an exact gradient with the mean of the first one as their reference.

    Parameters
    ----------
    seconds : for all of the advice.
    """
    first = cells[0]
    problem = first.problem
    if not isinstance(problem, Model) or problem.exact() is not None:
        return list(cells), None
    shapes, started = {name: a.shape for name, a in problem.parameters().items()}, time.monotonic()
    exact = _mean(first, REPLICATES, shapes)
    affordable = REPLICATES * SHARE * seconds / (time.monotonic() - started)
    more = min(REPLICATES * ((exact.error or 0.0) / PRECISION) ** 2, affordable, MOST)
    if more >= 2 * REPLICATES:
        exact = _mean(first, int(more), shapes)
    known = replace(problem, reference=exact)
    compared = [replace(cell, problem=known, goals=replace(cell.goals, bias_bound=BIAS_BOUND)) for cell in cells]
    return compared, Agreement(first.label().split(" · ")[1])


def _mean(cell: Cell, replicates: int, shapes: Mapping[str, tuple[int, ...]]) -> Exact:
    """Return the mean of this many replicates of a cell as a reference."""
    goals = StoppingCriteria(precision=1e-9, bias_bound=1e-9, max_replicates=replicates)
    prepared = prepare(replace(cell, seed=cell.seed + OTHER_SEED, goals=goals))
    return _exact(means_of(measure(prepared, goals)), shapes)


def _exact(found: Mapping[str, tuple[np.ndarray, np.ndarray]], shapes: Mapping[str, tuple[int, ...]]) -> Exact:
    """Return means as a reference, with bounds on their errors that hold jointly at `LEVEL`."""
    quantile = NormalDist().inv_cdf(1.0 - 0.5 * LEVEL / sum(mean.size for mean, _ in found.values()))
    size, error = (math.sqrt(sum(float((both[i] ** 2).sum()) for both in found.values())) for i in (0, 1))
    return Exact(
        {name: mean.reshape(shapes[name]) for name, (mean, _) in found.items()},
        ESTIMATOR,
        error=4.0 * error / size if size > 0.0 else None,
        errors={name: quantile * e.reshape(shapes[name]) for name, (_, e) in found.items()},
    )


def worded(row: Row) -> Row:
    """Return a row whose verdict says that its reference is an estimator, where it is one."""
    if row["exact_source"] != ESTIMATOR:
        return row
    return {**row, "verdict": WORDS.get(row["verdict"], row["verdict"])}
