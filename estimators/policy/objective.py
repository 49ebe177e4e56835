"""The objective of a sequence policy on one prompt, and what its estimators read of it.

    J(θ) = share · (E_{z ~ π}[Σ_t r_t(z)] − β KL(π ‖ π_ref)),     KL = E_π[Σ_t log π(a_t | ·) − log π_ref(a_t | ·)]

As an integrand, f_λ(z) = share · (Σ_t r_t − β log π(z)/π_ref(z)) reads the logits λ of π; E ∂f/∂λ = −β E ∇ log π = 0.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from gradmeter.estimators.expectation import Array, Integrand
from gradmeter.estimators.families.logs import log_softmax
from gradmeter.estimators.families.sequence_policy import Steps, steps_of

Arrays = dict[str, Array]


class PolicyObjective(Integrand):
    """f of one prompt. `data` holds β as `beta`, `share`, and the `logits` [R, 1, N, V] of π.

    Tables of log-probabilities are [R, 1, N, V]: of token V after prefix N, for the prompt in `noise["rows"]`.
    """

    reads = ("logits",)
    explicit_term_is_zero = True

    @abstractmethod
    def rewards(self, xp: Any, data: Arrays, z: Array, steps: Steps, noise: Arrays) -> Array:
        """Return the reward for every token [..., T], 0 after the end."""

    @abstractmethod
    def reference(self, xp: Any, data: Arrays, noise: Arrays) -> Array:
        """Return log π_ref."""

    @abstractmethod
    def behaviour(self, xp: Any, data: Arrays) -> Array:
        """Return log μ of the policy that draws the samples; finite, also for tokens that μ never draws."""

    def value(self, xp: Any, data: Arrays, z: Array, noise: Arrays) -> Array:
        steps = steps_of(xp, z, data["logits"])
        log_ratio = steps.read(xp, log_softmax(xp, data["logits"]) - self.reference(xp, data, noise))
        rewards = self.rewards(xp, data, z, steps, noise)
        return data["share"] * xp.sum(rewards - data["beta"] * log_ratio, axis=-1)
