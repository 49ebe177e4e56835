"""Pathwise by optimal transport: each sample of a Normal moves as little as possible as its covariance changes.

Approximates   ∇_λ E_{q_λ}[f_λ(z)],  q_λ = N(μ, Σ)
with           ∂/∂μ: (1/S) Σ_s ∇f(z_s),   ∂/∂Σ: (1/S) Σ_s U ½ (a_i b_j + a_j b_i)/(κ_i + κ_j) Uᵀ,
               Σ = U diag(κ) Uᵀ,  a = Uᵀ ∇f(z_s),  b = Uᵀ (z_s − μ)
requires       f differentiable in z almost everywhere and continuous; a Normal with a full covariance. Its eigenvectors
               cost D³ once an estimate.

As Σ moves by dΣ, z moves by M (z − μ), where M is symmetric and M Σ + Σ M = dΣ: of all velocity fields that carry
N(μ, Σ) to N(μ, Σ + dΣ), it has the least mean square. `pathwise` moves z by dL L⁻¹ (z − μ) instead, which rotates it
besides. For a diagonal Σ in a diagonal family both are the same.

Source: Jankowiak & Obermeyer 2018, section 5.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.quadratics import finish


@dataclass(frozen=True)
class OptimalTransport(Estimator):
    """The pathwise estimator along the velocity field of optimal transport."""

    name: ClassVar[str] = "optimal-transport"
    summary: ClassVar[str] = "pathwise along the field that moves samples of a Normal least; full covariances"
    requires: ClassVar[Requires] = Requires(("bonnet_price", "covariance"), ("gradient",))

    def also_requires(self, entropy: str) -> Requires:
        return Requires(("score",) if entropy == "sampled" else ())

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp, family = backend.xp, expectation.family
        z = family.sample(backend, parameters, noise)
        slope = expectation.integrand_gradient(backend, z, noise)
        values, vectors = xp.linalg.eigh(family.covariance(backend, parameters))
        a, b = xp.matmul(slope, vectors), xp.matmul(z - parameters["loc"], vectors)
        outer = a[..., :, None] * b[..., None, :]
        turned = (outer + xp.matrix_transpose(outer)) / (values[:, None] + values)
        bend = xp.matmul(vectors, xp.matmul(turned, xp.matrix_transpose(vectors)))  # twice ∂/∂Σ, as E ∇²f is
        return finish(backend, expectation, parameters, noise, z, family.bonnet_price(backend, parameters, slope, bend))
