"""Base class of the conjugate models, in which each coordinate has its own prior, counts and posterior.

ELBO = log evidence − KL(q ‖ posterior), a sum over coordinates. At q = posterior, the gradient is 0 and the ELBO
equals the log evidence.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.known_optimum import KnownOptimum
from gradmeter.bench.problems.options import differentiate_option, entropy_option
from gradmeter.bench.problems.problem import Exact
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class Conjugate(KnownOptimum):
    """Base class of the conjugate problems."""

    at_optimum = "posterior"

    dim: int
    at: str = option(
        "given", "λ: the family's options as given, or the posterior's own", choices=("given", "posterior")
    )
    entropy: str = entropy_option()
    differentiate: str = differentiate_option()

    @property
    def dimension(self) -> int:
        return self.dim

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
