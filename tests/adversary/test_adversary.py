"""The short form of the adversary suite: every kind, on NumPy, with small budgets; the whole is `make adversary`.

Seeds are fixed. A case fails where a verdict is wrong for what is known of it, so a right program fails with the rates
that it declares: 5e-8 a verdict `biased`, 1e-3 a bound; the counts over runs are compared at 1e-3.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.adversary import controls, correct, dependent, faults, laws, null, vector, wrong, wrong_discrete
from tests.adversary.cases import Case
from tests.adversary.judging import Result, allowed_misses, assess, judge, row_of, summary

CAP = 2**16

WRONG = {case.key: case for case in [*wrong.cases(), *wrong_discrete.cases()]}
DEPENDENT = {case.key: case for case in dependent.cases()}
CORRECT = {case.key: case for case in correct.cases()}
LAWS = {law.name: law for law in laws.laws()}

SHORT_WRONG = (
    "own-baseline-2-numpy-float64",
    "sigma-for-log-sigma-numpy-float64",
    "neighbour-log-probability-numpy-float64",
    "one-noise-for-all-numpy-float64",
    "weights-truncated-numpy-float64",
    "noise-clipped-2-numpy-float64",
    "normal-from-twelve-uniforms-numpy-float64",
    "gradient-clipped-8-numpy-float64",
    "dropped-0.1-numpy-float64",
    "dropped-0.0001-numpy-float64",
    "spike-0.001-inside-numpy-float64",
    "spike-0.0001-low-numpy-float64",
    "four-levels-numpy-float64",
    "spread-0.05-100-numpy-float64",
    "size-1e-12-factor-0.5-numpy-float64",
    "size-1e-12-half-numpy-float32",
    "size-1e+12-factor-0.9-numpy-float64",
    "cosine-5-zero-numpy-float32",
    "stratum-lost-numpy-float64",
    "coin-lost-numpy-float64",
    "self-normalised-2-numpy-float64",
    "rao-blackwell-lost-term-numpy-float64",
    "ladder-of-opposite-errors-numpy-float64",
    "edge-moved-numpy-float64",
)
SHORT_DEPENDENT = (
    "baseline-over-replicates-numpy-float64",
    "clipped-by-batch-3-numpy-float64",
    "clipped-by-batch-10-numpy-float64",
    "shared-in-groups-numpy-float64",
    "frozen-generator-numpy-float64",
    "hidden-generator-numpy-float64",
    "first-rows-only-numpy-float64",
    "previous-baseline-numpy-float64",
)
SHORT_CORRECT = (
    "leave-one-out-2-numpy-float64",
    "antithetic-path-numpy-float64",
    "importance-wide-numpy-float64",
    "constant-numpy-float64",
    "rejection-of-6-numpy-float64",
    "size-1e-12-numpy-float32",
    "offset-1e+06-numpy-float64",
    "log-normal-2-numpy-float64",
    "rare-step-4.26-numpy-float64",
    "rests-on-0.0001-numpy-float64",
    "rests-on-1e-06-numpy-float64",
    "student-2.2-numpy-float64",
    "pareto-path-0.48-numpy-float64",
    "roulette-numpy-float64",
    "random-truncation-numpy-float64",
    "disarm-of-4-numpy-float64",
    "gumbel-max-numpy-float64",
    "proposal-one-half-numpy-float64",
    "coin-of-weight-2-numpy-float64",
    "one-coordinate-summed-numpy-float64",
)
SHORT_FAULTS = (
    "A1-coin-lost-numpy",
    "A1-coin-of-weight-2-numpy",
    "A2-stratified-polynomial[degree=4]",
    "A4-naive-cosine-9",
    "A4-factor-0.5-polynomial[degree=4,scale=0.0001]-float64",
    "A6-opposite-biases-4096",
    *(f"B1-{change}-square[dim=1,loc=1,k=0]" for change in faults.CHANGES),
    "B2-estimators-of-one-name",
    "B2-problems-of-one-name",
    "B2-store",
    "B3-64-square",
    "B3-1000-logistic-regression",
    "B3-below-64",
    "B4-reads-loc-pathwise-numpy",
    "B4-tilted-square-pathwise",
    "B5-score-halved",
    "B5-exact-gradient",
    "C2-square[family=gamma,concentration=0.01]-score-function",
    "D1-rebar-far",
    "D2-q-as-a-field",
)
SHORT_LAWS = ("normal-1", "student-4.1", "spike-0.0001-30")
SHORT_VECTORS = ((0.02, 1, False), (0.02, 100, False), (0.05, 100, True))
SHORT_CONTROLS = (
    ("square", "injected-self-included-baseline", {}, 2, "float64"),
    ("square-far", "injected-self-included-baseline", {}, 2, "float32"),
    ("cosine-small", "injected-naive-exchange", {}, 1, "float32"),
    ("quartic-small", "injected-naive-exchange", {}, 1, "float64"),
    ("square-bernoulli", "injected-self-included-baseline", {}, 2, "float64"),
    ("moment", "injected-redrawn-failures", {"limit": 1.0}, 1, "float64"),
)
SHORT_NULL = (
    ("square[k=-30,loc=-2,scale=2]", "score-function[baseline=leave-one-out]", "float64", 4),
    ("square[k=-30,dim=2]", "score-function[baseline=mean]", "float32", 2),
    ("polynomial[degree=4,loc=0.1,scale=0.01,dim=2]", "pathwise", "float32", 1),
    ("polynomial[degree=4]", "score-function[draws=stratified]", "float64", 4),
    ("polynomial[family=gumbel,degree=3,dim=2]", "score-function[draws=antithetic]", "float64", 2),
    ("cosine[k=4]", "measure-valued", "float64", 1),
    ("cosine[k=1,family=laplace,dim=2]", "pathwise[antithetic=true]", "float64", 2),
    ("exponential-moment[t=-2,dim=2]", "pathwise", "float64", 1),
    ("exponential-moment[t=3]", "measure-valued", "float64", 1),
    ("step[k=0.4,family=exponential]", "score-function[baseline=mean]", "float32", 2),
    ("absolute-value[k=0.4,family=logistic,dim=2]", "pathwise", "float64", 1),
    ("square[family=normal,scale=0.8,loc=-1,dim=2]", "importance-sampling", "float64", 2),
    ("square[family=bernoulli,probability=0.02,dim=2]", "score-function[baseline=leave-one-out]", "float64", 2),
    ("square[family=bernoulli,probability=0.8,dim=6]", "disarm", "float32", 4),
    ("square[family=geometric,probability=0.8]", "score-function[baseline=none]", "float64", 1),
    ("polynomial[family=poisson,degree=3,rate=0.1]", "score-function[baseline=leave-one-out]", "float64", 4),
    ("categorical-square[categories=5,tilt=2]", "rebar", "float64", 1),
    ("three-bernoullis[probability=0.1]", "double-control-variates", "float64", 2),
    ("square[family=gamma,concentration=0.5]", "pathwise", "float64", 2),
    ("square[family=beta,alpha=0.5,beta=2]", "score-function[baseline=mean]", "float64", 2),
)


def hold(result: Result) -> None:
    """Fail, with its line of the table, unless a result is right, and found where it is large enough."""
    assert result.right, result.line()
    assert result.detected or not result.detectable, result.line()
    assert not result.low, result.line()


def test_there_are_enough_of_each_kind() -> None:
    assert len(WRONG) + len(DEPENDENT) >= 60
    assert len(CORRECT) >= 60
    assert len(LAWS) >= 40
    every = [*wrong.cases(), *wrong_discrete.cases(), *dependent.cases(), *correct.cases()]
    assert len({case.key for case in every}) == len(every)
    assert all(case.true_bias > 0.0 for case in WRONG.values())
    assert all(case.true_bias == 0.0 for case in CORRECT.values())


def test_means_are_what_simulation_shows() -> None:
    """Each E ĝ that a case states against 4,096 estimates by NumPy, at 6 standard errors: about 1e-5 in all."""
    for case in [*WRONG.values(), *CORRECT.values()]:
        if not case.simulated or case.setting.dimension >= 1000:
            continue
        for name, block in case.simulate(2**12).items():
            error = np.abs(block.mean(axis=0) - case.mean[name])
            size = float(np.max(np.abs(case.setting.gradient[name])))
            margin = 6.0 * block.std(axis=0) / np.sqrt(len(block)) + 1e-6 * size
            assert block.shape == (2**12, *case.setting.gradient[name].shape), case.key
            assert np.all(error <= margin), (case.key, name, error, margin)


def test_variances_are_what_simulation_shows() -> None:
    """The variance that a distribution states, where a fourth moment lets a simulation show it, within 5 %."""
    light = ("normal", "uniform", "laplace", "student-10", "cosine", "chi", "bernoulli", "mixture-0.1", "spike-0.01")
    for law in LAWS.values():
        mean, variance = laws.exact_moments(law)
        assert abs(mean - law.mean) < 0.05 * max(law.variance, law.variance**0.5)
        if law.name.startswith(light):
            assert abs(variance / law.variance - 1.0) < 0.08, law.name


@pytest.mark.parametrize("key", SHORT_WRONG)
def test_wrong_is_found(key: str) -> None:
    hold(judge(WRONG[key], CAP))


@pytest.mark.parametrize("key", SHORT_DEPENDENT)
def test_dependent_is_refused(key: str) -> None:
    hold(judge(DEPENDENT[key], CAP))


@pytest.mark.parametrize("key", SHORT_CORRECT)
def test_correct_is_not_biased(key: str) -> None:
    hold(judge(CORRECT[key], CAP))


@pytest.mark.parametrize("name", SHORT_FAULTS)
def test_fault(name: str) -> None:
    hold(faults.judge(name))


@pytest.mark.parametrize("name", SHORT_LAWS)
def test_interval_of_the_variance(name: str) -> None:
    hold(laws.judge(LAWS[name], 20))


@pytest.mark.parametrize(("share", "dim", "correlated"), SHORT_VECTORS)
def test_bound_on_the_vector(share: float, dim: int, correlated: bool) -> None:
    hold(vector.judge(share, dim, correlated, 12))


@pytest.mark.parametrize(("label", "name", "options", "samples", "dtype"), SHORT_CONTROLS)
def test_injected_bug(label: str, name: str, options: dict[str, Any], samples: int, dtype: str) -> None:
    result = controls.judge(label, name, options, samples, "numpy", dtype, CAP)
    assert result is not None
    hold(result)


@pytest.mark.parametrize(("problem", "estimator", "dtype", "samples"), SHORT_NULL)
def test_nothing_of_the_catalogue_is_biased(problem: str, estimator: str, dtype: str, samples: int) -> None:
    assert not null.wrong_by_nature(problem, estimator)
    row = row_of(problem, estimator, dtype=dtype, samples=samples, seed=3, max_replicates=null.CAP)
    assert row["status"] == "ok", row["reason"]
    assert row["verdict"] in ("unbiased", "inconclusive"), (row["verdict"], row["bias_z"])


def _row(**changed: Any) -> dict[str, Any]:
    return {"status": "ok", "reason": None, "verdict": "biased", "bias_bound": 0.6, "variance_flag": "ok", **changed}


def test_wrong_rows_are_called_wrong() -> None:
    """The rules themselves: rows that are made up here, of which each has to be judged as it deserves."""
    half: Case = WRONG["own-baseline-2-numpy-float64"]
    assert assess(half, _row(), CAP).right
    assert assess(half, _row(), CAP).detected
    assert assess(half, _row(bias_bound=0.4), CAP).low
    assert not assess(half, _row(verdict="unbiased", bias_bound=0.4), CAP).right
    assert not assess(half, _row(verdict="unbiased", bias_bound=None), CAP).right
    assert not assess(half, _row(verdict="unbiased", bias_bound=0.4, assumption="tails"), CAP).right
    assert not assess(half, _row(verdict="no-reference"), CAP).right
    assert not assess(half, _row(status="exception", reason="no"), CAP).right
    missed = assess(half, _row(verdict="inconclusive"), CAP)
    assert missed.right
    assert missed.detectable
    assert not missed.detected
    assert not summary([missed])[1]
    inside = WRONG["spike-1e-06-inside-numpy-float64"]
    assert not assess(inside, _row(verdict="unbiased", bias_bound=0.01), CAP).right
    assert assess(inside, _row(verdict="unbiased", bias_bound=0.01, assumption="events"), CAP).right
    batch = DEPENDENT["half-shared-numpy-float64"]
    assert not assess(batch, _row(verdict="unbiased"), CAP).right
    assert not assess(batch, _row(), CAP).right
    assert not assess(batch, _row(verdict="inconclusive"), CAP).right
    assert assess(batch, _row(verdict="inconclusive", variance_flag="dependent"), CAP).right
    assert assess(batch, _row(status="exception", verdict=None, reason="rows depend on each other"), CAP).right
    fine = CORRECT["score-function-numpy-float64"]
    assert assess(fine, _row(verdict="unbiased", bias_bound=0.01), CAP).right
    assert not assess(fine, _row(), CAP).right
    assert not assess(fine, _row(status="exception", reason="no"), CAP).right
    assert not assess(fine, _row(verdict="inconclusive", variance_flag="dependent"), CAP).right
    assert summary([assess(fine, _row(verdict="unbiased"), CAP)])[1]
    assert not summary([assess(fine, _row(), CAP)])[1]


def test_allowed_misses() -> None:
    assert allowed_misses(2000, 1e-3, 0.0046) == 6
    assert 30 <= allowed_misses(300, 0.07) <= 38
