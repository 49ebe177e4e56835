"""Base class of the conjugate models, in which each coordinate has its own prior, counts and posterior.

ELBO = log evidence − KL(q ‖ posterior), a sum over coordinates. At q = posterior, the gradient is 0 and the ELBO
equals the log evidence.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.problem import Exact, Problem, Vectors
from gradmeter.estimators import UsageError
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class Conjugate(Problem):
    """Base class of the conjugate problems."""

    #: The name of the family that contains the posterior.
    conjugate: ClassVar[str]

    dim: int
    at: str = option(
        "given", "λ: the family's options as given, or the posterior's own", choices=("given", "posterior")
    )
    entropy: str = option("sampled", "how the entropy of q enters", choices=("sampled", "analytic"))
    differentiate: str = option("closed-form", "where ∇f comes from", choices=("closed-form", "autodiff"))

    @property
    def dimension(self) -> int:
        return self.dim

    def check(self) -> None:
        super().check()
        if self.at == "given":
            return
        if self.family.name != self.conjugate:
            raise UsageError(f"problem {self.name}: at=posterior is for family={self.conjugate}, which it belongs to")
        if self.q != type(self.q)():
            listed = " and ".join(self.q.__dataclass_fields__)
            raise UsageError(f"problem {self.name}: at=posterior chooses {listed} itself; leave them out")

    def parameters(self) -> Vectors:
        return self.posterior() if self.at == "posterior" else super().parameters()

    def optimum(self) -> Vectors | None:
        return self.posterior() if self.family.name == self.conjugate else None

    @abstractmethod
    def posterior(self) -> Vectors:
        """Return the λ of the exact posterior in the conjugate family."""

    @abstractmethod
    def log_evidence(self) -> np.ndarray:
        """Return the log evidence of each coordinate [D]."""

    @abstractmethod
    def divergence(self, parameters: Vectors) -> tuple[np.ndarray, Vectors, np.ndarray]:
        """Return KL(q ‖ posterior) of each coordinate [D], its gradient in λ by block, and the entropy of q [D]."""

    def exact_at(self, parameters: Vectors) -> Exact:
        """Return the exact ELBO and its gradient at any λ; with an analytic entropy, the objective is E log p alone."""
        divergence, gradient, entropy = self.divergence(parameters)
        objective = self.log_evidence() - divergence
        if self.entropy == "analytic":
            objective = objective - entropy
        slopes: dict[str, Any] = {name: -gradient[name] for name in self.family.blocks}
        return Exact(slopes, "closed-form", float(objective.sum()))
