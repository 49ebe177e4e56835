"""Rejection-sampling reparameterisation: pathwise through the accepted proposal.

Approximates   ∇_λ E_{q_λ}[f_λ(z)]
with           (1/S) Σ_s ∇_z f_λ(z_s) · ∂h/∂λ + f_λ(z_s) ∇_λ log π_λ(ε_s),     z = h(ε, λ),  ε ~ π_λ
requires       f differentiable in z; a family sampled by rejection, whose accepted proposals ε have density π_λ.
               Costs f and ∇f at every sample.

π_λ(ε) = q_λ(h(ε, λ)) |∂h/∂ε|. The closer the acceptance probability is to 1, the closer π_λ is to the proposal's
density, which does not depend on λ, and the smaller is the second term. For an ELBO f = log p − log q_λ; the derivative
of log q_λ with respect to λ at fixed z has expectation zero and is left out.

Source: Naesseth et al. 2017, with their shape augmentation (one step) for concentrations below 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, mean_over_samples, spread
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families.capabilities import Capable


@dataclass(frozen=True)
class RejectionReparameterisation(Estimator):
    """The estimator from the path of accepted proposals and the score of their density."""

    name: ClassVar[str] = "rejection-reparameterisation"
    summary: ClassVar[str] = "∇f · ∂h/∂λ + f ∇ log π at the accepted proposal: pathwise through a rejection sampler"
    requires: ClassVar[Requires] = Requires(("accepted", "score_identity"), ("gradient",))

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return 2 * num_samples

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp, family = backend.xp, expectation.family
        z = family.sample(backend, parameters, noise)
        logs = family.logs(backend, parameters, noise)
        value = expectation.value(backend, parameters, z, noise, *logs)
        slope = expectation.gradient(backend, parameters, z, noise, *logs)
        moved, score = self.path_and_score(backend, family, parameters, noise, z, *logs)
        return {
            name: mean_over_samples(xp, slope * moved[name] + spread(value, score[name]) * score[name])
            for name in moved
        }

    def path_and_score(
        self, backend: Backend, family: Capable, parameters: Blocks, noise: dict[str, Array], z: Array, *logs: Any
    ) -> tuple[Blocks, Blocks]:
        """Return ∂z/∂λ at fixed ε, and ∇_λ of the log-density of ε, each by block, per sample."""
        return family.accepted(backend, parameters, noise, z)
