"""RODEO: leave-one-out REINFORCE with control variates made by a discrete Stein operator.

Approximates   ∇_λ E_{q_λ}[f(z)],  z_i ~ Bernoulli(σ(l_i)) independent
with           (1/S) Σ_s (f(z_s) − mean over t ≠ s of (f(z_t) + (A h_t)(z_t))) ∇_λ log q(z_s) + (A h̃_s)(z_s),
               (A h)(z) = Σ_i (E[h(z) | z_j, j ≠ i] − h(z)) the Gibbs operator, for which E A h = 0
               h_s(y) = mean over t ≠ s of H(∇f(z_t) · (y − z_t)),     h̃_s(y) = h_s(y) ∇_λ log q(y) with another H
requires       binary coordinates, each with a logit; ∇f at the states of z; at least two samples. Costs 2 S
               evaluations.

A h_t has mean 0 given the other samples, because h_t does not contain z_t; so the estimate is unbiased for any H. Here
H(b) = a₁ b + a₂ b². The estimate is linear in the four coefficients, which are fitted by
least squares on other samples and then frozen. The source has neural networks instead, trained by gradient descent on
the variance.

Source: Shi, Zhou, Hwang, Titsias & Mackey 2022, equations 9 and 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import (
    Blocks,
    Estimator,
    Requires,
    WarmupContext,
    check_learnt,
    concatenated,
    spread,
)
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.families.relaxation import sigmoid
from gradmeter.estimators.score_function import check_baseline, combine

#: The powers of b that make up H.
POWERS = (1, 2)


@dataclass(frozen=True)
class Rodeo(Estimator):
    """The RODEO estimator with a quadratic H."""

    name: ClassVar[str] = "rodeo"
    summary: ClassVar[str] = "leave-one-out with control variates by a discrete Stein operator, learned then frozen"
    requires: ClassVar[Requires] = Requires(("score", "score_identity", "logits"), ("gradient",))

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        check_baseline("leave-one-out", num_samples)

    def smallest_num_samples(self) -> int:
        return 2

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return 2 * num_samples

    def fit(self, known: WarmupContext) -> Blocks:
        assert known.pilot is not None
        backend, expectation, parameters, noise = known.pilot()
        flat = [concatenated(backend, blocks) for blocks in self._parts(backend, expectation, parameters, noise)]
        plain, *taken = (np.ravel(part - part.mean(axis=0)) for part in flat)
        centred = np.stack(taken)
        gram, cross = centred @ centred.T, centred @ plain
        check_learnt(self.name, gram, cross)
        return {"coefficients": np.linalg.lstsq(gram, cross, rcond=1e-10)[0]}

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        plain, *taken = self._parts(backend, expectation, parameters, noise)
        for i, part in enumerate(taken):
            plain = {name: plain[name] - state["coefficients"][i] * part[name] for name in plain}
        return plain

    def _parts(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array]
    ) -> list[Blocks]:
        """Return the leave-one-out estimate, then the terms of mean 0 for every power of b: by block [R, *shape]."""
        xp, family = backend.xp, expectation.family
        z = family.sample(backend, parameters, noise)
        size = z.shape[1]
        score = family.score(backend, parameters, z)
        value = expectation.value(backend, parameters, z, noise)
        parts = [combine(backend, "leave-one-out", value, score, {})]
        logits = family.logits(backend, parameters)
        moved = 1.0 - 2.0 * z  # what a flip adds to a coordinate
        flip = sigmoid(xp, moved * logits)  # the probability of the other value of a coordinate
        by_logit = z - sigmoid(xp, logits)
        slope = expectation.gradient(backend, parameters, z, noise)
        along = xp.matmul(z, xp.matrix_transpose(slope)) - xp.sum(slope * z, axis=-1)[:, None, :]  # [R, S, S]: s, t
        flipped = along[..., None] + moved[:, :, None, :] * slope[:, None, :, :]  # [R, S, S, D]
        numbers = backend.asarray(range(size), None)
        others = xp.astype(numbers[:, None] != numbers, z.dtype)
        for power in POWERS:
            h = xp.sum(others * along**power, axis=2) / (size - 1.0)  # [R, S]
            there = xp.sum(others[..., None] * flipped**power, axis=2) / (size - 1.0)  # [R, S, D]
            change = flip * (there - h[..., None])
            stein = xp.sum(change, axis=-1)
            elsewhere = (xp.sum(stein, axis=1, keepdims=True) - stein) / (size - 1.0)
            parts.append({name: xp.mean(spread(elsewhere, s) * s, axis=1) for name, s in score.items()})
            own = flip * (there * (by_logit + moved) - h[..., None] * by_logit)
            with_score = by_logit * (stein[..., None] - change) + own
            gradients = family.from_logits(backend, with_score)
            parts.append({name: xp.mean(gradient, axis=1) for name, gradient in gradients.items()})
        return parts
