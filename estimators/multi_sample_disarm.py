"""DisARM for importance-weighted bounds: antithetic pairs in place of each of the K binary samples.

Approximates   ∇_λ E[log (1/K) Σ_k w_k],     w_k = p(x, z_k)/q_λ(z_k),  z_ki ~ Bernoulli(σ(l_i)) independent
with           Σ_k (½ D_k ½ (z_k − z′_k) σ(|l|) ∂l/∂λ − ½ w̃_k ∇ log q(z_k) − ½ w̃′_k ∇ log q(z′_k)),
               z_k = z(u_k) and z′_k = z(1 − u_k),
               D_k = L(w_k, w_−k) − L(w′_k, w_−k) + L(w_k, w′_−k) − L(w′_k, w′_−k),  L = log (1/K) Σ
requires       binary coordinates, each with a logit; only values of p. Costs 2 K evaluations a group.

Given the other samples, L is a function of z_k alone, to which DisARM applies; both sets of others are used. The last
two terms are the derivative of the bound at fixed samples. For K = 1 it is `disarm` plus a term of expectation 0.

Source: Dong, Mnih & Tucker 2020, section 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators import draws
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Requires, spread
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families.relaxation import sigmoid
from gradmeter.estimators.importance_weighted import Groups, ImportanceWeighted
from gradmeter.estimators.vimco import others_sum


@dataclass(frozen=True)
class MultiSampleDisArm(ImportanceWeighted):
    """The DisARM estimator of the importance-weighted bound."""

    name: ClassVar[str] = "multi-sample-disarm"
    summary: ClassVar[str] = "importance-weighted bound of binary samples, by an antithetic pair for each of the K"
    requires: ClassVar[Requires] = Requires(("logits", "mirrored", "score"))

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return 2 * num_samples * expectation.importance_samples

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        found = super().discontinuities(expectation, parameters, num_samples, dimension)
        return draws.mirrored_jumps(expectation.family, found)

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        return self.estimate_and_samples(backend, expectation, parameters, noise, state)[0]

    def estimate_and_samples(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> tuple[Blocks, Array, Array]:
        xp, family = backend.xp, expectation.family
        mirrored = {**noise, **family.mirrored(backend, noise)}
        pair = [Groups(backend, expectation, parameters, each) for each in (noise, mirrored)]
        first, second = pair
        top = xp.maximum(first.relative()[1], second.relative()[1])
        one, other = (xp.exp(groups.log_weights - top) for groups in pair)
        signal = sum(xp.log(one + rest) - xp.log(other + rest) for rest in (others_sum(xp, one), others_sum(xp, other)))
        logits = family.logits(backend, parameters)
        weight = 0.5 * (first.z - second.z) * sigmoid(xp, xp.abs(logits))
        found = family.from_logits(backend, 0.5 * spread(first.flat(signal), weight) * weight)
        for groups in pair:
            weights = 0.5 * groups.normalised
            for name, s in family.score(backend, parameters, groups.z).items():
                found[name] = found[name] - spread(weights, s) * s
        shares = [0.5 * groups.share * groups.normalised for groups in pair]
        return first.mean(found), xp.concat([first.z, second.z], axis=1), xp.concat(shares, axis=1)

    def family_gradient(self, groups: Groups) -> Blocks:
        raise AssertionError("estimate_and_samples draws two sets of groups")
