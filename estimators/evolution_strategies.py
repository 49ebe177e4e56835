"""Evolution strategies: the gradient of L smoothed by a Gaussian, from values of f only.

Approximates   ∇_λ E_ξ[L(λ + ρξ)],  ξ ~ N(0, I),  L(λ) = E_{q_λ}[f_λ(z)]
with           (1/S) Σ_s ξ_s (f(t(ε_s, λ + ρξ_s)) − f(t(ε_s, λ − ρξ_s)))/(2ρ)
requires       samples from noise at any λ; no derivatives. Costs two evaluations a sample.

Both values of f share ε (common random numbers). With `shared=true` all S samples of an estimate share ξ and the
minibatch too, so that the estimate is a finite difference of the mean of f. This is MeZO, which also regenerates ξ from
its seed instead of storing it. As an estimate of ∇L it has the bias ½ρ² ∇ΔL + O(ρ⁴), which is 0 if L is quadratic in λ.
The variance does not grow as ρ → 0 if f(t(ε, λ)) is smooth in λ.

If f reads λ, the λ in f is not perturbed: L above is a function of q's λ only, and `estimate` adds the explicit term
∂f_λ/∂λ without a finite difference, so without a bias.

Sources: Nesterov & Spokoiny 2017 (Gaussian smoothing); Salimans et al. 2017 (antithetic pairs); Malladi et al. 2023
(MeZO, algorithm 1).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, mean_over_samples, spread
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.noise import Kind, Noise
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class ZeroOrder(Estimator):
    """Central differences of f along random directions in λ, at common random numbers."""

    #: λ differs from sample to sample, so the density of every coordinate must be computed separately.
    requires: ClassVar[Requires] = Requires(("log_densities",))
    #: The distribution of every number of a direction.
    direction: ClassVar[Kind]

    radius: float = option(0.1, "ρ, how far λ is moved", above=0.0)
    shared: bool = option(False, "one direction for all S samples of an estimate, instead of one for each")

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        specs = super().noise_specs(expectation, num_samples, dimension)
        shapes = expectation.family.shapes(dimension)
        for name, shape in shapes.items():
            count = 1 if self.shared else num_samples
            specs[f"{self.direction}_{name}"] = Noise(self.direction, (count, *shape))
        return specs

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        found = super().discontinuities(expectation, parameters, num_samples, dimension)
        moved = {name: values + self.radius for name, values in parameters.items()}
        there = super().discontinuities(expectation, moved, num_samples, dimension)
        if any(not np.array_equal(found[name], there[name]) for name in found):
            raise NotApplicable(f"{self.name} jumps where λ has moved to, which no single number of noise tells")
        return found

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return 2 * num_samples

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        directions = {name: noise[f"{self.direction}_{name}"] for name in parameters}
        ends = []
        for step in (self.radius, -self.radius):
            moved = {name: parameters[name] + step * direction for name, direction in directions.items()}
            z = expectation.family.sample(backend, moved, noise)
            ends.append(expectation.value(backend, moved, z, noise))
        slope = (ends[0] - ends[1]) / (2.0 * self.radius)
        return {
            name: mean_over_samples(backend.xp, spread(slope, along) * self.dual(along))
            for name, along in directions.items()
        }

    @abstractmethod
    def dual(self, direction: Array) -> Array:
        """Return the factor that turns the slope along a direction into a gradient."""


@dataclass(frozen=True)
class EvolutionStrategies(ZeroOrder):
    """The estimator from central differences along Gaussian directions."""

    name: ClassVar[str] = "evolution-strategies"
    summary: ClassVar[str] = "Gaussian smoothing of L, central differences along random directions; biased O(radius²)"
    biased: ClassVar[str | None] = "differentiates L smoothed over radius: biased of order radius², 0 for a quadratic L"
    direction: ClassVar[Kind] = "normal"

    def dual(self, direction: Array) -> Array:
        return direction
