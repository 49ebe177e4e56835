"""Options of families outside what they mean: one clear line."""

from __future__ import annotations

import pytest

from gradmeter.bench.cells import make_problem
from gradmeter.estimators import NotApplicable, UsageError
from tests.support import problem_is_refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("family=gamma,concentration=0", "option 'concentration' is '0'; it must be a finite number, at least 0.001"),
        ("family=gamma,rate=-1", "option 'rate' is '-1'; it must be a finite number, above 0"),
        ("family=erlang,events=2.5", "option 'events' is '2.5'; it must be a whole number, at least 1, at most 1000"),
        ("family=chi-squared,degrees=0.001", "option 'degrees' is '0.001'; it must be a finite number, at least 0.002"),
        ("family=beta,beta=0", "option 'beta' is '0'; it must be a finite number, at least 0.001"),
        ("family=dirichlet", "family dirichlet needs at least 2 coordinates, since they sum to 1"),
        ("family=poisson,rate=31", "option 'rate' is '31'; it must be a finite number, at most 30, above 0"),
        (
            "family=low-rank-normal,rank=3,dim=2",
            "low-rank-normal with rank=3 needs at least as many coordinates, not 2",
        ),
        ("family=low-rank-normal,correlation=1", "option 'correlation' is '1'; it must be a finite number, at least 0"),
        ("family=mixture-of-normals,dim=101", "family mixture-of-normals takes at most 100 coordinates, not 101"),
        ("family=mixture-of-normals,components=0", "option 'components' is '0'; it must be a whole number, at least 1"),
        (
            "family=elliptical,dim=3,correlation=-0.7",
            "family elliptical with correlation=-0.7 has a singular covariance",
        ),
    ],
)
def test_outside(options: str, message: str) -> None:
    problem_is_refused(f"polynomial[{options}]", message)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("family=f,denominator=8,degree=4", "family f has a moment of order 4 only where denominator is above 8"),
        ("family=elliptical,degrees=3,degree=3", "has a moment of order 3 only where degrees is above 3"),
    ],
)
def test_no_such_moment(options: str, message: str) -> None:
    with pytest.raises(NotApplicable, match=message):
        make_problem(f"polynomial[{options}]")


@pytest.mark.parametrize("family", ["categorical", "concrete"])
def test_choices_are_whole(family: str) -> None:
    with pytest.raises(UsageError, match=f"family {family} with categories=3 needs a multiple of 3 coordinates"):
        make_problem(f"polynomial[family={family},categories=3,dim=4]")
