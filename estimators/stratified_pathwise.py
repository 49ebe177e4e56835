"""Stratified pathwise estimator of a mixture: every component is sampled, and the component index is summed out.

Approximates   ∇_λ E_{q_λ}[f_λ(z)],     q_λ = Σ_k π_k N(loc_k, σ_k²)
with           (1/S) Σ_s Σ_k π_k d/dλ f_λ(loc_k + σ_k ε_s),  and for logit k  π_k (f(z_sk) − Σ_m π_m f(z_sm))
requires       f differentiable in z; a mixture. Costs f and ∇f at K points a sample; all components share ε.

For an ELBO f = log p − log q_λ, with the density of the whole mixture; the derivative of log q_λ with respect to λ at
fixed z has expectation zero and is left out.

Sources: Roeder et al. 2017 (the path derivative only, for mixtures too); Morningstar et al. 2021 (stratified by
component).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, mean_over_samples
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.noise import Noise


@dataclass(frozen=True)
class StratifiedPathwise(Estimator):
    """The pathwise estimator of a mixture with the component index summed out."""

    name: ClassVar[str] = "stratified-pathwise"
    summary: ClassVar[str] = "d/dλ f through every component of a mixture, weighted: the component is summed out"
    requires: ClassVar[Requires] = Requires(("stratified", "score_identity"), ("gradient",))

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        specs = super().noise_specs(expectation, num_samples, dimension)
        if expectation.explicit_blocks:
            return specs
        return {name: spec for name, spec in specs.items() if name != "component"}

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return 2 * num_samples * expectation.family.shapes(dimension)["logits"][0]

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp = backend.xp
        weights, each = expectation.family.stratified(backend, parameters, noise)
        values = xp.stack([expectation.value(backend, parameters, z, noise) for z in each], axis=-1)
        slopes = [expectation.gradient(backend, parameters, z, noise) for z in each]
        loc = weights[:, None] * xp.stack(slopes, axis=-2)
        away = xp.exp(parameters["log_scale"]) * noise["base"][..., None, :]
        logits = weights * (values - xp.sum(weights * values, axis=-1, keepdims=True))
        gradients = {"loc": loc, "log_scale": loc * away, "logits": logits}
        return {name: mean_over_samples(xp, gradient) for name, gradient in gradients.items()}
