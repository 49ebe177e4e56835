"""Straight-through Gumbel-softmax: hard samples in the forward pass, the derivative of soft ones in the backward pass.

Approximates   ∇_λ E_{q_λ}[f(z)],  z = H(ζ) with ζ smooth in λ and in noise
with           (1/S) Σ_s ∇f(z_s) · ∂H_T(ζ_s)/∂λ
requires       a relaxation H_T of H and ∇f at the states of z. Biased.

Source: Jang, Gu & Poole 2017, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.expectation import Array
from gradmeter.estimators.families.relaxation import Relaxation
from gradmeter.estimators.gumbel_softmax import SoftPath


@dataclass(frozen=True)
class StraightThroughGumbel(SoftPath):
    """The straight-through Gumbel-softmax estimator: ∇f at the hard sample."""

    name: ClassVar[str] = "straight-through-gumbel"
    summary: ClassVar[str] = "∇f at a hard sample, along the path of a soft one; biased"
    biased: ClassVar[str | None] = "a jump is replaced with a slope: biased, at any temperature"

    def where(self, backend: Backend, relaxation: Relaxation, perturbed: Array, soft: Array) -> Array:
        return relaxation.hard(backend, perturbed)
