"""Bayesian regressions: the ELBO of a mean-field Normal, with exact gradients.

log p(x, z) = Σ_n h(x_nᵀ z, y_n) + log N(z; 0, I), for a prior N(0, I) and a log-likelihood h of the linear
predictor. Under q, x_nᵀz ~ N(m_n, s_n²), so every expectation is a one-dimensional integral per row; for the
linear regression they are closed.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bench.problems.problem import Exact, Problem, Vectors, exact_elbo, family_option
from bench.problems.regression.datasets import load
from bench.problems.regression.generalised_linear import GeneralisedLinear
from estimators import Expectation, Normal, Point, UsageError
from estimators.options import option


@dataclass(frozen=True)
class Regression(Problem):
    """Options shared by both; the batch is drawn afresh, without replacement, for every estimate."""

    integrand: ClassVar[GeneralisedLinear]
    source: ClassVar[str]
    shapes: ClassVar[dict[str, tuple[int, int]]]
    fewest: ClassVar[int] = 1

    dataset: str
    q: Point = family_option("normal")
    at: str = option(
        "given", "λ: loc and scale as given, or the maximum of the exact ELBO", choices=("given", "fitted")
    )
    batch: int = option(None, "minibatch size (all rows if absent)", minimum=1, optional=True)
    entropy: str = option("sampled", "how the entropy of q enters", choices=("sampled", "analytic"))
    differentiate: str = option("closed-form", "where ∇f comes from", choices=("closed-form", "autodiff"))

    @property
    def dimension(self) -> int:
        return self.shapes[self.dataset][1] + 1

    @property
    def draws_inputs(self) -> bool:
        return self.batch is not None

    def check(self) -> None:
        super().check()
        rows = self.shapes[self.dataset][0]
        if self.batch is not None and self.batch > rows:
            raise UsageError(f"problem {self.name}: batch is {self.batch}; {self.dataset} has {rows} rows")
        if self.at == "fitted" and self.q != Normal.At():
            raise UsageError(f"problem {self.name}: at=fitted chooses loc and scale itself; leave them out")

    def expectation(self) -> Expectation:
        design, response = load(self.dataset)
        data = {"design": design, "response": response}
        if self.batch is not None:
            data["batch"] = np.zeros(self.batch)
        return Expectation(self.family, self.integrand, data, self.entropy, self.differentiate)  # type: ignore[arg-type]

    def parameters(self) -> Vectors:
        if self.at == "fitted":
            return fitted(type(self), self.dataset)
        return super().parameters()

    def optimum(self) -> Vectors:
        return fitted(type(self), self.dataset)

    def exact_at(self, parameters: Vectors) -> Exact:
        """The exact ELBO, its gradient and optimal baselines at any λ."""
        design, response = load(self.dataset)
        loc, scale = parameters["loc"], np.exp(parameters["log_scale"])
        mean, deviation = design @ loc, np.sqrt(design**2 @ scale**2)
        fit = self.likelihood_moments(mean, deviation, response)
        # Prior: −(z² + log 2π)/2. Entropy of q as −log q: (ε² + log 2π)/2 + log σ. In Hermite moments:
        dimension = len(loc)
        hermite: dict[int, np.ndarray | float] = {
            0: float(fit[0].sum() - 0.5 * (loc @ loc + scale @ scale) + 0.5 * dimension + np.log(scale).sum()),
            1: scale * (design.T @ fit[1] - loc),
            2: scale**2 * ((design**2).T @ fit[2] - 1.0) + 1.0,
            4: scale**4 * ((design**4).T @ fit[4]),
        }
        return exact_elbo(self.entropy, scale, hermite, self.source)

    @abstractmethod
    def likelihood_moments(
        self, mean: np.ndarray, deviation: np.ndarray, response: np.ndarray
    ) -> dict[int, np.ndarray]:
        """E of h and of its derivatives of order 1, 2, 4 in the predictor, under N(mean, deviation²), per row."""


@functools.cache
def fitted(problem: type[Regression], dataset: str) -> Vectors:
    """The λ that maximises the exact ELBO, by L-BFGS, to ‖gradient‖ about 1e-8."""
    from scipy.optimize import minimize  # slow to import

    at = problem(dataset=dataset)
    dimension = at.dimension

    def negative(flat: np.ndarray) -> tuple[float, np.ndarray]:
        exact = at.exact_at({"loc": flat[:dimension], "log_scale": flat[dimension:]})
        assert exact.objective is not None
        return -exact.objective, -np.concatenate([exact.gradient["loc"], exact.gradient["log_scale"]])

    flat = np.concatenate([np.zeros(dimension), np.full(dimension, -1.0)])
    for _ in range(3):  # a restart forgets curvature from far away, which is what stalls it near the maximum
        options: Any = {"maxiter": 5000, "maxfun": 20000, "ftol": 0.0, "gtol": 1e-10, "maxcor": 30}
        flat = minimize(negative, flat, jac=True, method="L-BFGS-B", options=options).x
    return {"loc": flat[:dimension], "log_scale": flat[dimension:]}
