"""Toy problems for discrete families, with exact gradients by enumeration or in closed form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors
from gradmeter.bench.problems.enumerated import exact_enumerated
from gradmeter.bench.problems.options import differentiate_option, family_option
from gradmeter.bench.problems.problem import Exact, Problem
from gradmeter.bench.problems.test_functions import SquareIntegrand
from gradmeter.estimators import FamilyConfig, Integrand
from gradmeter.estimators.backends import get
from gradmeter.estimators.families.capabilities import require
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class ThreeBernoullis(Problem):
    """Three Bernoulli variables with f = Σ (z_i − t_i)², t = (0.6, 0.51, 0.48) (Liu et al. 2019, Kool et al. 2020)."""

    name: ClassVar[str] = "three-bernoullis"
    summary: ClassVar[str] = "Σ (z − t)² over three Bernoullis that share one logit, t = 0.6, 0.51, 0.48"
    integrand = SquareIntegrand()
    targets: ClassVar[tuple[float, ...]] = (0.6, 0.51, 0.48)

    q: FamilyConfig = family_option("tied-bernoulli", "bernoulli")
    differentiate: str = differentiate_option()

    @property
    def dimension(self) -> int:
        return len(self.targets)

    def data(self) -> Vectors:
        return {"k": np.asarray(self.targets)}

    def exact_at(self, parameters: Vectors) -> Exact | None:
        return exact_enumerated(self.expectation(), parameters, self.dimension)


class ChosenSquare(Integrand):
    """f = Σ_i (v · z_i − t)², with one-hot vectors z_i concatenated in z."""

    def _away(self, xp: Any, data: Arrays, z: Array) -> Array:
        each = xp.reshape(z, (*z.shape[:-1], -1, data["values"].shape[0]))
        return xp.sum(each * data["values"], axis=-1) - data["target"]

    def value(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        away = self._away(xp, data, z)
        return xp.sum(away * away, axis=-1)

    def gradient(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        slope = 2.0 * self._away(xp, data, z)[..., None] * data["values"]
        return xp.reshape(slope, z.shape)


@dataclass(frozen=True)
class CategoricalSquare(Problem):
    """The squared error of the Bernoulli toys for K values evenly spaced from 0 to 1; K = 2 is the Bernoulli case."""

    name: ClassVar[str] = "categorical-square"
    summary: ClassVar[str] = "Σ (v − k)² over choices of one of K values v evenly from 0 to 1"
    integrand = ChosenSquare()

    k: float = option(0.45, "what the values are compared with")
    q: FamilyConfig = family_option("categorical")
    choices: int = option(1, "number of choices", minimum=1, maximum=100_000)
    differentiate: str = differentiate_option()

    @property
    def categories(self) -> int:
        return int(getattr(self.q, "categories"))  # noqa: B009

    @property
    def dimension(self) -> int:
        return self.choices * self.categories

    def data(self) -> Vectors:
        return {"values": np.linspace(0.0, 1.0, self.categories), "target": np.asarray(self.k)}

    def exact_at(self, parameters: Vectors) -> Exact | None:
        """Return the exact values: E f = Σ_i Σ_k p_ik f_k, so ∂logits_ik = p_ik Σ_j p_ij (f_k − f_j)."""
        p = require(self.family, "expected").expected(get("numpy"), parameters).reshape(parameters["logits"].shape)
        f = (np.linspace(0.0, 1.0, self.categories) - self.k) ** 2
        return Exact({"logits": p * (p @ (f[:, None] - f).T)}, "closed-form", float((p @ f).sum()))
