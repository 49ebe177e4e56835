"""Nothing that is right is called wrong: classes as users write them, and the catalogue."""

from __future__ import annotations

from typing import Any

import pytest

import gradmeter
from gradmeter.bench.cells import make_problem
from gradmeter.bench.checks import checking
from gradmeter.bench.checks.checking import family_findings, problem_findings
from gradmeter.bench.checks.lab import QUICK
from gradmeter.estimators import FAMILIES
from tests.checks import users

PROBLEMS = (
    "square[dim=3,k=0.4,loc=0.3,scale=0.7]",
    "cosine[k=2.5]",
    "step",
    "absolute-value",
    "square[family=uniform,dim=2]",
    "square[family=mixture-of-normals,dim=2]",
    "square[family=poisson,rate=1.3]",
    "linear-gaussian[importance-samples=4]",
    "logistic-regression[entropy=analytic]",
    "logistic-regression[batch=32]",
    "three-bernoullis",
    "gaussian-mixture",
)
#: Their means rest on rare events.
HEAVY = (
    "poisson-regression",
    "poisson-regression[scale=1.2]",
    "poisson-regression[scale=4]",
    "square[family=log-normal,scale=2.5,dim=4]",
    "square[family=mixture-of-normals,distance=10,dim=2]",
    "exponential-moment[t=6,dim=4]",
    "square[family=pareto,shape=2.2]",
    "square[family=bernoulli,probability=0.0001,dim=16]",
    "square[family=poisson,rate=0.00001]",
)


def problem(text: str, seed: int = 0) -> list[Any]:
    return list(problem_findings(make_problem(text), QUICK, seed, None, everything=True))


@pytest.mark.parametrize("cls", [users.Mine, users.Coin, users.Rejected, users.FormProblem, users.CoinProblem])
def test_users_classes(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "FULL", QUICK)
    found = gradmeter.check(cls)
    assert found.ok, str(found)
    assert sum(each.status == "ok" for each in found) > 5


def test_a_spike_that_no_sample_meets_is_met() -> None:
    """f jumps without saying so, far out, with a probability of 3e-7: the exact gradient is right."""
    found = gradmeter.check(users.SpikeProblem())
    assert found.ok, str(found)
    assert [each.status for each in found if each.check == "exact.objective"] == ["ok"]


@pytest.mark.parametrize("text", [*PROBLEMS, *HEAVY])
def test_problems_of_the_catalogue(text: str) -> None:
    assert not [str(each) for each in problem(text) if each.status == "wrong"]


@pytest.mark.parametrize("name", ["normal", "uniform", "gamma", "bernoulli", "mixture-of-normals"])
def test_families_of_the_catalogue(name: str) -> None:
    point = FAMILIES[name].Config()
    found = list(family_findings(point.family, point, None, QUICK, 1))
    assert not [str(each) for each in found if each.status == "wrong"]
    assert {"score", "samples against log_density"} <= {each.check for each in found if each.status == "ok"}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_passes(name: str) -> None:
    """At full effort; every check of a right family is wrong with probability 1e-6 at most."""
    found = gradmeter.check(FAMILIES[name])
    assert found.ok, str(found)


@pytest.mark.slow
@pytest.mark.parametrize("text", [*PROBLEMS, *HEAVY])
def test_every_problem_passes_at_full_effort(text: str) -> None:
    found = gradmeter.check(make_problem(text))
    assert found.ok, str(found)
