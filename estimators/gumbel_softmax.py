"""Gumbel-softmax, or Concrete: the gradient of the relaxed expectation in place of the discrete one.

Approximates   ∇_λ E_{q_λ}[f(z)],  z = H(ζ) with ζ smooth in λ and in noise
with           (1/S) Σ_s ∇f(H_T(ζ_s)) · ∂H_T(ζ_s)/∂λ
requires       a relaxation H_T of H and ∇f between the states of z. Biased: it is the gradient of E f(H_T(ζ)).

If f reads λ, the explicit term ∂f_λ/∂λ is averaged over H(ζ), and is unbiased.

Sources: Jang, Gu & Poole 2017; Maddison, Mnih & Teh 2017.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, mean_over_samples
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families.relaxation import Relaxation
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import option


@dataclass(frozen=True)
class SoftPath(Estimator):
    """The base of estimators that multiply ∇f with the derivative of a soft sample's path.

    A sampled entropy contributes its derivative in λ at fixed z too, as automatic differentiation of −log q(z) does.
    """

    requires: ClassVar[Requires] = Requires(("relaxation", "score"), ("gradient",))

    temperature: float = option(0.5, "T, which smooths H: bias falls and variance grows as T falls", above=0.0)

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        made = expectation.family.relaxation().noise((num_samples,), dimension)
        return {**made, **expectation.noise_specs()}

    @abstractmethod
    def where(self, backend: Backend, relaxation: Relaxation, perturbed: Array, soft: Array) -> Array:
        """Return the sample at which f is differentiated."""

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: dict[str, Array], state: Blocks
    ) -> Blocks:
        relaxation = expectation.family.relaxation()
        perturbed = relaxation.perturbed(backend, parameters, noise)
        soft = relaxation.soft(backend, perturbed, self.temperature)
        z = self.where(backend, relaxation, perturbed, soft)
        slope = expectation.gradient(backend, parameters, z, noise)
        along = relaxation.soft_pullback(backend, soft, self.temperature, slope)
        gradients = relaxation.pathwise(backend, parameters, along)
        gradients = less_score(backend, expectation, parameters, z, gradients)
        return {name: mean_over_samples(backend.xp, gradient) for name, gradient in gradients.items()}


def less_score(backend: Backend, expectation: Expectation, parameters: Blocks, z: Array, gradients: Blocks) -> Blocks:
    """Add ∇_λ of −log q_λ(z) at fixed z, if f contains a sampled entropy.

    Parameters
    ----------
    backend
        Array framework.
    expectation
        Expectation that is differentiated.
    parameters
        λ, {parameter block: [*shape]}.
    z
        Samples [R, S, D].
    gradients
        Gradients by parameter block, per sample.
    """
    if expectation.entropy != "sampled":
        return gradients
    score = expectation.family.score(backend, parameters, z)
    return {name: gradient - score[name] for name, gradient in gradients.items()}


@dataclass(frozen=True)
class GumbelSoftmax(SoftPath):
    """The Gumbel-softmax estimator: ∇f at the relaxed sample."""

    name: ClassVar[str] = "gumbel-softmax"
    summary: ClassVar[str] = "∇f at a relaxed sample, along its path; biased"
    biased: ClassVar[str | None] = (
        "f is averaged over relaxed samples, not over states: biased, less so at a lower temperature"
    )

    def where(self, backend: Backend, relaxation: Relaxation, perturbed: Array, soft: Array) -> Array:
        return soft
