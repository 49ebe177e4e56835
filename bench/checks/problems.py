"""Checks of a problem: its exact gradient and objective against an independent computation of E f.

If the states can be listed, E f is a sum, and its gradient the numerical derivative of that sum. Otherwise it is a mean
over the noise (`averages.py`) of one of two estimates:

- path: the numerical derivative in all parameters of f_λ(t_λ(ε)) at fixed noise, if sampler and f are continuous;
- score: f ∇_λ log q plus the derivative of f_λ at fixed z, if E ∇_λ log q = 0.

The path is preferred, since its terms vary less. It is rejected if a numerical derivative does not converge, or if the
two estimates contradict each other: f then has a discontinuity, which the path does not see.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradmeter.bench.checks.averages import FRAGILE, SETS, Cloud, Mean, cloud, extremes, mean_of
from gradmeter.bench.checks.differences import RELATIVE, derivative
from gradmeter.bench.checks.distributions import listed
from gradmeter.bench.checks.findings import About, Finding, number
from gradmeter.bench.checks.identities import explicit, flat
from gradmeter.bench.checks.lab import Lab, Vectors
from gradmeter.bench.checks.places import Place, directions
from gradmeter.bench.forms.results import exact_of
from gradmeter.bench.problems import Exact
from gradmeter.estimators import Expectation
from gradmeter.estimators.amortised import AmortisedExpectation
from gradmeter.estimators.families.capabilities import has, require

#: Path derivative: number of halved steps, first step, and relative error at which it counts as converged.
PATH_LEVELS, PATH_STEP, SETTLED = 3, 0.02, 1e-3
#: Number of directions per block, and the relative difference that matters.
MOST_DIRECTIONS, IMPORTANT = 6, 1e-4
#: Points per set of a pilot cloud, and the number of pilots, each of which uses the previous one's directions.
PILOT, PILOTS = 16, 2


@dataclass(frozen=True)
class Whole:
    """A problem on a backend, with all dependence on λ inside f.

    Attributes
    ----------
    entropy : {block: array}, optional
        ∇_λ of the entropy if it enters exactly instead; None otherwise.
    """

    lab: Lab
    problem: Any
    expectation: Expectation
    parameters: Vectors
    entropy: Vectors | None

    @property
    def about(self) -> About:
        return About("problem", self.problem.name)

    def value(self) -> Callable[[Vectors, Vectors], np.ndarray]:
        """Return the function (all parameters, noise) -> f_λ at the sample."""
        lab = self.lab
        data = {name: lab.backend.asarray(a, "float64") for name, a in self.expectation.data.items()}
        bound = self.expectation.bind(data)
        return lab.function(lambda parameters, noise: bound.sampled_objective(lab.backend, parameters, noise))

    def at(self, block: str, direction: np.ndarray, t: float) -> Vectors:
        return {**self.parameters, block: self.parameters[block] + t * direction}


def whole_of(lab: Lab, problem: Any) -> Whole:
    """Return the problem on a backend, through `Problem.whole` if an autoencoder's entropy enters analytically."""
    expectation, parameters = problem.expectation(), problem.parameters()
    parameters = {name: np.asarray(a, dtype=np.float64) for name, a in parameters.items()}
    entropy = None
    if expectation.entropy == "analytic":
        if isinstance(expectation, AmortisedExpectation):
            return Whole(lab, problem, problem.whole().expectation(), parameters, None)
        own = {name: parameters[name] for name in expectation.family.blocks}
        family = require(expectation.family, "entropy_gradient")
        call = lab.function(lambda p: family.entropy_gradient(lab.backend, p))
        entropy = call(own)
    return Whole(lab, problem, expectation, parameters, entropy)


@dataclass(frozen=True)
class _Claim:
    """The exact gradient along a direction in a block; `error` is the bound on its own error, 0 if none is stated."""

    block: str
    label: str
    direction: np.ndarray
    value: float
    added: float
    error: float


def _claims(whole: Whole, exact: Exact) -> list[_Claim]:
    lab = with_few_directions(whole.lab)
    found = []
    for block, gradient in exact.gradient.items():
        for label, v in directions(block, np.shape(gradient), lab, "exact"):
            added = float(np.sum(whole.entropy[block] * v)) if whole.entropy and block in whole.entropy else 0.0
            error = 0.0 if exact.errors is None else float(np.sum(exact.errors[block] * np.abs(v)))
            found.append(_Claim(block, label, v, float(np.sum(np.asarray(gradient) * v)), added, error))
    return found


