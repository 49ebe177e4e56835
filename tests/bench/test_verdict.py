"""Evidence that must agree: replicates that depend on each other, integrals that sampling contradicts, heavy tails."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from gradmeter.bench.cells import StoppingCriteria
from gradmeter.bench.measurement.analyses import measure_source
from gradmeter.bench.measurement.bias import difference
from gradmeter.bench.measurement.integrate import Integral
from gradmeter.bench.measurement.kernel import BlockSums, StatisticsKernel
from gradmeter.bench.measurement.moments import GROUPS, Moments
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.measurement.stream import Stream
from gradmeter.bench.measurement.verdict import Evidence, Verdicts
from gradmeter.bench.problems import Exact
from gradmeter.bench.sweep.measuring import measure_cell
from tests.support import make_cell, measured

REPLICATES = 64


@dataclass(frozen=True)
class Made:
    """What the statistics need to know of estimates that a test makes: of two coordinates, in one parameter block."""

    replicates: int = REPLICATES
    dtype: str = "float64"

    @property
    def sizes(self) -> dict[str, int]:
        return {"loc": 2}

    @property
    def blocks(self) -> tuple[str, ...]:
        return ("loc",)

    def roots(self, stream: str) -> Any:
        return stream

    def zeros(self) -> dict[str, Any]:
        return {"loc": np.zeros(2)}

    def to_device(self, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        return arrays


class MadeSource:
    """Estimates from `make(generator, count) -> [count, 2]`, one block after another."""

    chunk, cubed = 1, REPLICATES

    def __init__(self, make: Any, seed: int = 0) -> None:
        self.setting, self.make, self.seed = Made(), make, seed

    def __call__(self, roots: Any, first: int, centre: dict[str, Any]) -> BlockSums:
        words = [self.seed, first, sum(map(ord, roots))]
        d = self.make(np.random.default_rng(words), REPLICATES) - centre["loc"]
        powers = tuple(np.sum(d**k, axis=0)[None] for k in (1, 2, 3))
        return {"loc": (*powers, np.sum(d * d, axis=1)[None])}


EXACT = Exact({"loc": np.ones(2)}, "given")
GOALS = StoppingCriteria(max_replicates=2**15)


def row_of(make: Any, evidence: Evidence | None = None, seed: int = 0) -> dict[str, Any]:
    return measure_source(MadeSource(make, seed), EXACT, GOALS, evidence).blocks["loc"]


def independent(generator: np.random.Generator, count: int) -> np.ndarray:
    return 1.0 + generator.standard_normal((count, 2))


def shared(generator: np.random.Generator, count: int) -> np.ndarray:
    """3 % of the variance is common to a block."""
    return (
        1.0 + math.sqrt(0.97) * generator.standard_normal((count, 2)) + math.sqrt(0.03) * generator.standard_normal(2)
    )


def chain(generator: np.random.Generator, count: int) -> np.ndarray:
    """Autoregressive with 0.9."""
    steps, values = generator.standard_normal((count, 2)), np.empty((count, 2))
    values[0] = steps[0]
    for i in range(1, count):
        values[i] = 0.9 * values[i - 1] + math.sqrt(0.19) * steps[i]
    return 1.0 + values


def frozen(generator: np.random.Generator, count: int) -> np.ndarray:
    """The same numbers in every block."""
    return 1.0 + np.random.default_rng(7).standard_normal((count, 2))


def balanced(generator: np.random.Generator, count: int) -> np.ndarray:
    """Every block has the mean that it should have."""
    values = generator.standard_normal((count, 2))
    return 1.0 + values - values.mean(axis=0)


@pytest.mark.parametrize("make", [shared, chain, frozen, balanced])
def test_replicates_that_depend_on_each_other(make: Any) -> None:
    """No verdict, no interval, and the row says why."""
    row = row_of(make)
    assert (row["verdict"], row["variance_flag"]) == ("inconclusive", "dependent")
    assert (row["variance_low"], row["variance_high"]) == (None, None)
    assert "replicates depend on each other" in row["reason"]


def test_independent_replicates_are_not_suspected() -> None:
    """In 50 runs, of which each has a chance of about 1e-9; of a heavy tail too."""
    for seed in range(25):
        for make in (independent, lambda g, n: 1.0 + g.standard_t(3.0, (n, 2))):
            assert row_of(make, seed=seed)["variance_flag"] != "dependent"


def test_one_suspicion_is_not_enough() -> None:
    """Stage one alone calls one run in 10,000 or so: fresh groups decide."""
    verdicts = Verdicts(Made(), EXACT, {"loc": np.full(2, 1e-12)}, Evidence())
    suspected = Stream(MadeSource(chain), "main", {"loc": np.zeros(2)})
    suspected.extend(GROUPS)
    found = verdicts.dependence(suspected)
    assert found["loc"] > 2.1
    fresh = Stream(MadeSource(independent), "confirm", {"loc": np.zeros(2)})
    fresh.extend(GROUPS)
    verdicts.confirm_dependence(found, fresh)
    assert verdicts.dependent is None


def integral(mean: float, variance: float = 1.0, error: float = 1e-12) -> dict[str, Integral]:
    return {"loc": Integral(np.full(2, mean), np.full(2, variance), np.full(2, error))}


def test_an_integral_that_sampling_contradicts_is_refused() -> None:
    """It says unbiased; a tenth is missing of every mean that was sampled."""
    row = row_of(lambda g, n: 0.9 * independent(g, n), Evidence(integrals=lambda: integral(1.0)))
    assert (row["verdict"], row["certificate"]) == ("biased", "sampling")
    assert "integration over the noise was refused: it gives 1 for loc[" in row["reason"]
    assert row["bias_low"] < 0.1 < row["bias_high"]


def test_an_integral_that_sampling_does_not_contradict_stands() -> None:
    row = row_of(independent, Evidence(integrals=lambda: integral(1.0)))
    assert (row["verdict"], row["certificate"], row["assumption"]) == ("unbiased", "integration", None)
    row = row_of(lambda g, n: 0.9 * independent(g, n), Evidence(integrals=lambda: integral(0.9, 0.81)))
    assert (row["verdict"], row["certificate"]) == ("biased", "integration")
    assert row["bias"] == pytest.approx(0.1, rel=1e-12)


def test_a_mean_that_samples_do_not_show_does_not_refuse_its_integral() -> None:
    """A fifth of the mean comes once in a million replicates: the integrated variance allows for it."""
    height = 2e5
    variance = 1.0 + height**2 * 1e-6
    found = row_of(lambda g, n: independent(g, n) - 0.2, Evidence(integrals=lambda: integral(1.0, variance)))
    assert (found["verdict"], found["certificate"]) == ("unbiased", "integration")


def test_contradictions_alarm_at_their_rate() -> None:
    """Of right integrals none is refused in 150 runs, at a level of 1e-4 a run."""
    refused = sum(
        row_of(independent, Evidence(integrals=lambda: integral(1.0)), seed)["certificate"] == "sampling"
        for seed in range(150)
    )
    assert refused <= stats.binom(150, 1e-4).isf(1e-4)


def heavy(generator: np.random.Generator, count: int) -> np.ndarray:
    """A tail index of 1 and a mean that is right."""
    tail = generator.pareto(1.5, (count, 2)) - 2.0
    return 1.0 + tail


def test_a_heavy_tail_without_defensive_draws_is_inconclusive() -> None:
    """Never biased, never certified, in 40 seeds; no bound is promised."""
    for seed in range(40):
        row = row_of(heavy, seed=seed)
        assert row["verdict"] == "inconclusive"
        assert (row["bias_bound"], row["bias"]) == (None, None) or row["variance_flag"] == "ok"


def test_the_assumption_of_noise_from_elsewhere_is_said() -> None:
    row = row_of(independent, Evidence(assumption="somebody's noise"))
    assert row["assumption"] == "somebody's noise"
    assert "no event rarer than" in row_of(independent)["assumption"]


def test_states_that_no_replicate_met_may_explain_a_mean() -> None:
    """Of discrete z, a coordinate may be off by an event of probability 8/n of the size of the largest that was met."""
    moments = Moments(1, REPLICATES)
    generator = np.random.default_rng(0)
    for _ in range(GROUPS):
        d = generator.standard_normal((REPLICATES, 1))
        moments.add(d.sum(0)[None], (d**2).sum(0)[None], (d**3).sum(0)[None], np.asarray([[(d**2).sum(), 1.0]]))
        moments.keep_largest(d[:, 0] ** 2)
    d = difference(moments, np.zeros(1), np.zeros(1), np.zeros(1), rare=True)
    assert d.unseen[0] == pytest.approx(8.0 / moments.count * math.sqrt(moments.largest_norm))
    assert replace(d, mean=0.9 * d.unseen).explained(np.ones(1))
    assert not replace(d, mean=1.1 * d.unseen).explained(np.ones(1))
    assert not replace(d, mean=0.9 * d.unseen, rare=False).explained(np.ones(1))


@pytest.mark.parametrize(
    ("problem", "estimator"),
    [
        ("poisson-regression", "score-function[baseline=leave-one-out]"),
        ("poisson-regression[scale=1.2]", "pathwise"),
        ("poisson-regression[scale=4]", "pathwise"),
        ("exponential-moment[t=6,dim=4]", "measure-valued"),
        ("square[family=log-normal,scale=2.5,dim=4]", "score-function"),
        ("square[family=mixture-of-normals,distance=10,dim=2]", "pathwise"),
    ],
)
def test_what_rests_on_rare_events_is_not_called_biased(problem: str, estimator: str) -> None:
    """Right estimators whose replicates miss what the mean rests on; the row says what the verdict assumes."""
    rows = measured(make_cell(problem, estimator, max_replicates=2**17))
    assert all(row["verdict"] in ("unbiased", "inconclusive") for row in rows.values())
    assert rows["all"]["assumption"].startswith("defensive")


def test_defensive_draws_certify_what_plain_ones_cannot() -> None:
    """A log-normal f whose plain mean is off by ten standard errors: bounded within 20 %, with its variance."""
    row = measured(make_cell("square[family=log-normal,scale=1.5,dim=2]", "pathwise", bias_bound=0.2))["loc"]
    assert (row["verdict"], row["assumption"]) == ("unbiased", "defensive")
    second = 4.0 * math.exp(8.0 * 1.5**2)  # E (2 z²)²
    mean = 2.0 * math.exp(2.0 * 1.5**2)
    assert row["variance_low"] < 2.0 * (second - mean**2) < row["variance_high"]


def test_the_setting_is_what_the_catalogue_measures() -> None:
    """A cell of the catalogue is not searched for rare events, which costs a second kernel."""
    prepared = prepare(make_cell("square[dim=3]", "pathwise", max_replicates=2**12))
    found = measure_source(StatisticsKernel(prepared.setting), prepared.exact, GOALS)
    assert found.blocks["all"]["assumption"] != "defensive"


@pytest.mark.parametrize("probability", ["1e-8", "0.999999"])
def test_a_variance_that_no_replicate_shows_is_that_of_the_integral(probability: str) -> None:
    """One state was never visited: 63,488 equal estimates, of a variance that is far from 0."""
    problem = f"square[k=0.4,family=bernoulli,probability={probability}]"
    row = measured(make_cell(problem, "score-function", max_replicates=2**17))["all"]
    assert (row["verdict"], row["certificate"]) == ("unbiased", "integration")
    p, z = float(probability), np.asarray([0.0, 1.0])
    law, score = np.asarray([1.0 - p, p]), z - p  # of the logit
    estimate = (z - 0.4) ** 2 * score
    assert row["variance"] == pytest.approx(law @ estimate**2 - (law @ estimate) ** 2, rel=1e-6)
    assert row["variance_flag"] == "unreliable"
    assert row["variance_low"] <= row["variance"] <= row["variance_high"]


def test_z_allows_for_states_that_no_replicate_visits() -> None:
    row = measured(make_cell("categorical-square[categories=5,tilt=30]", "score-function", max_replicates=2**16))["all"]
    assert row["verdict"] == "unbiased"
    assert abs(row["bias_z"]) < 5.0


def test_squares_that_underflow_are_refused() -> None:
    cell = make_cell("exponential-moment[t=-1,loc=200,dim=6]", "pathwise", max_replicates=2**14)
    row = measure_cell(cell).rows[0]
    assert row["status"] == "nonfinite"
    assert "underflow" in row["reason"]


def test_a_variance_below_rounding_is_not_trusted() -> None:
    """cos(10¹⁵ z): inputs moved by units in the last place move it as far as noise does."""
    row = measured(make_cell("cosine[k=1e15]", "score-function", max_replicates=2**14))["all"]
    assert row["verdict"] == "inconclusive"
    assert row["variance_flag"] != "ok"
