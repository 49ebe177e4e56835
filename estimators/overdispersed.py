"""Overdispersed score function: each coordinate is sampled from an overdispersed proposal of that coordinate alone.

Approximates   ∂_{λ_i} E_{q_λ}[f(z)],  q_λ(z) = Π_i q(z_i; λ_i)
with           (1/S) Σ_s w_i f(z_s with z_i := z_i′) ∂_{λ_i} log q(z_i′; λ_i),     z_i′ ~ r_i, w_i = q(z_i′)/r_i(z_i′)
requires       an exponential family with independent coordinates; nothing of f. Costs D evaluations a sample.

r is the member of the same exponential family whose natural parameters are divided by the dispersion τ ≥ 1. The product
of score and f is large in the tails of q, so the proposal samples the tails more often. τ is fixed here (the source
adapts it, and mixes proposals). τ < 1 is refused: the weights are then unbounded, and their variance is infinite for τ
≤ ½.

Source: Ruiz, Titsias & Blei 2016, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators import backends
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, mean_over_samples
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.importance_sampling import refuse_narrow
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class Overdispersed(Estimator):
    """The overdispersed score-function estimator; `dispersion` = 1 redraws each coordinate from q."""

    name: ClassVar[str] = "overdispersed"
    summary: ClassVar[str] = "score function, one coordinate at a time from an overdispersed proposal"
    requires: ClassVar[Requires] = Requires(("score", "score_identity", "dispersed", "log_densities"))

    dispersion: float = option(2.0, "τ: for a Normal, the proposal's variance over that of q; at least 1", above=0.0)

    def __post_init__(self) -> None:
        refuse_narrow(self.name, "dispersion", self.dispersion)

    def also_requires(self, entropy: str) -> Requires:
        return Requires(("log_density_replaced",) if entropy == "sampled" else ())

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        specs = expectation.noise_specs()
        if dimension > 1 or expectation.explicit_blocks:  # otherwise no other coordinates are needed
            specs = super().noise_specs(expectation, num_samples, dimension)
        drawn = expectation.family.noise((num_samples,), dimension)
        return {**specs, **{f"proposal_{name}": spec for name, spec in drawn.items()}}

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        family = expectation.family
        found = family.discontinuities(family.dispersed(backends.get("numpy"), parameters, self.dispersion), dimension)
        proposal = {f"proposal_{name}": at for name, at in found.items()}
        return {**super().discontinuities(expectation, parameters, num_samples, dimension), **proposal}

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return dimension * num_samples

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp, family = backend.xp, expectation.family
        names = tuple(family.noise((), 1))
        proposal = family.dispersed(backend, parameters, self.dispersion)
        moved = family.sample(backend, proposal, {name: noise[f"proposal_{name}"] for name in names})
        # With D = 1 no noise is drawn for z, because its only coordinate is replaced.
        z = family.sample(backend, parameters, noise) if all(name in noise for name in names) else moved
        ratio = family.log_densities(backend, parameters, moved) - family.log_densities(backend, proposal, moved)
        value = xp.exp(ratio) * expectation.replaced(backend, parameters, z, moved, noise)
        score = family.score(backend, parameters, moved)
        return {name: mean_over_samples(xp, value * s) for name, s in score.items()}
