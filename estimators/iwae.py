"""The importance-weighted autoencoder's estimator: pathwise through the logarithm of a mean.

Approximates   ∇_λ E[log (1/K) Σ_k w_k],     w_k = p(x, z_k)/q_λ(z_k)
with           Σ_k w̃_k d/dλ log w_k at z_k = t(ε_k, λ),     ε_k ~ s(ε),  w̃_k = w_k / Σ_j w_j
requires       log p differentiable in z; a differentiable sample path t.

The signal-to-noise ratio falls as K^−½ for λ, because ∇_λ L_K itself is of order 1/K, and rises as K^½ for a model's θ.
`iwae-stl` leaves out the score −∇_λ log q_λ(z_k) at fixed z_k. The expectation of that term is 0 only if its weight
does not depend on z_k, so only for K = 1 (sticking the landing); `dreg` is the unbiased form for K > 1.

Sources: Burda, Grosse & Salakhutdinov 2016; Rainforth et al. 2018; for the score left out Roeder, Wu & Duvenaud 2017.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.estimator import Blocks, Requires, spread
from gradmeter.estimators.expectation import Array
from gradmeter.estimators.importance_weighted import Groups, ImportanceWeighted, along_paths


@dataclass(frozen=True)
class Iwae(ImportanceWeighted):
    """The pathwise estimator of the importance-weighted bound."""

    name: ClassVar[str] = "iwae"
    summary: ClassVar[str] = "importance-weighted bound: pathwise through the logarithm of a mean of K weights"
    requires: ClassVar[Requires] = Requires(("pathwise", "score"), ("gradient",))

    def weights(self, groups: Groups) -> Array:
        """Return the weights, within their group, of d/dλ log w, with the sample axes of z."""
        return groups.normalised

    def model_weights(self, groups: Groups) -> Array:
        return self.weights(groups)

    def family_gradient(self, groups: Groups) -> Blocks:
        backend, expectation, z = groups.backend, groups.expectation, groups.z
        family, weights = expectation.family, self.weights(groups)
        slope = expectation.integrand_gradient(backend, z, groups.noise, *groups.logs)
        gradients = family.pathwise(backend, groups.parameters, groups.noise, z, spread(weights, slope) * slope)
        for name, moved in family.entropy_pathwise(backend, groups.parameters, groups.noise, z).items():
            gradients[name] = gradients[name] + spread(weights, gradients[name]) * moved
        return groups.mean(gradients)


@dataclass(frozen=True)
class IwaeStickingTheLanding(ImportanceWeighted):
    """The pathwise estimator of the bound without its score term; biased for K > 1."""

    name: ClassVar[str] = "iwae-stl"
    summary: ClassVar[str] = "iwae without the score term: sticking the landing on a bound; biased for K > 1"
    requires: ClassVar[Requires] = Requires(("pathwise", "score_identity"), ("gradient",))
    biased: ClassVar[str | None] = (
        "the score it leaves out has a weight that depends on its sample, so an expectation that is not 0 for K > 1"
    )

    def family_gradient(self, groups: Groups) -> Blocks:
        return along_paths(groups, groups.normalised)
