"""SPSA: simultaneous perturbation of every number in λ by ±ρ.

Approximates   ∇_λ E_{q_λ}[f_λ(z)]
with           (1/S) Σ_s (f(t(ε_s, λ + ρΔ_s)) − f(t(ε_s, λ − ρΔ_s)))/(2ρ Δ_s),     Δ_s of independent signs
requires       samples from noise at any λ; no derivatives. Costs two evaluations a sample.

Both ends share ε (common random numbers). The bias is ρ² (½ Σ_k ∂_j∂_k² L − ⅓ ∂_j³ L) + O(ρ⁴), which is 0 if L is
quadratic in λ. The λ that f reads is not perturbed, as in `evolution_strategies.py`.

Sources: Spall 1992; Kleinman, Spall & Naiman 1999 (common random numbers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.evolution_strategies import ZeroOrder
from gradmeter.estimators.expectation import Array
from gradmeter.estimators.noise import Kind


@dataclass(frozen=True)
class Spsa(ZeroOrder):
    """The estimator from central differences along random signs."""

    name: ClassVar[str] = "spsa"
    summary: ClassVar[str] = "central differences along random signs in λ; biased O(radius²)"
    biased: ClassVar[str | None] = "central differences of width radius: biased of order radius², 0 for a quadratic L"
    direction: ClassVar[Kind] = "rademacher"

    def dual(self, direction: Array) -> Array:
        """Return 1/Δ, which equals Δ."""
        return direction
