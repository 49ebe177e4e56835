"""Generalised reparameterisation: pathwise through standardised statistics, whose density still depends on λ.

Approximates   ∇_λ E_{q_λ}[f_λ(z)]
with           (1/S) Σ_s ∇_z f_λ(z_s) · ∂t/∂λ + f_λ(z_s) ∇_λ log π_λ(ε_s),     z = t(ε, λ),  ε ~ π_λ
requires       f differentiable in z; a family with a standardised form: here ε = (log g − ψ(α))/√ψ′(α) of its gamma
               numbers g, of mean 0 and variance 1. Costs f and ∇f at every sample.

π_λ is that of the standardised number, π_λ(ε) = q_λ(t(ε, λ)) |∂t/∂ε|: since its first two moments do not depend on λ,
the second term is small. Unlike `rejection-reparameterisation` it does not ask how z was sampled.

Source: Ruiz, Titsias & Blei 2016 (The generalized reparameterization gradient), equations 8 and 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Requires
from gradmeter.estimators.expectation import Array
from gradmeter.estimators.families.capabilities import Capable
from gradmeter.estimators.rejection_reparameterisation import RejectionReparameterisation


@dataclass(frozen=True)
class GeneralisedReparameterisation(RejectionReparameterisation):
    """The estimator from the path of standardised numbers and the score of their density."""

    name: ClassVar[str] = "generalised-reparameterisation"
    summary: ClassVar[str] = "∇f · ∂t/∂λ + f ∇ log π of standardised gamma numbers: G-REP"
    requires: ClassVar[Requires] = Requires(("standardised", "score_identity"), ("gradient",))

    def path_and_score(
        self, backend: Backend, family: Capable, parameters: Blocks, noise: dict[str, Array], z: Array, *logs: Any
    ) -> tuple[Blocks, Blocks]:
        return family.standardised(backend, parameters, z, *logs)
