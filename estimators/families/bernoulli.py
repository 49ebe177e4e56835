"""The Bernoulli distribution: z = 1 with probability p, else 0, coordinates independent.

`bernoulli` has a logit for each coordinate, `tied-bernoulli` has one logit that all coordinates share.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig, MeanField
from gradmeter.estimators.families.relaxation import Binary, Relaxation, logit, sigmoid
from gradmeter.estimators.families.states import States
from gradmeter.estimators.families.support_and_tails import SupportAndTails
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

DISCRETE = "it is discrete: a sample jumps from 0 to 1"
UNTOLD = "λ does not tell how many coordinates share it"


@dataclass(frozen=True)
class _Binary(Family):
    """The base of both Bernoulli families: z = 1{u > 1 − p}, so 1 − u makes the antithetic sample.

    log q is z logit − softplus(logit) for z between 0 and 1 too, because relaxations evaluate it there.
    """

    blocks: ClassVar[tuple[str, ...]] = ("logits",)

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("uniform", (*sample_shape, dimension))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        above = noise["base"] > sigmoid(backend.xp, -parameters["logits"])
        return backend.xp.astype(above, noise["base"].dtype)

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        return {"base": sigmoid(np, -parameters["logits"])[:, None]}

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        return backend.xp.zeros_like(z) + parameters["logits"]

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        return backend.xp.zeros_like(vector)

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return z − p."""
        return self.from_logits(backend, z - sigmoid(backend.xp, parameters["logits"]))

    def states(self, dimension: int) -> States:
        return States(((0.0,), (1.0,)), dimension)

    def logits(self, backend: Backend, parameters: Blocks) -> Array:
        return parameters["logits"]

    def expected(self, backend: Backend, parameters: Blocks) -> Array:
        return sigmoid(backend.xp, parameters["logits"])

    def expected_pathwise(self, backend: Backend, parameters: Blocks, cotangent: Array) -> Blocks:
        return self.from_logits(backend, cotangent * _variance(backend.xp, parameters["logits"]))

    @abstractmethod
    def from_logits(self, backend: Backend, gradient: Array) -> Blocks: ...

    def relaxation(self) -> Relaxation:
        return Binary(self)


def _variance(xp: Any, logits: Array) -> Array:
    """Return p (1 − p)."""
    return sigmoid(xp, logits) * sigmoid(xp, -logits)


def _log_densities(backend: Backend, parameters: Blocks, z: Array) -> Array:
    logits = parameters["logits"]
    return z * logits - backend.xp.logaddexp(backend.xp.zeros_like(logits), logits)


@dataclass(frozen=True)
class Bernoulli(_Binary, MeanField):
    """Independent Bernoulli coordinates. Parameter: `logits` [D], log p/(1 − p)."""

    name: ClassVar[str] = "bernoulli"
    summary: ClassVar[str] = "Bernoulli distribution, z = 0 or 1; parameter logits"
    unsupported: ClassVar[dict[str, str]] = {"pathwise": DISCRETE}

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        probability: Values = option(0.5, "P(z = 1) of every coordinate", above=0.0, below=1.0, per="coordinate")

        @property
        def family(self) -> Family:
            return Bernoulli()

        def parameters(self, dimension: int) -> Blocks:
            return {"logits": self.each(dimension, logit, "probability")}

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        return _log_densities(backend, parameters, z)

    def dispersed(self, backend: Backend, parameters: Blocks, dispersion: float) -> Blocks:
        return {"logits": parameters["logits"] / dispersion}

    def from_logits(self, backend: Backend, gradient: Array) -> Blocks:
        return {"logits": gradient}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return −logit p (1 − p)."""
        return {"logits": -parameters["logits"] * _variance(backend.xp, parameters["logits"])}

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        """Return one number per sample, which only tells the sample shape: both parts are constants."""
        return {"logits": {"replaced": Noise("uniform", (*sample_shape, 1))}}

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return c = p (1 − p), with 1 as the positive and 0 as the negative part."""
        zero = backend.xp.zeros_like(noise["replaced"])
        return {"logits": (_variance(backend.xp, parameters["logits"]), zero + 1.0, zero)}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        p = sigmoid(np, parameters["logits"])
        return SupportAndTails(0.0 * p, p, 0.0 * p + 1.0, 0.0 * p + 1.0, discrete=True)

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return p, which is the moment of every order above 0."""
        logits = parameters["logits"]
        if order == 0:
            return np.ones_like(logits), {"logits": np.zeros_like(logits)}
        return sigmoid(np, logits), {"logits": _variance(np, logits)}


@dataclass(frozen=True)
class TiedBernoulli(_Binary):
    """Independent Bernoulli coordinates with a common logit. Parameter: `logits` [1]."""

    name: ClassVar[str] = "tied-bernoulli"
    summary: ClassVar[str] = "independent Bernoullis that share one logit; parameter logits"
    unsupported: ClassVar[dict[str, str]] = {
        "pathwise": DISCRETE,
        "log_densities": "its coordinates share a logit",
        "weak_derivatives": "its logit moves every coordinate",
        "entropy_gradient": UNTOLD,
        "power_moment": UNTOLD,
    }

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        probability: float = option(0.5, "P(z = 1) of all coordinates", above=0.0, below=1.0)

        @property
        def family(self) -> Family:
            return TiedBernoulli()

        def parameters(self, dimension: int) -> Blocks:
            return {"logits": np.full(1, logit(self.probability))}

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return {"logits": (1,)}

    def log_density(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        return backend.xp.sum(_log_densities(backend, parameters, z), axis=-1)

    def log_density_replaced(self, backend: Backend, parameters: Blocks, z: Array, replacement: Array) -> Array:
        return self.log_density(backend, parameters, z)[..., None] + (replacement - z) * parameters["logits"]

    def from_logits(self, backend: Backend, gradient: Array) -> Blocks:
        return {"logits": backend.xp.sum(gradient, axis=-1, keepdims=True)}
