"""Partial summation: the most probable states are summed, the rest is sampled.

Approximates   ∇_λ E_{q_λ}[f(z)]
with           Σ_{z ∈ C} q(z) (f(z) − b) s(z) + (1 − q(C)) (1/S) Σ_i (f(z_i) − b) s(z_i),     s = ∇_λ log q_λ,
               C the `states` most probable states, z_i ~ q conditioned on being outside C
requires       finitely many states; nothing of f. Costs |C| + S evaluations.

This is the score function with the indicator of C summed out (Rao-Blackwell): the probability of C is used instead of
drawing whether z is in C.

Source: Liu, Regier, Tripuraneni, Jordan & McAuliffe 2019, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators import backends
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.enumeration import by_block, has_batch_axes, no_sample, weighted_scores, zero_sample
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, dtype_of, mean_over_samples, spread
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.families.capabilities import Capable, require
from gradmeter.estimators.noise import DrawnNoise, Noise
from gradmeter.estimators.options import option

#: The largest number of states that are ranked.
MOST = 2**12


@dataclass(frozen=True)
class PartialSummation(Estimator):
    """The partial-summation estimator.

    `baseline=summed` uses as b the q-weighted mean of f over C, which is not random; so E s = 0 keeps the estimate
    unbiased.
    """

    name: ClassVar[str] = "partial-summation"
    summary: ClassVar[str] = "score function with the likeliest states summed and the rest sampled"
    requires: ClassVar[Requires] = Requires(("score", "states"))

    states: int = option(1, "how many of the likeliest states are summed", minimum=1, maximum=MOST)
    baseline: str = option("none", "what is subtracted from f", choices=("none", "summed"))

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        states = require(family, "states").states(dimension)
        states.check(self.name, MOST)
        if self.states >= states.number:
            raise NotApplicable(
                f"{self.name}[states={self.states}] leaves nothing to sample of {states.number} states; use enumeration"
            )

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        rest = {"rest": Noise("uniform", (num_samples,))}
        return {**no_sample(dimension), **rest, **expectation.noise_specs()}

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        _, log_density = self._ranked(backends.get("numpy"), expectation.family, parameters, dimension, "float64")
        passed = np.cumsum(np.exp(log_density[self.states :]))
        return {"rest": passed[:-1] / passed[-1]}

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return self.states + num_samples

    def _ranked(
        self, backend: Backend, family: Capable, parameters: Blocks, dimension: int, dtype: str
    ) -> tuple[Array, Array]:
        """Return the states [N, D] and their log q [N], the most probable first."""
        xp = backend.xp
        if has_batch_axes(family, parameters, dimension):
            raise NotApplicable(f"{self.name} ranks the states by one λ; here every datum has its own")
        z = family.states(dimension).listed(backend, dtype)
        log_density = family.log_density(backend, parameters, z)
        # Rounded, so that equally probable states keep the same order on every backend.
        order = xp.argsort(xp.round(log_density * 2.0**10), descending=True, stable=True)
        return xp.take(z, order, axis=0), xp.take(log_density, order, axis=0)

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> Blocks:
        return self.estimate_and_samples(backend, expectation, parameters, noise, state)[0]

    def estimate_and_samples(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> tuple[Blocks, Array, Array]:
        """Return the estimate with all states and their weights.

        The summed states have their probabilities as weights; the sampled states share the remaining probability.
        """
        xp, family = backend.xp, expectation.family
        replicate = zero_sample(xp, noise)  # [R, 1, D]
        z, log_density = self._ranked(backend, family, parameters, replicate.shape[-1], dtype_of(replicate))
        summed, rest = z[: self.states, :], z[self.states :, :]
        passed = xp.cumulative_sum(xp.exp(log_density[self.states :]))
        place = xp.sum(xp.astype(noise["rest"][..., None] * passed[-1] >= passed[:-1], passed.dtype), axis=-1)
        place = xp.astype(place, xp.int64)  # [R, S]
        drawn = xp.reshape(xp.take(rest, xp.reshape(place, (-1,)), axis=0), (*place.shape, -1))
        f = expectation.value(backend, parameters, summed + replicate, noise)  # [R, |C|]
        g = expectation.value(backend, parameters, drawn, noise)  # [R, S]
        if self.baseline == "summed":
            weight = xp.exp(log_density[: self.states])
            b = xp.sum(f * weight, axis=-1, keepdims=True) / xp.sum(weight)
            f, g = f - b, g - b
        total = xp.matmul(f, weighted_scores(backend, family, parameters, summed))
        gradients = by_block(xp, family.shapes(replicate.shape[-1]), total)
        score = family.score(backend, parameters, drawn)
        for name, s in score.items():
            gradients[name] = gradients[name] + passed[-1] * mean_over_samples(xp, spread(g, s) * s)
        weight = xp.exp(log_density[: self.states]) + replicate[..., 0]
        share = xp.zeros_like(g) + passed[-1] / g.shape[-1]
        samples = xp.concat([summed + replicate, drawn], axis=1)
        return gradients, samples, xp.concat([weight, share], axis=1)
