"""Forward gradient: the directional derivative along a random direction, times the direction.

Approximates   ∇_λ E_{q_λ}[f_λ(z)]
with           (1/S) Σ_s (v_s · d/dλ f_λ(t(ε_s, λ))) v_s,     v_s independent of ε_s, E v vᵀ = I
requires       f differentiable in z almost everywhere and continuous; a differentiable sample path t.

A Jacobian-vector product gives v · d/dλ f in one forward pass, without memory for a backward pass. Here it is computed
from the pathwise derivative, so the seconds that are measured are those of `pathwise`, and only the variance is that of
forward mode. For Gaussian v the variance of coordinate j grows by E[g_j² + Σ_i g_i²], g the pathwise estimate; for
random signs, by E Σ_{i≠j} g_i².

Source: Baydin, Pearlmutter, Syme, Wood & Torr 2022, theorem 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, mean_over_samples, spread
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.noise import Kind, Noise
from gradmeter.estimators.options import option
from gradmeter.estimators.pathwise import Pathwise

#: The kind of noise that makes each direction.
DIRECTIONS: dict[str, Kind] = {"normal": "normal", "signs": "rademacher"}
#: Computes the derivative whose directional derivative is taken.
PATHWISE = Pathwise()


@dataclass(frozen=True)
class ForwardGradient(Estimator):
    """The forward-gradient estimator, with a direction for every sample."""

    name: ClassVar[str] = "forward-gradient"
    summary: ClassVar[str] = "derivative along a random direction in λ times the direction, by the sample path"
    requires: ClassVar[Requires] = PATHWISE.requires

    direction: str = option("normal", "the distribution of each number of v", choices=tuple(DIRECTIONS))

    def also_requires(self, entropy: str) -> Requires:
        return PATHWISE.also_requires(entropy)

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        specs, kind = super().noise_specs(expectation, num_samples, dimension), DIRECTIONS[self.direction]
        for name, shape in expectation.family.shapes(dimension).items():
            specs[f"{kind}_{name}"] = Noise(kind, (num_samples, *shape))
        return specs

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        xp, kind = backend.xp, DIRECTIONS[self.direction]
        gradients = PATHWISE.per_sample(backend, expectation, parameters, noise)
        directions = {name: noise[f"{kind}_{name}"] for name in gradients}
        parts = [gradients[name] * along for name, along in directions.items()]
        slope = sum(xp.sum(part, axis=tuple(range(2, part.ndim))) for part in parts)
        return {name: mean_over_samples(xp, spread(cast(Array, slope), v) * v) for name, v in directions.items()}
