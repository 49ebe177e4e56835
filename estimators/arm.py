"""ARM (augment, REINFORCE, merge): antithetic pairs of binary samples, weighted by the uniform numbers that made them.

Approximates   ∇_λ E_{q_λ}[f(z)],  z_i ~ Bernoulli(σ(l_i)) independent
with           mean over pairs of (f(1{u > σ(−l)}) − f(1{u < σ(l)})) (u − ½) ∂l/∂λ,     u uniform on (0, 1)^D
requires       binary coordinates, each with a logit; nothing of f. Each pair is S = 2.

Source: Yin & Zhou 2019, theorem 1.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators import draws
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, mean_over_samples, spread
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.noise import Noise


@dataclass(frozen=True)
class AntitheticPairs(Estimator):
    """The base of ARM and DisARM, which evaluate f at z(u) and at z′ = z(1 − u), both from q."""

    requires: ClassVar[Requires] = Requires(("logits", "mirrored"))

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        if num_samples % 2:
            raise NotApplicable(f"{self.name} draws pairs, so samples must be even, not {num_samples}")

    def smallest_num_samples(self) -> int:
        return 2

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        pairs = expectation.family.noise((num_samples // 2,), dimension)
        return {**pairs, **expectation.noise_specs()}

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        found = super().discontinuities(expectation, parameters, num_samples, dimension)
        return draws.mirrored_jumps(expectation.family, found)

    def family_noise(self, backend: Backend, family: Family, noise: dict[str, Array]) -> dict[str, Array]:
        xp, mirrored = backend.xp, family.mirrored(backend, noise)
        return {**noise, **{name: xp.concat([noise[name], other], axis=1) for name, other in mirrored.items()}}

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp, family = backend.xp, expectation.family
        first = family.sample(backend, parameters, noise)
        second = family.sample(backend, parameters, {**noise, **family.mirrored(backend, noise)})
        difference = expectation.value(backend, parameters, first, noise) - expectation.value(
            backend, parameters, second, noise
        )
        weight = self.weight(backend, family.logits(backend, parameters), noise["base"], first - second)
        gradients = family.from_logits(backend, spread(difference, weight) * weight)
        return {name: mean_over_samples(xp, gradient) for name, gradient in gradients.items()}

    @abstractmethod
    def weight(self, backend: Backend, logits: Array, uniform: Array, difference: Array) -> Array:
        """Return the factor of f(z) − f(z′) for every logit [..., D], given z − z′ as `difference`."""


@dataclass(frozen=True)
class Arm(AntitheticPairs):
    """The ARM estimator, which weights the difference of a pair with u − ½."""

    name: ClassVar[str] = "arm"
    summary: ClassVar[str] = "antithetic binary pairs, (f(z) − f(z′)) (u − ½): augment, REINFORCE, merge"

    def weight(self, backend: Backend, logits: Array, uniform: Array, difference: Array) -> Array:
        return uniform - 0.5
