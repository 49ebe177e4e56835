"""Bonnet's and Price's identities: the gradient of the scale through the Hessian.

Approximates   ∇_λ E_{q_λ}[f(z)],     q_λ a Normal
with           ∂loc: (1/S) Σ_s ∇f(z_s);     ∂Σ: (1/2S) Σ_s ∇²f(z_s), chained to λ (mean field: ∂log σ = σ² ∂²f/∂z²)
requires       f twice differentiable with a continuous gradient: samples of ∇²f miss the contribution of a jump of
               ∇f. Costs D Hessian-vector products a sample, each counted as two gradients.

∇²f is not multiplied by the noise, so for a quadratic f the estimate of ∂Σ has no variance.

Sources: Bonnet 1964; Price 1958; Opper & Archambeau 2009; Rezende et al. 2014.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.quadratics import check_hessian, finish, hessian


@dataclass(frozen=True)
class Price(Estimator):
    """The estimator from Bonnet's and Price's identities.

    An ELBO's sampled entropy enters as in `pathwise`, by its gradient at fixed noise, which is exact for a Normal.
    """

    name: ClassVar[str] = "price"
    summary: ClassVar[str] = "∇f for loc, ∇²f for the scale: Bonnet's and Price's identities"
    requires: ClassVar[Requires] = Requires(("bonnet_price",), ("gradient", "hessian_product", "curvature"))

    def also_requires(self, entropy: str) -> Requires:
        return Requires(("score",) if entropy == "sampled" else ())

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        check_hessian(self.name, dimension)

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return num_samples * (1 + 2 * dimension)

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        family = expectation.family
        z = family.sample(backend, parameters, noise)
        slope = expectation.integrand_gradient(backend, z, noise)
        bend = hessian(backend, expectation, z, noise)
        gradients = family.bonnet_price(backend, parameters, slope, bend)
        return finish(backend, expectation, parameters, noise, z, gradients)
