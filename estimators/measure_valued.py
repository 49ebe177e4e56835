"""Measure-valued estimator (weak derivatives).

Approximates   ∂_{λ_i} E_{q_λ}[f(z)]
with           (1/S) Σ_s c_i (f(z_s with z_i := z⁺) − f(z_s with z_i := z⁻)),     ∂q/∂λ_i = c_i (q⁺ − q⁻)
requires       a family with a weak derivative; nothing of f. Costs two evaluations per coordinate and block.

Both evaluations share the other coordinates. Sources: Pflug 1996; Heidergott et al. 2008; Mohamed et al. 2020,
section 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from estimators.estimator import Blocks, Estimator, mean_over_samples, sample_shape
from estimators.expectation import Array, Expectation
from estimators.noise import Noise
from estimators.options import option


@dataclass(frozen=True)
class MeasureValued(Estimator):
    """`coupling` draws the positive and the negative part from common randomness."""

    name: ClassVar[str] = "measure-valued"
    summary: ClassVar[str] = "c (f(z⁺) − f(z⁻)), one coordinate replaced at a time: weak derivatives"

    coupling: bool = option(True, "draw the positive and the negative part from common randomness")

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        weak = expectation.family.weak_noise(sample_shape(num_samples), dimension, self.coupling)
        specs = super().noise_specs(expectation, num_samples, dimension)
        if dimension == 1:  # there are no other coordinates to draw
            del specs["base"]
        for block_specs in weak.values():
            specs.update(block_specs)
        return specs

    def noise_by_block(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, set[str]]:
        weak = expectation.family.weak_noise(sample_shape(num_samples), dimension, self.coupling)
        everyone = set(expectation.noise_specs()) | ({"base"} if dimension > 1 else set())
        return {block: everyone | set(specs) for block, specs in weak.items()}

    def evaluations(self, num_samples: int, dimension: int) -> int:
        return 2 * 2 * dimension * num_samples

    def estimate_integrand(
        self, backend: Any, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp, family = backend.xp, expectation.family
        weak = family.weak_derivatives(xp, parameters, noise, self.coupling)
        # With D = 1 there is no base noise: whatever z is, it is replaced.
        z = family.sample(xp, parameters, noise["base"]) if "base" in noise else weak["loc"][1]
        gradients = {}
        for name, (constant, positive, negative) in weak.items():
            plus = expectation.replaced(backend, parameters, z, positive, noise)
            minus = expectation.replaced(backend, parameters, z, negative, noise)
            gradients[name] = constant * mean_over_samples(xp, plus - minus)
        return gradients
