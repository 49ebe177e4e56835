"""Whole cells: measured variances against quadrature, the same rows again, the same rows elsewhere."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import Cell, StoppingCriteria, make_problem
from gradmeter.bench.measurement.cell import measure
from gradmeter.bench.measurement.columns import rows_of
from gradmeter.bench.measurement.kernel import Setting, StatisticsKernel
from gradmeter.bench.measurement.moments import GROUPS
from gradmeter.bench.measurement.prepared import _PREPARED, MOST_PREPARED, prepare
from gradmeter.bench.measurement.stream import NonFinite, Stream, pilot_mean
from gradmeter.bench.measurement.verdict import Evidence, Verdicts
from gradmeter.bench.problems.test_functions import SquareIntegrand
from gradmeter.bench.rows import COLUMNS
from gradmeter.estimators import Pathwise, UsageError, backends
from gradmeter.estimators.backends.backend import Backend
from tests import exact
from tests.support import TEST_FUNCTIONS, Blocks, integrated_problem, make_cell, measured, needs, single

#: How many standard errors of log V̂ a measured variance may be away. With fresh seeds, 108 comparisons would exceed
#: it with probability 6e-5 in all; the seeds are fixed.
FAR = 5.0
#: Estimates that are made to check an estimator, before any is drawn for its verdict.
CHECKS = 512
ESTIMATORS = (
    "score-function",
    "score-function[baseline=mean]",
    "score-function[baseline=optimal]",
    "score-function[baseline=leave-one-out]",
    "pathwise",
    "pathwise[antithetic=true]",
    "measure-valued",
    "measure-valued[coupling=false]",
)
STATISTICS = [
    name
    for name in COLUMNS
    if COLUMNS[name] == "number" and not name.startswith(("seconds", "latency", "compile", "work"))
]


@functools.cache
def quadrature(problem: str, estimator: str) -> dict[str, Any]:
    return integrated_problem(backends.get("numpy"), problem, estimator, nodes=96)


@pytest.mark.matrix
@pytest.mark.parametrize("problem", TEST_FUNCTIONS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_measured_variance(backend_name: str, problem: str, estimator: str) -> None:
    """At points nobody tuned for, on every backend: variance, interval, verdict, norms.

    At a seed where no score function's tail looks infinite by chance, as it does at one seed in ten or so.
    """
    rows = measured(make_cell(problem, estimator, backend=backend_name, precision=0.02, max_replicates=2**21, seed=5))
    expected = quadrature(problem, estimator)
    for name, (mean, variance, _) in expected.items():
        row = rows[name]
        assert row["verdict"] == "unbiased"
        assert row["exact_norm"] == pytest.approx(np.linalg.norm(mean), rel=1e-9)
        if variance[0] < 1e-20:
            assert row["variance"] == 0.0
            continue
        error = math.sqrt((row["kurtosis"] - 1.0) / row["replicates"])
        assert row["variance_flag"] == "ok"
        assert abs(math.log(row["variance"] / variance[0])) < FAR * error
        assert abs(math.log(row["variance_high"] / row["variance_low"])) == pytest.approx(
            2 * 1.959964 * error, rel=1e-5
        )
        assert abs(row["mean_norm"] - row["exact_norm"]) < FAR * math.sqrt(variance[0] / row["replicates"])
        assert row["snr"] == pytest.approx(row["exact_norm"] / math.sqrt(row["variance"]), rel=1e-12)
    assert rows["all"]["exact_norm"] == pytest.approx(math.hypot(*(rows[name]["exact_norm"] for name in expected)))
    assert rows["all"]["variance"] == pytest.approx(sum(rows[name]["variance"] for name in expected), rel=1e-12)


def test_variance_is_a_trace() -> None:
    """Two unlike blocks of four coordinates: the sum of the coordinates' variances, D times that of one."""
    rows = measured(make_cell("square[k=1.37,loc=-0.6,scale=0.83,dim=4]", "pathwise", max_replicates=2**18))
    one = exact.square(-0.6 - 1.37, 0.83)["pathwise"]
    for name, variance in one.items():
        assert rows[name]["variance"] == pytest.approx(4 * variance, rel=0.02)


@pytest.mark.parametrize("samples", [2, 8])
def test_variance_is_that_of_one_estimate(samples: int) -> None:
    """Of S samples together, not of the samples in it: leave-one-out's closed form for the square."""
    delta, s = -0.6 - 1.37, 0.83
    rows = measured(
        make_cell(TEST_FUNCTIONS[0], "score-function[baseline=leave-one-out]", samples, max_replicates=2**18)
    )
    # μ₂₂ = E[(f − Ef)² score²] is what the mean baseline's variance adds g² to.
    mean = exact.square(delta, s)["score-function[baseline=mean]"]
    gradient, spread = {"loc": 2 * delta, "log_scale": 2 * s**2}, {"loc": 1 / s**2, "log_scale": 2.0}
    f = 4 * delta**2 * s**2 + 2 * s**4
    one = samples * (samples - 1)
    for name, variance in mean.items():
        g2 = gradient[name] ** 2
        expected = (variance + g2) / samples - (samples - 2) * g2 / one + f * spread[name] / one
        row = rows[name]
        assert abs(math.log(row["variance"] / expected)) < FAR * math.sqrt((row["kurtosis"] - 1) / row["replicates"])


