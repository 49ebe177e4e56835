"""The geometric distribution: z = 0, 1, 2, … failures before the first success, coordinates independent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig, MeanField
from gradmeter.estimators.families.poisson import stirling
from gradmeter.estimators.families.relaxation import logit, sigmoid
from gradmeter.estimators.families.support_and_tails import SupportAndTails, Tail
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values, option

DISCRETE = "it is discrete: a sample jumps from one whole number to the next"
SMALLEST = 0.02


@dataclass(frozen=True)
class Geometric(MeanField):
    """The geometric family, sampled by the inverse CDF; z has probability p (1 − p)ᶻ.

    Parameter: `logits` [D], log p/(1 − p) of success.
    """

    name: ClassVar[str] = "geometric"
    summary: ClassVar[str] = "geometric distribution, failures before a success; parameter logits (of success)"
    blocks: ClassVar[tuple[str, ...]] = ("logits",)
    unsupported: ClassVar[dict[str, str]] = {"pathwise": DISCRETE, "log_density_gradient": DISCRETE}

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        probability: Values = option(
            0.5, "of success, for every coordinate", minimum=SMALLEST, below=1.0, per="coordinate"
        )

        @property
        def family(self) -> Family:
            return Geometric()

        def parameters(self, dimension: int) -> Blocks:
            return {"logits": self.each(dimension, logit, "probability")}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"base": Noise("uniform", (*sample_shape, dimension))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        return _failures(backend.xp, parameters["logits"], noise["base"])

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        """Return F(0), F(1), … until the remaining probability is negligible."""
        each = np.logaddexp(0.0, parameters["logits"])[:, None]  # −log(1 − p)
        most = math.ceil(40.0 / float(each.min()))
        return dict.fromkeys(("base", "positive", "more", "negative"), -np.expm1(-each * np.arange(1, most + 1)))

    def log_densities(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp, logits = backend.xp, parameters["logits"]
        nothing = xp.zeros_like(logits)
        return -z * xp.logaddexp(nothing, logits) - xp.logaddexp(nothing, -logits)

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return 1 − p − z p."""
        p = sigmoid(backend.xp, parameters["logits"])
        return {"logits": 1.0 - p - z * p}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return log(1 − p) (1 − p)/p."""
        xp, logits = backend.xp, parameters["logits"]
        return {"logits": -xp.logaddexp(xp.zeros_like(logits), logits) * xp.exp(-logits)}

    def weak_noise(self, sample_shape: tuple[int, ...], dimension: int, coupling: bool) -> dict[str, dict[str, Noise]]:
        names = ("positive", "more") if coupling else ("positive", "more", "negative")
        return {"logits": {name: Noise("uniform", (*sample_shape, dimension)) for name in names}}

    def weak_derivatives(
        self, backend: Backend, parameters: Blocks, noise: dict[str, Array], coupling: bool
    ) -> dict[str, tuple[Array, Array, Array]]:
        """Return c = 1, with z and z + z′, a negative binomial variable; coupled, z is the same in both.

        With q = 1 − p, ∂/∂logit of p qᶻ is p qᶻ (q − z p) = p qᶻ − (z + 1) p² qᶻ.
        """
        xp, logits = backend.xp, parameters["logits"]
        positive = _failures(xp, logits, noise["positive"])
        first = positive if coupling else _failures(xp, logits, noise["negative"])
        return {"logits": (xp.ones_like(logits), positive, first + _failures(xp, logits, noise["more"]))}

    def support_and_tails(self, parameters: Blocks) -> SupportAndTails:
        logits = parameters["logits"]
        each = np.logaddexp(0.0, logits)
        most = math.ceil(800.0 / float(each.min()))
        middle = np.exp(-logits)
        return SupportAndTails(
            0.0 * middle, middle, 0.0 * middle + most, 1.0 + middle, above=Tail(1.0, each), discrete=True
        )

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return Σ_k S(n, k) k! rᵏ with Stirling numbers of the second kind and r = (1 − p)/p.

        ∂logits multiplies each term by −k.
        """
        ratio = np.exp(-parameters["logits"])
        terms = [s * math.factorial(k) * ratio**k for k, s in enumerate(stirling(order))]
        nothing = np.zeros_like(ratio)
        return sum(terms, nothing), {"logits": sum((-k * term for k, term in enumerate(terms)), nothing)}


def _failures(xp: Any, logits: Array, uniform: Array) -> Array:
    """Return the least k with F(k) > u: ⌊log(1 − u)/log(1 − p)⌋."""
    last = 1.0 - 0.5 * float(xp.finfo(uniform.dtype).eps)  # the antithetic number of u = 0 is 1
    uniform = xp.where(uniform < last, uniform, xp.full_like(uniform, last))
    return xp.floor(-xp.log1p(-uniform) / xp.logaddexp(xp.zeros_like(logits), logits))
