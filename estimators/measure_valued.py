"""Measure-valued estimator (weak derivatives).

Approximates   ∂_{λ_i} E_{q_λ}[f(z)]
with           (1/S) Σ_s c_i (f(z_s with z_i := z⁺) − f(z_s with z_i := z⁻)),     ∂q/∂λ_i = c_i (q⁺ − q⁻)
               or, if no constant c_i is known, the mean over common randomness of a random weight c_i and both draws
requires       a family with a weak derivative; nothing of f. Costs two evaluations per coordinate and block.

Both evaluations share the other coordinates. Sources: Pflug 1996; Heidergott et al. 2008; Mohamed et al. 2020, section
6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, mean_over_samples
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class MeasureValued(Estimator):
    """The measure-valued estimator; `coupling` draws the positive and the negative part from common randomness."""

    name: ClassVar[str] = "measure-valued"
    summary: ClassVar[str] = "c (f(z⁺) − f(z⁻)), one coordinate replaced at a time: weak derivatives"
    requires: ClassVar[Requires] = Requires(("weak_derivatives",))

    coupling: bool = option(True, "draw the positive and the negative part from common randomness")

    def also_requires(self, entropy: str) -> Requires:
        parts = () if self.coupling else ("independent_parts",)
        return Requires((*parts, "log_density_replaced") if entropy == "sampled" else parts)

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        weak = expectation.family.weak_noise((num_samples,), dimension, self.coupling)
        specs = expectation.noise_specs()
        if dimension > 1 or expectation.explicit_blocks:  # otherwise no other coordinates are needed
            specs = super().noise_specs(expectation, num_samples, dimension)
        for block_specs in weak.values():
            specs.update(block_specs)
        return specs

    def noise_by_block(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, set[str]]:
        weak = expectation.family.weak_noise((num_samples,), dimension, self.coupling)
        everyone = set(expectation.noise_specs())
        if dimension > 1 or expectation.explicit_blocks:
            everyone |= set(super().noise_specs(expectation, num_samples, dimension))
        return {block: everyone | set(weak.get(block, ())) for block in expectation.blocks}

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return 2 * len(expectation.family.blocks) * dimension * num_samples

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp, family = backend.xp, expectation.family
        weak = family.weak_derivatives(backend, parameters, noise, self.coupling)
        # With D = 1 no noise is drawn for z, because its only coordinate is replaced.
        drawn = all(name in noise for name in family.noise((), 1))
        z = family.sample(backend, parameters, noise) if drawn else next(iter(weak.values()))[1]
        gradients = {}
        for name, (weight, positive, negative) in weak.items():
            plus = expectation.replaced(backend, parameters, z, positive, noise)
            minus = expectation.replaced(backend, parameters, z, negative, noise)
            gradients[name] = mean_over_samples(xp, weight * (plus - minus))
        return gradients
