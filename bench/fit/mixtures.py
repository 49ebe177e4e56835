"""EM, CAVI and SVI as methods of `gradmeter fit`, on the problem whose ELBO they maximise, starting at its λ."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.fit.objective import objective
from gradmeter.bench.fit.recipe import Recipe
from gradmeter.bench.fit.svi import StochasticVariational, check_steps
from gradmeter.bench.optimisation.method import Method, Objective, Vectors
from gradmeter.bench.problems import Problem
from gradmeter.bench.problems.mixtures.bayesian import BayesianGaussianMixture
from gradmeter.bench.problems.mixtures.cavi import CoordinateAscent, MeanFieldMixture
from gradmeter.bench.problems.mixtures.em import ExpectationMaximisation
from gradmeter.bench.problems.mixtures.marginal import GaussianMixture
from gradmeter.estimators import NotApplicable
from gradmeter.estimators.options import option


class OnProblem(Method):
    """A method that reports a problem's objective and gradient norm, as gradient-based fits of that problem do."""

    def __init__(self, method: Method, problem: Problem, seed: int) -> None:
        self.method, self.problem, self.seed = method, problem, seed
        self.evaluations = method.evaluations

    def initial(self) -> Vectors:
        return self.method.initial()

    def step(self, state: Vectors, t: int) -> Vectors:
        return self.method.step(state, t)

    def objective(self, state: Vectors) -> Objective:
        return objective(self.problem, self.parameters(state), self.seed)

    def parameters(self, state: Vectors) -> Vectors:
        found = self.method.parameters(state)
        return self.problem.complete(found) if isinstance(self.problem, BayesianGaussianMixture) else found

    def converged(self, before: Vectors, after: Vectors) -> bool:
        return self.method.converged(before, after)


class BayesianMixtureRecipe(Recipe):
    """Base class of the recipes for the Bayesian Gaussian mixture."""

    def check(self, problem: Problem) -> None:
        if not isinstance(problem, BayesianGaussianMixture):
            raise NotApplicable(f"{self.name} is for problem {BayesianGaussianMixture.name}, not for {problem.name}")

    def prepare(self, problem: Problem, seed: int) -> Method:
        """Return the method, starting at the problem's λ or, if its means coincide, at points that the seed chooses."""
        assert isinstance(problem, BayesianGaussianMixture)
        means = problem.parameters()["loc"].reshape(problem.components, -1)
        given: dict[str, Any] = {
            "tau": problem.tau,
            "sigma": problem.sigma,
            "learn": problem.hyperparameters == "learned",
            "seed": seed,
            "begin": None if problem.components > 1 and np.all(means == means[0]) else means,
        }
        return OnProblem(self.method(problem.points(), problem.components, given), problem, seed)

    @abstractmethod
    def method(self, points: np.ndarray, components: int, given: dict[str, Any]) -> MeanFieldMixture:
        """Return the method with its own options."""


@dataclass(frozen=True)
class Cavi(BayesianMixtureRecipe):
    """Coordinate ascent variational inference for a Bayesian Gaussian mixture."""

    name: ClassVar[str] = "cavi"
    summary: ClassVar[str] = "coordinate ascent on the mean-field ELBO of a Bayesian Gaussian mixture"

    def method(self, points: np.ndarray, components: int, given: dict[str, Any]) -> MeanFieldMixture:
        return CoordinateAscent(points, components, **given)


@dataclass(frozen=True)
class Svi(BayesianMixtureRecipe):
    """Stochastic variational inference for a Bayesian Gaussian mixture."""

    name: ClassVar[str] = "svi"
    summary: ClassVar[str] = "stochastic VI on the same: natural gradients of minibatches, Robbins-Monro steps"

    batch: int = option(100, "rows of a minibatch; all where there are no more", minimum=1)
    delay: float = option(1.0, "steps are (t + delay)^-decay", minimum=0.0)
    decay: float = option(0.7, "above 0.5 and at most 1; 0 is a constant step of 1", minimum=0.0, maximum=1.0)

    def check(self, problem: Problem) -> None:
        super().check(problem)
        check_steps(self.delay, self.decay)

    def method(self, points: np.ndarray, components: int, given: dict[str, Any]) -> MeanFieldMixture:
        batch = min(self.batch, len(points))
        return StochasticVariational(points, components, batch, self.delay, self.decay, **given)


class EmOnProblem(OnProblem):
    """EM with the λ of q(z) = posterior added to the fitted θ."""

    problem: GaussianMixture

    def parameters(self, state: Vectors) -> Vectors:
        return self.problem.with_posterior(self.method.parameters(state))


@dataclass(frozen=True)
class Em(Recipe):
    """Expectation maximisation for a Gaussian mixture."""

    name: ClassVar[str] = "em"
    summary: ClassVar[str] = "expectation maximisation of a Gaussian mixture's likelihood"

    floor: float = option(
        0.0, "the least variance, in units of the data's; 0 refuses a collapsed component", minimum=0.0
    )

    def check(self, problem: Problem) -> None:
        if not isinstance(problem, GaussianMixture):
            raise NotApplicable(f"em is for problem {GaussianMixture.name}, not for {problem.name}")

    def prepare(self, problem: Problem, seed: int) -> Method:
        """Return EM, starting at the problem's θ."""
        assert isinstance(problem, GaussianMixture)
        at = problem.parameters()
        weights = np.exp(at["weight_logits"] - at["weight_logits"].max())
        begin = {"weights": weights / weights.sum(), "means": at["means"], "variances": np.exp(2.0 * at["log_scales"])}
        method = ExpectationMaximisation(problem.points(), problem.components, floor=self.floor, begin=begin)
        return EmOnProblem(method, problem, seed)
