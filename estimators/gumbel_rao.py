"""Gumbel-Rao: straight-through Gumbel-softmax, averaged over the Gumbel noise given the sample.

Approximates   ∇_λ E_{q_λ}[f(z)],  z = H(ζ) with ζ smooth in λ and in noise
with           (1/S) Σ_s ∇f(z_s) · (1/K) Σ_k ∂H_T(ζ_sk)/∂λ,     ζ_sk drawn given H(ζ_sk) = z_s
requires       a relaxation H_T of H and ∇f at the states of z. Biased.

As K → ∞ the mean over k tends to the conditional expectation given z of the derivative that `straight-through-gumbel`
uses. So its bias is that of `straight-through-gumbel` for every K, and its variance is no greater. f is evaluated
once a sample, whatever K is.

Source: Paulus, Maddison & Krause 2021, equation 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families.capabilities import Capable
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import option
from gradmeter.estimators.straight_through import HardSlope


@dataclass(frozen=True)
class GumbelRao(HardSlope):
    """The Gumbel-Rao estimator, with K = `conditional_draws`."""

    name: ClassVar[str] = "gumbel-rao"
    summary: ClassVar[str] = "straight-through-gumbel, averaged over noise drawn given the sample; biased"
    biased: ClassVar[str | None] = "a jump is replaced with a slope: biased as straight-through-gumbel, at any K"

    temperature: float = option(0.5, "T, which smooths H", above=0.0)
    conditional_draws: int = option(2, "K, draws of the noise given each sample", minimum=1, maximum=10_000)

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        draws = expectation.family.relaxation().given_noise((num_samples * self.conditional_draws,), dimension)
        return {**super().noise_specs(expectation, num_samples, dimension), **draws}

    def through(
        self, backend: Backend, family: Capable, parameters: Blocks, noise: dict[str, Array], z: Array, slope: Array
    ) -> Blocks:
        xp, relaxation = backend.xp, family.relaxation()
        replicates, samples, dimension = z.shape
        grouped = (replicates, samples, self.conditional_draws, dimension)
        flat = (replicates, samples * self.conditional_draws, dimension)
        repeated = xp.reshape(xp.broadcast_to(z[:, :, None, :], grouped), flat)
        given, _ = relaxation.given(backend, parameters, noise, repeated)
        soft = xp.reshape(relaxation.soft(backend, given, self.temperature), grouped)
        along = relaxation.soft_pullback(backend, soft, self.temperature, slope[:, :, None, :])
        return relaxation.pathwise(backend, parameters, xp.mean(along, axis=2))