CELLS = [
    (TEST_FUNCTIONS[2], "score-function[baseline=moving-average]", 3),
    ("square[k=1.37,loc=-0.6,scale=0.83,dim=3]", "measure-valued", 1),
    ("linear-regression[batch=7,loc=0.1]", "pathwise[antithetic=true]", 2),
]


#: Elsewhere than on NumPy what draws minibatches and normal numbers: compiling is what costs.
REPEATED = [*(("numpy", *case) for case in CELLS), *((name, *CELLS[2]) for name in backends.NAMES if name != "numpy")]


@pytest.mark.parametrize(("backend", "problem", "estimator", "samples"), REPEATED)
def test_the_same_again(eager: None, backend: str, problem: str, estimator: str, samples: int) -> None:
    """Bitwise, on every backend; another seed differs."""
    needs(backend)
    first, again = (measured(make_cell(problem, estimator, samples, backend, max_replicates=2**15)) for _ in range(2))
    assert [[row[n] for n in STATISTICS] for row in first.values()] == [
        [row[n] for n in STATISTICS] for row in again.values()
    ]
    other = measured(make_cell(problem, estimator, samples, backend, max_replicates=2**15, seed=1))
    assert other["all"]["variance"] != first["all"]["variance"]


@pytest.mark.parametrize(("problem", "estimator", "samples"), CELLS)
@pytest.mark.parametrize("other", [name for name in backends.NAMES if name != "numpy"])
def test_shared_noise_gives_the_same_rows(eager: None, other: str, problem: str, estimator: str, samples: int) -> None:
    """NumPy's draws handed to every framework: the same statistics, to rounding."""
    needs(other)
    found, expected = (
        measured(make_cell(problem, estimator, samples, name, noise="shared", max_replicates=2**14))
        for name in (other, "numpy")
    )
    for block, row in expected.items():
        for name in ("exact_norm", "mean_norm", "variance", "variance_low", "variance_high", "kurtosis", "tail_k"):
            assert found[block][name] == pytest.approx(row[name], rel=1e-9), name
        for name in ("replicates", "verdict", "variance_flag"):
            assert found[block][name] == row[name]


def test_common_random_numbers() -> None:
    """Estimators that share a name share its draws: the antithetic estimate is made of the plain one's noise."""
    plain, other = (
        prepare(make_cell(TEST_FUNCTIONS[0], e, 4)).setting for e in ("pathwise", "score-function[baseline=mean]")
    )
    first, second = (s.noise(s.roots("main"), 3, 16)["base"] for s in (plain, other))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("precision", [0.05, 0.002])
@pytest.mark.parametrize("cap", [2**22, 2**16, 1000, 64])
def test_precision_and_cap(monkeypatch: pytest.MonkeyPatch, precision: float, cap: int) -> None:
    """Replicates double until the goals hold; what is drawn for the verdict, pilot and confirmation included, is never
    more than the cap."""
    drawn = []
    draw = Setting.noise

    def counted(self: Setting, roots: Any, block: int, replicates: int) -> Any:
        drawn.append(replicates)
        return draw(self, roots, block, replicates)

    monkeypatch.setattr(Setting, "noise", counted)
    for estimator in ("pathwise", "injected-self-included-baseline"):
        drawn.clear()
        cell = make_cell(TEST_FUNCTIONS[0], estimator, 4, precision=precision, max_replicates=cap)
        rows = measured(cell)
        row = rows["all"]
        low, high = row["variance_low"], row["variance_high"]
        half = 0.5 * (math.log(high) - math.log(low)) if low else math.inf
        assert half <= precision or row["replicates"] > cap // 4
        block = cap // 132 + 1  # the noise of one is drawn again, for eight of its estimates
        assert 64 <= row["replicates"] <= sum(drawn) <= cap + CHECKS + block
        assert estimator == "pathwise" or row["verdict"] == "biased" or cap <= 1000


def test_too_few_replicates_are_refused() -> None:
    with pytest.raises(UsageError, match="max replicates is '63'; it must be a whole number, at least 64"):
        make_cell(TEST_FUNCTIONS[0], "pathwise", max_replicates=63)


class Treacherous(SquareIntegrand):
    """NaN where z is far out."""

    def term(self, xp: Any, data: Any, z: Any) -> Any:
        return xp.where(z > 3.0, xp.nan, (z - data["k"]) ** 2)