def _values(claims: list[_Claim]) -> np.ndarray:
    return np.asarray([claim.value for claim in claims])


def with_few_directions(lab: Lab) -> Lab:
    """Return the same lab with fewer directions per block."""
    return Lab(lab.backend.name, replace(lab.effort, entries=min(lab.effort.entries // 2, MOST_DIRECTIONS)), lab.seed)


def check_problem(whole: Whole, place: Place | None, wrong_score: bool) -> Iterator[Finding]:
    """Yield the findings about the exact gradient and objective.

    Parameters
    ----------
    whole
        The problem with what follows from it.
    place : Place, optional
        The family at the problem's λ; None if an encoder outputs λ.
    wrong_score : bool
        Whether the family's score was found wrong, so that no check may use it.
    """
    about, problem = whole.about, whole.problem
    exact = exact_of(problem)
    if exact is None:
        yield about.not_checked("exact", "the problem gives no exact gradient")
        return
    for name, a in whole.parameters.items():
        given = exact.gradient.get(name)
        if given is None or np.shape(given) != a.shape:
            shape = "missing" if given is None else f"of shape {list(np.shape(given))}"
            yield about.wrong("exact", f"the exact gradient of {name} is {shape}; it must be of shape {list(a.shape)}")
            return
    if set(exact.gradient) != set(whole.parameters):
        more = sorted(set(exact.gradient) - set(whole.parameters))
        yield about.wrong("exact", f"the exact gradient has blocks {more} that the problem has not; leave them out")
        return
    if not all(np.all(np.isfinite(a)) for a in exact.gradient.values()):
        yield about.not_checked("exact", "the exact gradient is not finite")
        return
    simple = not whole.expectation.noise_specs() and whole.expectation.importance_samples == 1
    states = listed(place) if place is not None and simple else None
    if states is not None:
        yield from _over_states(whole, exact, states)
    else:
        yield from _over_noise(whole, exact, place, wrong_score)
    if exact.optimal_baseline is not None:
        yield about.not_checked("exact.optimal_baseline", "an estimator with any baseline is unbiased")


def _over_states(whole: Whole, exact: Exact, z: np.ndarray) -> Iterator[Finding]:
    """Check E f and its numerical derivative by sums over states."""
    lab, about = whole.lab, whole.about
    data = {name: lab.backend.asarray(a, "float64") for name, a in whole.expectation.data.items()}
    bound, family, backend = whole.expectation.bind(data), whole.expectation.family, lab.backend

    def terms(parameters: Any, z: Any) -> dict[str, Any]:
        at, own = bound.at(parameters)
        return {"log": family.log_density(backend, own, z), "value": at.value(backend, own, z[:, None, :], {})[:, 0]}

    call = lab.function(terms)

    def objective(parameters: Vectors) -> np.ndarray:
        found = call(parameters, z)
        return np.asarray([float(np.sum(np.exp(found["log"]) * found["value"]))])

    value = float(objective(whole.parameters)[0])
    size = 1.0 + abs(value)
    if exact.objective is not None and abs(value - exact.objective) > 1e-7 * size:
        yield about.wrong(
            "exact.objective",
            f"exact().objective is {number(exact.objective)}, but E f over all states is {number(value)}; mend it or f",
        )
    elif exact.objective is not None:
        yield about.ok("exact.objective", "over all states")
    for claim in _claims(whole, exact):
        found, error = derivative(lambda t, c=claim: objective(whole.at(c.block, c.direction, t)))  # type: ignore[misc]
        right, off = float(found[0]) + claim.added, float(error[0])
        if abs(right - claim.value) > RELATIVE * abs(right) + 30.0 * off + 1e-8 * size:
            yield about.wrong(
                "exact",
                f"the exact gradient{claim.label} is {number(claim.value)}, but the derivative of E f over all states "
                f"is {number(right)}; mend exact, or the integrand",
            )
            return
    yield about.ok("exact", "over all states")


class _Draws:
    """Noise of both rounds, each drawn once, and f on it."""

    def __init__(self, whole: Whole, times: float) -> None:
        self.whole, self.call = whole, whole.value()
        specs = whole.expectation.sample_specs(whole.problem.dimension)
        self.specs = specs

        def evaluate(rows: int) -> None:
            self.call(whole.parameters, whole.lab.draw(specs, rows, "time"))

        self.points = whole.lab.affordable(evaluate, SETS * whole.lab.effort.average, times) // SETS
        self._clouds: dict[int, Cloud] = {}
        pilot, self.along = None, None
        for attempt in range(PILOTS):
            pilot = cloud(whole.lab, specs, PILOT, "pilot", attempt, along=self.along)
            away = self.call(whole.parameters, pilot.noise)
            self.size, self.centre = float(np.median(np.abs(away))), float(np.median(away))
            self.along = extremes(specs, pilot.noise, pilot.weights * np.abs(away - self.centre))

    def __getitem__(self, round: int) -> Cloud:
        if round not in self._clouds:
            self._clouds[round] = cloud(self.whole.lab, self.specs, self.points, "exact", round, along=self.along)
        return self._clouds[round]


def _over_noise(whole: Whole, exact: Exact, place: Place | None, wrong_score: bool) -> Iterator[Finding]:
    about, claims = whole.about, _claims(whole, exact)
    draws = _Draws(whole, 2.0 * (1.0 + 2.0 * PATH_LEVELS * len(claims)))
    values = [draws.call(whole.parameters, draws[0].noise)]
    if not np.all(np.isfinite(values[0])):
        yield about.not_checked("exact", "f is not finite at some samples")
        return
    if exact.objective is not None and whole.problem.entropy == "analytic":
        yield about.not_checked("exact.objective", "with entropy=analytic it may hold the entropy or not")
    elif exact.objective is not None:
        yield _objective(whole, exact.objective, draws)
    yield _gradient(whole, claims, draws, place, wrong_score)


def _objective(whole: Whole, claimed: float, draws: _Draws) -> Finding:
    def mean(round: int) -> Mean:
        made = draws[round]
        values = draws.call(whole.parameters, made.noise)[:, None]
        return mean_of(values, np.asarray([claimed]), made, abs(claimed))

    what = "exact().objective"
    first = mean(0)
    precision = first.precision(np.asarray(claimed))
    away = _away(first, claimed)[0]
    if away == 0.0 or away != _away(mean(1), claimed)[0]:
        if first.fragile[0]:
            return whole.about.not_checked("exact.objective", FRAGILE)
        return whole.about.ok("exact.objective", f"to {precision}, by an average")
    return whole.about.wrong(
        "exact.objective",
        f"{what} is {number(claimed)}, but E f is {number(claimed + first.value[0])} ± "
        f"{number(first.quantile * first.error[0])}; mend exact or the "
        "integrand",
    )


def _away(mean: Mean, claimed: Any, error: Any = 0.0) -> np.ndarray:
    """Return `Mean.away` where the difference exceeds `error` and matters relative to the largest claimed number."""
    size = np.maximum(np.abs(mean.value + claimed), 1e-3 * np.max(np.abs(claimed)))
    return np.where(np.abs(mean.value) > IMPORTANT * size + error, mean.away, 0.0)


def _gradient(whole: Whole, claims: list[_Claim], draws: _Draws, place: Place | None, wrong_score: bool) -> Finding:
    about, check = whole.about, "exact"
    unsupported = whole.expectation.integrand.unsupported
    by_path = place is None or (not unsupported and explicit(place))
    by_score = (
        place is not None
        and not wrong_score
        and has(place.family, "score", "score_identity")
        and whole.expectation.importance_samples == 1
    )
    score = _Score(whole, claims, draws, place) if by_score and place is not None else None
    path = _paths(whole, claims, draws) if by_path else None
    if path is not None:
        by_path_first = path(0)
        if by_path_first is None or (score is not None and _contradict(by_path_first, score.mean(0))):
            path = None
    if path is None and score is None:
        return about.not_checked(check, "neither the path of its samples nor its score gives the gradient")
    means: list[Mean] = []
    values, errors = _values(claims), np.asarray([claim.error for claim in claims])
    for round in (0, 1):
        found = path(round) if path is not None else score.mean(round) if score is not None else None
        if found is None or not np.all(np.isfinite(found.value)):
            return about.not_checked(check, "f or its derivative is not finite at some samples")
        means.append(found)
        if round == 0 and not _away(found, values, errors).any():
            break
    first = means[0]
    if len(means) == 2:
        signs = _away(first, values, errors), _away(means[1], values, errors)
        confirmed = (signs[0] != 0.0) & (signs[0] == signs[1])
        if confirmed.any():
            entry = int(np.argmax(confirmed * np.abs(first.value) / np.maximum(first.error, 1e-300)))
            claim, error = claims[entry], first.quantile * first.error[entry]
            return about.wrong(
                check,
                f"the exact gradient{claim.label} is {number(claim.value)}, but the derivative of E f is "
                f"{number(claim.value + first.value[entry])} ± {number(error)}; mend exact, or the integrand",
            )
    if first.fragile.any():
        return about.not_checked(check, FRAGILE)
    return about.ok(
        check, f"to {first.precision(values)}, by an average of {'paths' if path is not None else 'scores'}"
    )


def _contradict(one: Mean, other: Mean) -> bool:
    allowed = one.quantile * np.hypot(one.error, other.error) + one.top + other.top
    return bool(np.any(np.abs(one.value - other.value) > allowed))


def _paths(whole: Whole, claims: list[_Claim], draws: _Draws) -> Callable[[int], Mean | None]:
    """Return a function round -> means of the path derivatives minus claimed values, or None without convergence."""

    def mean(round: int) -> Mean | None:
        made = draws[round]
        columns, errors = [], []
        for claim in claims:
            slope, error = derivative(
                lambda t, c=claim: draws.call(whole.at(c.block, c.direction, t), made.noise),  # type: ignore[misc]
                PATH_STEP,
                PATH_LEVELS,
            )
            if not np.all(np.isfinite(slope)):
                return None
            size = np.abs(slope) * made.weights
            if np.any(error * made.weights > SETTLED * (size + size.mean()) + 1e-12):
                return None
            columns.append(slope + claim.added)
            errors.append(float(np.mean(made.weights * error)))
        return mean_of(np.stack(columns, axis=1), _values(claims), made, draws.size, np.asarray(errors))

    return mean


class _Score:
    """The means of the score-function estimate minus the claimed values, for each round."""

    def __init__(self, whole: Whole, claims: list[_Claim], draws: _Draws, place: Place) -> None:
        self.whole, self.claims, self.draws, self.place = whole, claims, draws, place
        lab = whole.lab
        data = {name: lab.backend.asarray(a, "float64") for name, a in whole.expectation.data.items()}
        bound, self.own = whole.expectation.bind(data), {n: whole.parameters[n] for n in place.family.blocks}
        backend, family = lab.backend, place.family

        def fixed(parameters: Any, z: Any, noise: Any) -> Any:
            """Return f_λ [points] at fixed z [points, 1, D], with the λ of the entropy held fixed."""
            at = bound.at(parameters)[0]
            return at.integrand.value(backend.xp, at.data, z, noise)[:, 0]

        self.fixed = lab.function(fixed)
        self.family = family

    def mean(self, round: int) -> Mean:
        made, whole = self.draws[round], self.whole
        z = self.place.sample(self.own, made.noise)
        f = self.draws.call(whole.parameters, made.noise) - self.draws.centre
        scores = self.place.score(self.own, z[:, 0])
        read = {*whole.expectation.integrand.reads, *whole.expectation.model_blocks}
        columns, errors = [], []
        for claim in self.claims:
            term = np.zeros(len(z)) + claim.added
            if claim.block in scores:
                like = {claim.block: self.own[claim.block]}
                term = term + f * (flat(scores, like, len(z)) @ claim.direction.ravel())
            errors.append(0.0)
            if claim.block in read:
                slope, error = derivative(
                    lambda t, c=claim: self.fixed(whole.at(c.block, c.direction, t), z, made.noise),  # type: ignore[misc]
                    PATH_STEP,
                    PATH_LEVELS,
                )
                term = term + slope
                errors[-1] = float(np.mean(made.weights * error))
            columns.append(term)
        return mean_of(np.stack(columns, axis=1), _values(self.claims), made, self.draws.size, np.asarray(errors))
