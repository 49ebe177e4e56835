"""No correct estimator is called biased at extreme options of any family: rounding has to show as rounding."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.integrate import quad

from gradmeter.bench.cells import make_problem
from gradmeter.bench.feasibility import infeasible
from gradmeter.bench.rows import ALL
from gradmeter.bench.sweep.measuring import measure_cell
from gradmeter.estimators import FAMILIES, NotApplicable, UsageError
from gradmeter.estimators.options import describe
from tests.support import make_cell

#: f is an indicator, or nearly, of what happens with these probabilities.
NEVER_MET = (
    ("step[k=14,family=gamma]", "float64"),  # 8e-7
    ("step[k=0.95,family=beta,alpha=20,beta=20]", "float64"),  # 1e-15
    ("exponential[k=1,family=erlang,events=50]", "float64"),  # 1e-40
    ("step[k=20.5,family=poisson,rate=1]", "float64"),  # 7e-21, below what uniform noise resolves
    ("step[k=17.5,family=poisson,rate=3]", "float32"),  # 2e-8, likewise in single precision
)
EXTREMES = (1e-8, 1e-4, 1e-2, 20.0, 100.0, 1e4, 1e6)
#: The rest have no Σ (z − k)², or no option that is a number.
SQUARE = [name for name in FAMILIES if name not in ("categorical", "sequence-policy", "lkj-cholesky")]


def extremes(family: str) -> Iterator[str]:
    """Yield the options of a family with one number at an extreme, where the family allows it."""
    for name, entry in describe(FAMILIES[family].Config).items():
        for value in EXTREMES if entry["type"] == "float" else ():
            text = f"square[family={family},{name}={value:g}]"
            try:
                make_problem(text).exact()
            except (UsageError, NotApplicable):
                continue
            yield text


def wrong(problem: str, estimator: str) -> str | None:
    """Return what a row says of a correct estimator if it calls the estimator biased."""
    row = measure_cell(make_cell(problem, estimator, max_replicates=2**12)).rows[-1]
    assert row["block"] in (ALL, None)
    return None if row["verdict"] != "biased" else f"{problem} {estimator}: {row['bias']:.2g} {row['certificate']}"


@pytest.mark.parametrize(
    "problem",
    [
        "square[family=kumaraswamy,a=20,b=20]",
        "square[family=kumaraswamy,a=10000,b=10000]",
        "square[family=truncated-normal,low=0,high=0.0001]",
        "square[family=truncated-normal,scale=1000000]",
        "square[family=truncated-normal,low=3,high=3.001]",
    ],
)
@pytest.mark.parametrize("estimator", ["score-function", "pathwise"])
def test_families_keep_their_digits(problem: str, estimator: str) -> None:
    assert wrong(problem, estimator) is None


@pytest.mark.parametrize(
    ("problem", "estimator"),
    [
        ("policy[spread=14]", "enumeration"),
        ("policy[spread=20,prompts=1,vocabulary=2,max-tokens=2]", "enumeration"),
        ("cosine[k=1,family=student-t,df=30,loc=100,scale=0.01]", "pathwise"),
    ],
)
def test_the_rounding_of_a_reference_is_no_bias(problem: str, estimator: str) -> None:
    """Terms of the exact gradient cancel, or one block of it is small beside the error of the whole."""
    rows = measure_cell(make_cell(problem, estimator, max_replicates=2**9)).rows
    assert {row["verdict"] for row in rows} == {"unbiased"}


@pytest.mark.slow
@pytest.mark.parametrize("family", SQUARE)
def test_no_family_is_biased_at_extreme_options(family: str) -> None:
    found = [wrong(problem, estimator) for problem in extremes(family) for estimator in ("score-function", "pathwise")]
    assert not [each for each in found if each is not None]


@pytest.mark.parametrize(("problem", "dtype"), NEVER_MET)
def test_what_the_draws_never_meet_makes_nothing_biased(problem: str, dtype: str) -> None:
    """Every estimate is 0, although the exact gradient is not: of the event itself there is no evidence."""
    row = measure_cell(make_cell(problem, "score-function", max_replicates=2**12, dtype=dtype)).rows[-1]
    assert row["verdict"] == "inconclusive"
    assert row["variance_flag"] != "ok"


@pytest.mark.parametrize(
    ("problem", "estimator"),
    [
        ("step[k=4]", "pathwise"),  # 3e-5, which defensive draws meet
        ("step[k=0.5,family=bernoulli,probability=1e-5]", "straight-through"),  # integrated
    ],
)
def test_what_they_meet_shows_an_estimate_of_zero_as_biased(problem: str, estimator: str) -> None:
    assert measure_cell(make_cell(problem, estimator, max_replicates=2**12)).rows[-1]["verdict"] == "biased"


@pytest.mark.parametrize(
    ("problem", "estimator"),
    [
        # A step of probability 1e-5 that all grids miss alike, under an offset of 1e8.
        ("square[k=1e4,family=relaxed-bernoulli,probability=1e-5,temperature=0.1]", "score-function"),
        ("exponential[k=1e-6,family=exponential,rate=1e6]", "pathwise"),  # a reference that rounds to 0
    ],
)
def test_what_a_quadrature_loses_is_no_bias(problem: str, estimator: str) -> None:
    row = measure_cell(make_cell(problem, estimator, max_replicates=2**12)).rows[-1]
    assert row["verdict"] == "inconclusive"
    assert row["reason"]


def test_scores_of_samples_that_round_to_one_number() -> None:
    """Of z = σ(20 ε), 3 % round to 1. Pathwise derivatives do not mind."""
    problem = "square[k=0,family=transformed-normal,transform=sigmoid,scale=20]"
    refused = infeasible(make_cell(problem, "score-function"))
    assert refused is not None
    assert "rounds to one number" in refused
    assert infeasible(make_cell(problem, "pathwise")) is None


@pytest.mark.parametrize("family", ["inverse-gamma,concentration=2", "elliptical,degrees=4", "student-t,df=3"])
def test_proposals_that_are_rejected_far_out_do_not_count(family: str) -> None:
    assert infeasible(make_cell(f"cosine[family={family}]", "score-function")) is None


def test_a_reference_of_steep_sigmoids() -> None:
    """E 2 (z − 1) ∂z/∂log σ for z = σ(20 ε) by adaptive quadrature; the trapezoid rule of old was off by 4e-8."""
    exact = make_problem("square[k=1,family=transformed-normal,transform=sigmoid,scale=20]").exact()
    assert exact is not None

    def slope(e: float) -> float:
        z = 1.0 / (1.0 + math.exp(-20.0 * e))
        return -2.0 * (1.0 - z) ** 2 * z * 20.0 * e * math.exp(-0.5 * e * e) / math.sqrt(2.0 * math.pi)

    expected = sum(quad(slope, low, high, epsabs=1e-15)[0] for low, high in ((-9.0, -0.5), (-0.5, 0.5), (0.5, 9.0)))
    np.testing.assert_allclose(exact.gradient["log_scale"], [expected], rtol=1e-12)
