"""What the benchmarks measure: problems, estimators and backends, as far as they exist here."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gradmeter.estimators.backends import NAMES, missing

if TYPE_CHECKING:
    from gradmeter.bench.cells import Cell
    from gradmeter.bench.measurement.kernel import Setting

#: Where a person sees at once what is measured: asv keeps standard error until a benchmark has ended.
TERMINAL = Path("/dev/tty")
#: `GRADMETER_TRACK="numpy jax"` in the environment tracks those alone, which is quicker.
ASKED_FOR = (os.environ.get("GRADMETER_TRACK") or " ".join(NAMES)).split()
#: `GRADMETER_TRACK_AHEAD=1`, as in `make track`, measures all statistics first, in one process, which is quicker.
AHEAD = bool(os.environ.get("GRADMETER_TRACK_AHEAD"))
#: A framework that is not installed means fewer combinations, not failures.
BACKENDS = tuple(name for name in NAMES if name in ASKED_FOR and missing(name) is None)

ESTIMATORS = (
    "score-function",
    "score-function[baseline=mean]",
    "score-function[baseline=optimal]",
    "score-function[baseline=moving-average]",
    "score-function[baseline=leave-one-out]",
    "pathwise",
    "pathwise[antithetic=true]",
    "measure-valued",
)
#: Of the other kinds of estimators that a Normal has, one each: their statistics are tracked, not their kernels.
FURTHER_ESTIMATORS = (
    "rao-blackwell",
    "importance-sampling",
    "overdispersed",
    "taylor",
    "quadratic-surrogate",
    "combined-control-variates",
    "price",
)
DISCRETE_ESTIMATORS = (
    "score-function[baseline=leave-one-out]",
    "rao-blackwell",
    "measure-valued",
    "arm",
    "disarm",
    "double-control-variates",
    "muprop",
    "rebar",
    "relax",
)
#: With the one that needs an ELBO.
ELBO_ESTIMATORS = (*ESTIMATORS, "pathwise[sticking-the-landing=true]")

REAL_DATA = "logistic-regression"
#: More noise than can be integrated, so that its verdicts rest on sampling, as most do.
TEST_FUNCTION = "cosine[k=2.5,loc=1,dim=10]"
#: Binary latents, on real data.
DISCRETE = "sigmoid-belief-network"
#: Many samples and little arithmetic: where the noise floor is looked at.
KERNEL = "square[k=2,dim=100]"

#: PyTorch takes half a minute to compile this, twice; it is measured on the test function instead.
SLOW_TO_COMPILE = (REAL_DATA, "torch", "measure-valued")


def cell(problem: str, backend: str, estimator: str, dtype: str = "float64", replicates: int = 2**20) -> Cell:
    """Return a cell with the least S that the estimator takes.

    It draws `replicates`, less what does not fill a doubling: its goals are out of reach.
    """
    from gradmeter.bench.cells import Cell, StoppingCriteria, make_estimator, make_problem

    made = make_estimator(estimator)
    goals = StoppingCriteria(precision=1e-9, bias_bound=1e-9, max_replicates=replicates)
    return Cell(make_problem(problem), made, backend, dtype=dtype, num_samples=made.smallest_num_samples(), goals=goals)


def prepared(backend: str, estimator: str, dtype: str = "float32") -> Setting:
    """Return the prepared cell of an estimator on the problem on which the noise floor is measured."""
    from gradmeter.bench.measurement.prepared import prepare

    return prepare(cell(KERNEL, backend, estimator, dtype)).setting


def show(text: str) -> None:
    """Write a line to standard error, which asv prints with `--show-stderr`, and to the terminal if there is one."""
    print(text, file=sys.stderr, flush=True)
    with suppress(OSError), TERMINAL.open("w", encoding="utf-8") as terminal:
        terminal.write(f"\n               {text} ")
