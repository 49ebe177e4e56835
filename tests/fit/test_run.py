"""Running a fit: what is not looked at after every step is found out all the same, at the step where it happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from gradmeter.bench.cells import make_problem
from gradmeter.bench.fit.recipe import Recipe
from gradmeter.bench.fit.run import OVERFLOWED, Fit, Plan, Watcher, run
from gradmeter.bench.optimisation.method import Method, Objective, State, Vectors
from gradmeter.bench.problems import Problem
from gradmeter.estimators import UsageError

STEPS = 100


class Counting(Method):
    """Adds 1 at every step; from step `bad` on, NaN, or an error; a step after NaN raises if it is `strict`."""

    def __init__(self, check_every: int, bad: int, error: Exception | None, strict: bool) -> None:
        self.check_every, self.bad, self.error, self.strict = check_every, bad, error, strict
        self.taken, self.waited = 0, 0

    def initial(self) -> State:
        return {"x": np.zeros(2)}

    def step(self, state: State, t: int) -> State:
        self.taken += 1
        if self.strict and np.isnan(state["x"]).any():
            raise RuntimeError("lost its way")
        if t == self.bad and self.error is not None:
            raise self.error
        return {"x": state["x"] + (np.nan if t == self.bad else 1.0)}

    def wait(self, state: State) -> None:
        self.waited += 1

    def objective(self, state: State) -> Objective:
        return Objective(float(state["x"][0]), "closed-form")

    def parameters(self, state: State) -> Vectors:
        return state


@dataclass(frozen=True)
class Of(Recipe):
    name = "counting"
    summary = "of this test"
    method: Any = None

    def columns(self) -> dict[str, Any]:
        return {"method": self.name}

    def check(self, problem: Problem) -> None:
        pass

    def prepare(self, problem: Problem, seed: int) -> Method:
        found: Method = self.method
        return found


def ran(every: int, check_every: int, bad: int, error: Exception | None = None, strict: bool = False) -> Fit:
    method = Counting(check_every, bad, error, strict)
    found = Fit(Plan(make_problem("square"), Of(method), steps=STEPS, every=every, replicates=0))
    run(found.plan, found, Watcher())
    return found


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("check_every", [1, 7, 1000])
@pytest.mark.parametrize("bad", [1, 14, 15, 40, STEPS])
def test_a_number_that_is_not_finite_is_found_where_it_came_up(bad: int, check_every: int, strict: bool) -> None:
    """Whatever the steps after it do, an error among it: there is nothing of them in what is kept."""
    found = ran(20, check_every, bad, strict=strict)
    assert found.failed == f"a number of step {bad} is not finite; kept as it was before that step; {OVERFLOWED}"
    assert [row["iteration"] for row in found.rows] == [*range(0, bad, 20), bad]
    np.testing.assert_array_equal(found.parameters["x"], bad - 1.0)


@pytest.mark.parametrize("check_every", [1, 7, 1000])
def test_an_error_is_said_at_the_step_that_raised_it(check_every: int) -> None:
    found = ran(20, check_every, 33, UsageError("no such step"))
    assert found.failed == "no such step"
    assert [row["iteration"] for row in found.rows] == [0, 20, 33]
    np.testing.assert_array_equal(found.parameters["x"], 20.0)


def test_what_goes_well_is_waited_for_only_where_it_is_looked_at() -> None:
    found = ran(40, 30, 0)
    method: Any = found.plan.recipe.method  # type: ignore[attr-defined]
    assert found.failed is None
    assert [row["objective"] for row in found.rows] == [0.0, 40.0, 80.0, 100.0]
    assert (method.taken, method.waited) == (STEPS, len({30, 60, 90} | {40, 80, 100}))
