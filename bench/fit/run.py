"""Running a fit: steps are timed separately, every logged iteration gives a row, and the last good state is kept."""

from __future__ import annotations

import bisect
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradmeter.bench.fit.recipe import Recipe
from gradmeter.bench.fit.rows import row
from gradmeter.bench.optimisation.method import Method, State, Vectors
from gradmeter.bench.problems import Problem
from gradmeter.bench.rows import Row
from gradmeter.estimators import NotApplicable, UsageError
from gradmeter.estimators.errors import typed
from gradmeter.estimators.options import effective

#: Default number of logged iterations per decade.
A_DECADE = 12
FAILED = ("nonfinite", "exception")
#: Steps below which a fit is not said to rise ever faster, and the ratio of its gain in the second half to the first.
FEWEST_STEPS, FASTER = 100, 1.5
#: What to do about a number that overflowed, and about an objective that rises ever faster.
OVERFLOWED = "give a smaller --learning-rate, or an objective that has a maximum"
RISES = "its objective rose ever faster; give more --steps, or an objective that has a maximum"


class Schedule:
    """Logged iterations from 0 to `steps` inclusive: every `every` or, if that is 0, geometrically spaced."""

    def __init__(self, steps: int, every: int) -> None:
        self.steps, self.every = steps, every
        count = int(A_DECADE * math.log10(steps)) + 2
        apart = {0, *(int(t) for t in np.round(np.geomspace(1, steps, count)))}
        self._listed = [] if every else sorted(apart)

    def __contains__(self, t: int) -> bool:
        return t == self.at_or_after(t)

    def at_or_after(self, t: int) -> int:
        """Return the first logged iteration at or after t."""
        if self.every:
            return min(self.steps, -(-t // self.every) * self.every)
        return self._listed[min(bisect.bisect_left(self._listed, t), len(self._listed) - 1)]


@dataclass(frozen=True)
class Plan:
    """One method on one problem with one seed.

    Attributes
    ----------
    steps : int
        Number of iterations, unless the method converges earlier.
    every : int
        Iterations between rows; 0 for geometrically spaced rows.
    replicates : int
        Number of estimates for the gradient's variance, measured at about a tenth of the rows; 0 for none.
    checkpoint : int
        Iterations between checkpoints; 0 for none.
    """

    problem: Problem
    recipe: Recipe
    seed: int = 0
    steps: int = 1000
    every: int = 0
    replicates: int = 1024
    checkpoint: int = 0

    @functools.cached_property
    def schedule(self) -> Schedule:
        """The iterations that have a row."""
        return Schedule(self.steps, self.every)

    @functools.cached_property
    def measured(self) -> frozenset[int]:
        """The iterations at which the gradient's variance is measured: first, last, and near powers of 4."""
        wanted = [0, *(4**n for n in range(64) if 4**n < self.steps), self.steps]
        return frozenset(map(self.schedule.at_or_after, wanted if self.replicates else ()))

    def saves(self, t: int) -> bool:
        """Return whether a checkpoint is due after t steps."""
        return bool(self.checkpoint) and (t == self.steps or t % self.checkpoint == 0)

    def impossible(self) -> str | None:
        """Return why the plan cannot be run, or None."""
        try:
            self.recipe.check(self.problem)
        except NotApplicable as error:
            return str(error)
        return None

    def columns(self) -> dict[str, Any]:
        """Return the columns that identify the fit in every row."""
        return {
            "problem": self.problem.name,
            "problem_options": effective(self.problem),
            "dimension": self.problem.dimension,
            "family": self.problem.family.name,
            "seed": self.seed,
            **self.recipe.columns(),
        }


@dataclass
class Fit:
    """The result of a plan.

    Attributes
    ----------
    rows : list of Row
        Rows of the logged iterations; the last may describe a failure.
    parameters : {block: array}
        Parameters of the last good state; empty if there is none.
    """

    plan: Plan
    rows: list[Row] = field(default_factory=list)
    parameters: Vectors = field(default_factory=dict)

    @property
    def impossible(self) -> bool:
        """Whether it could not be run."""
        return bool(self.rows) and self.rows[-1]["status"] == "n/a"

    @property
    def rises(self) -> bool:
        """Whether the objective gained far more in the second half of the steps than in the first."""
        rows = [r for r in self.rows if r["objective"] is not None]
        if len(rows) < 3 or rows[-1]["iteration"] < FEWEST_STEPS:
            return False
        middle = min(rows[1:-1], key=lambda r: abs(r["iteration"] - rows[-1]["iteration"] / 2.0))
        first, half, last = (r["objective"] for r in (rows[0], middle, rows[-1]))
        blur = 4.0 * max(r["objective_error"] or 0.0 for r in (rows[0], middle, rows[-1]))
        return bool(half > first and last - half > FASTER * (half - first) + blur)

    @property
    def failed(self) -> str | None:
        """The reason, if the last row is a failure."""
        last = self.rows[-1] if self.rows else None
        return last["reason"] if last is not None and last["status"] in FAILED else None


@dataclass(frozen=True)
class Checkpoint:
    """A point from which a fit can continue.

    Attributes
    ----------
    iteration : int
        Number of steps taken.
    state : {name: array}
        The state after them.
    rows : list of Row
        Rows logged before this iteration; a row of this iteration is made again.
    seconds : float
        Time spent in those steps.
    note : str, optional
        Why the fit has ended, if it has.
    """

    iteration: int
    state: Vectors
    rows: list[Row]
    seconds: float
    note: str | None = None

    def check(self, begun: Vectors, steps: int) -> None:
        """Check that the checkpoint matches the initial state and `steps`; raise UsageError otherwise."""
        shapes = [{name: np.shape(a) for name, a in state.items()} for state in (self.state, begun)]
        if shapes[0] != shapes[1]:
            raise UsageError("the checkpoint is of a fit with another state; leave out --resume to begin anew")
        if self.iteration > steps:
            raise UsageError(f"the checkpoint is of iteration {self.iteration}; give --steps {self.iteration} or more")


class Watcher:
    """Callbacks about the progress of fits; these do nothing."""

    def started(self, plan: Plan) -> None:
        pass

    def stepped(self, t: int) -> None:
        pass

    def logged(self, found: Row) -> None:
        pass

    def keep(self, plan: Plan, found: Checkpoint) -> None:
        pass


def run(
    plan: Plan,
    fit: Fit,
    watcher: Watcher,
    stop: Callable[[], bool] = lambda: False,
    begin: Checkpoint | None = None,
) -> None:
    """Run a plan to its end, filling `fit` continually, so that an interrupt loses no row.

    Parameters
    ----------
    plan
        What to run.
    fit
        The rows and what is known of the fit.
    watcher
        Observer of the rows.
    stop : callable
        Called after every step; a true result makes that step the last.
    begin : Checkpoint, optional
        The checkpoint from which to continue.
    """
    log = _Log(plan, fit, watcher)
    reason = plan.impossible()
    if reason is not None:
        log.end(0, "n/a", reason)
        return
    watcher.started(plan)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            _steps(plan, log, watcher, stop, begin)
        except NotApplicable as error:  # found only once the problem is built, such as a missing gradient on NumPy
            log.end(log.t, "n/a", str(error))
        except (UsageError, ArithmeticError) as error:  # detected by the method itself
            log.end(log.t, "exception", str(error))
        except OSError:  # rows cannot be written, or the reader is gone
            raise
        except Exception as error:  # one failing fit must not stop the others
            log.end(log.t, "exception", typed(error, 500))


def _steps(plan: Plan, log: _Log, watcher: Watcher, stop: Callable[[], bool], begin: Checkpoint | None = None) -> None:
    method = plan.recipe.prepare(plan.problem, plan.seed)
    state, t, ended = method.initial(), 0, None
    if begin is not None:
        begin.check(method.to_host(state), plan.steps)
        state, t, ended = method.to_device(begin.state), begin.iteration, begin.note
        log.go_on(method, state, begin)
        watcher.stepped(t)
    method.warm_up(state)
    if ((ended or t in plan.schedule) and not log.at(method, state, t, ended)) or ended:
        return
    for now, before, after, stopped in _sound(plan, method, log, watcher, stop, t, state):
        ended = "converged" if method.converged(before, after) else "interrupted" if stopped else None
        logged = len(log.fit.rows)
        if (ended or now in plan.schedule) and not log.at(method, after, now, ended):
            return
        if plan.saves(now) or (ended and plan.checkpoint):
            rows, note = log.fit.rows[:logged], "converged" if ended == "converged" else None
            watcher.keep(plan, Checkpoint(now, method.to_host(after), rows, log.seconds, note))
        if ended:
            return


def _sound(
    plan: Plan, method: Method, log: _Log, watcher: Watcher, stop: Callable[[], bool], t: int, state: State
) -> Iterator[tuple[int, State, State, bool]]:
    """Take the steps after t, and yield (t, state before, state after, whether to stop) where the state was checked.

    The state is checked to be finite at steps with a row or a checkpoint and at every `check_every`-th step. After a
    failed check, the steps since the last good state are repeated and checked one by one.
    """
    every, sound = method.check_every, (t, state, log.seconds)
    while t < plan.steps:
        log.t = t = t + 1
        due = t % every == 0 or t == plan.steps or t in plan.schedule or plan.saves(t)
        start = time.perf_counter()
        try:
            after = method.step(state, t)
            stopped = stop()
            styles = due or stopped
            if styles:
                method.wait(after)
            log.seconds += time.perf_counter() - start
            good = not styles or method.finite(after)
        except Exception:
            if state is sound[1]:
                raise
            good = False  # an unchecked number may have caused it
        if good:
            before, state = state, after
            watcher.stepped(t)
            if styles:
                sound = t, state, log.seconds
                yield t, before, state, stopped
        elif state is sound[1]:
            what = f"a number of step {t} is not finite; kept as it was before that step"
            log.end(t, "nonfinite", f"{what}; {OVERFLOWED}")
            log.keep(method, state)
            return
        else:  # repeat the steps singly to find the one that failed
            every, (t, state, log.seconds) = 1, sound


class _Log:
    """The writer of a fit's rows, which keeps the parameters of the last state with a finite objective."""

    def __init__(self, plan: Plan, fit: Fit, watcher: Watcher) -> None:
        self.plan, self.fit, self.watcher = plan, fit, watcher
        self.columns, self.measured = plan.columns(), plan.measured
        self.seconds, self.t = 0.0, 0

    def _write(self, **values: Any) -> None:
        found = row(**self.columns, **values)
        self.fit.rows.append(found)
        self.watcher.logged(found)

    def go_on(self, method: Method, state: State, begin: Checkpoint) -> None:
        """Log the rows before a checkpoint again."""
        for found in begin.rows:
            self.fit.rows.append(found)
            self.watcher.logged(found)
        self.seconds, self.t = begin.seconds, begin.iteration
        self.keep(method, state)

    def keep(self, method: Method, state: State) -> None:
        self.fit.parameters = method.parameters(state)

    def at(self, method: Method, state: State, t: int, note: str | None = None) -> bool:
        """Log a row for the state after t steps; return False, ending the fit, if its objective is not finite."""
        found = method.objective(state)
        if not np.isfinite(found.value):
            kept = self.fit.rows[-1]["iteration"] if self.fit.rows else None
            what = "nothing is kept" if kept is None else f"kept as it was at iteration {kept}"
            self.end(t, "nonfinite", f"the objective at iteration {t} is not finite; {what}; {OVERFLOWED}")
            return False
        self.keep(method, state)
        values = {
            "iteration": t,
            "evaluations": method.spent(t),
            "seconds": self.seconds,
            "status": "ok",
            "reason": note,
            "objective": found.value,
            "objective_error": found.standard_error,
            "objective_source": found.source,
            "gradient_norm": found.gradient_norm,
            **method.held_out(state, last=note is not None or t == self.plan.steps),
        }
        if t in self.measured or (note and self.measured):
            noise = method.diagnose(state, t, self.plan.replicates)
            mean_norm = noise.pop("mean_norm", None)
            values |= noise if found.gradient_norm is not None else {**noise, "gradient_norm": mean_norm}
        self._write(**values)
        return True

    def end(self, t: int, status: str, reason: str) -> None:
        """Log the row of a failure."""
        self._write(iteration=t if status != "n/a" else None, seconds=self.seconds, status=status, reason=reason)


def names(plans: Sequence[Plan]) -> list[str]:
    """Return a displayed name for each plan: its method, and everything in which the plans differ."""
    parts = [{**plan.recipe.parts(), "seed": f"seed {plan.seed}"} for plan in plans]
    values: dict[str, set[str]] = {}
    for part in parts:
        for kind, text in part.items():
            values.setdefault(kind, set()).add(text)
    return [" · ".join(t for kind, t in p.items() if kind == "method" or len(values[kind]) > 1) for p in parts]