def test_not_finite(backend_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = make_cell("square[k=2]", "score-function", backend=backend_name)
    monkeypatch.setattr(type(cell.problem), "integrand", Treacherous())
    with np.errstate(invalid="ignore"), pytest.raises(NonFinite, match="estimate of loc is not finite"):
        measure(prepare(cell), cell.goals)


def test_without_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """No exact gradient: no verdict, but all of the variance."""
    cell = make_cell(TEST_FUNCTIONS[0], "score-function[baseline=optimal]", max_replicates=2**18)
    monkeypatch.setattr(type(cell.problem), "exact", lambda self: None)
    rows = measured(cell)
    expected = exact.square(-0.6 - 1.37, 0.83)["score-function[baseline=optimal]"]
    for name, variance in expected.items():
        assert rows[name]["verdict"] == "no-reference"
        assert rows[name]["exact_norm"] is None
        assert rows[name]["bias_bound"] is None
        assert rows[name]["variance"] == pytest.approx(variance, rel=0.1)
    # The state is then learned from noise of its own, and the row says so.
    assert "conditional on a state" in rows["loc"]["reason"]


def test_moving_average_says_what_it_is_conditional_on() -> None:
    row = measured(make_cell(TEST_FUNCTIONS[0], "score-function[baseline=moving-average]", max_replicates=2**12))["all"]
    assert "conditional on a state fitted once" in row["reason"]


def test_chunks_do_not_matter(eager: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """JAX loops over blocks inside one call: how many is a matter of speed."""
    needs("jax")
    found = []
    for chunk in (2**20, 2**12):
        monkeypatch.setattr(type(backends.get("jax")), "chunk", chunk)
        rows = measured(make_cell("cosine[k=1.9,loc=0.45,scale=1.2]", "pathwise", backend="jax", max_replicates=2**16))
        found.append([row[name] for row in rows.values() for name in STATISTICS if row[name] is not None])
    assert found[0] == pytest.approx(found[1], rel=1e-12)  # XLA adds in another order


def parameters_of(setting: Setting) -> Blocks:
    return {name: setting.backend.to_numpy(a) for name, a in setting.parameters.items()}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_prepared_on_the_backend(backend: Backend, dtype: str) -> None:
    setting = prepare(make_cell(TEST_FUNCTIONS[0], "pathwise", backend=backend.name, dtype=dtype)).setting
    for name, expected in single(-0.6, 0.83).items():
        found = parameters_of(setting)[name]
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("problem", "estimator"),
    [
        ("square[k=1.37,loc=-0.6,scale=0.83]", "pathwise"),
        ("square[k=1.37,dim=3]", "score-function"),
        ("exponential-moment[t=0.9]", "score-function"),  # E Q² is infinite
        ("polynomial[degree=1]", "pathwise"),  # ∂loc is constant
    ],
)
def test_a_look_that_is_passed_over_was_not_precise(problem: str, estimator: str) -> None:
    """What is told without the tail index is necessary for the rows to be good enough, and of light tails all of it."""
    kernel = StatisticsKernel(prepare(make_cell(problem, estimator)).setting)
    stream = Stream(kernel, "main", pilot_mean(kernel))
    verdicts = Verdicts(
        kernel.setting, None, {name: np.full(p, 1e-12) for name, p in kernel.setting.sizes.items()}, Evidence()
    )
    for blocks in (GROUPS, 2 * GROUPS):
        stream.extend(blocks)
        rows = rows_of(verdicts, stream).values()
        for precision in (1e-4, 0.003, 0.01, 0.1, 1.0):
            precise = all(r["half_width"] <= precision and r["variance_flag"] == "ok" for r in rows)
            may_be = verdicts.may_be_precise(stream, precision)
            assert may_be or not precise
            assert precise or not may_be or any(r["variance_flag"] != "ok" for r in rows)


class Mine(Pathwise):
    """A user's estimator."""


def test_prepared_cells_of_the_catalogue_are_remembered() -> None:
    """The same cell at another precision is not prepared again; another one, or one with a user's part, is."""
    first = prepare(make_cell("square[dim=2]", "pathwise"))
    assert not first.checked
    rows = measure(first, StoppingCriteria()).blocks
    assert first.checked
    again = prepare(make_cell("square[dim=2]", "pathwise", precision=0.01))
    assert again is first
    assert measure(again, StoppingCriteria()).blocks == rows
    assert prepare(make_cell("square[dim=2]", "pathwise", seed=1)) is not first
    assert prepare(make_cell("square[dim=2]", "pathwise", max_replicates=2**12)) is not first
    mine = Cell(make_problem("square[dim=2]"), Mine())
    assert prepare(mine) is not prepare(mine)
    for seed in range(MOST_PREPARED):
        prepare(make_cell("square", "pathwise", seed=seed))
    assert len(_PREPARED) == MOST_PREPARED
    assert prepare(make_cell("square[dim=2]", "pathwise")) is not first
