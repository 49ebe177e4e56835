"""Relaxations of choices: z = H(ζ), where ζ depends smoothly on λ and on noise, and softer forms of H.

With ζ_k = log p_k + g_k and standard Gumbel g, argmax_k ζ_k is k with probability p_k (Gumbel 1954, Maddison et al.
2014). Of two categories only the difference matters, a logistic number: ζ = logit + log u − log(1 − u), z = 1{ζ > 0}.
At temperature T, H is softened to softmax(ζ/T) and σ(ζ/T), which tend to H as T falls (Maddison et al. 2017,
Jang et al. 2017). `given` draws ζ conditional on z, again a smooth function of λ (Tucker et al. 2017, appendix C).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

from gradmeter.estimators.noise import Noise

Array = Any
Blocks = dict[str, Array]

#: Uniform noise may be 0, whose logarithm is not a number to go on with.
TINY = 1e-30


class HasLogits(Protocol):
    """A family of binary coordinates, each from one uniform number."""

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]: ...
    def logits(self, backend: Any, parameters: Blocks) -> Array: ...
    def from_logits(self, backend: Any, cotangent: Array) -> Blocks: ...


class Relaxation(ABC):
    """Shapes: ζ, z and their softer forms [..., D]."""

    @abstractmethod
    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        """What ζ is made from."""

    @abstractmethod
    def given_noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        """What ζ given z is made from, under other names."""

    @abstractmethod
    def perturbed(self, backend: Any, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """ζ."""

    @abstractmethod
    def given(self, backend: Any, parameters: Blocks, noise: dict[str, Array], z: Array) -> tuple[Array, Array]:
        """ζ given H(ζ) = z, and what its cotangent is multiplied with before `pathwise`."""

    @abstractmethod
    def pathwise(self, backend: Any, parameters: Blocks, cotangent: Array) -> Blocks:
        """cotangent · ∂ζ/∂λ, by block, per sample."""

    @abstractmethod
    def hard(self, backend: Any, perturbed: Array) -> Array:
        """H(ζ)."""

    @abstractmethod
    def soft(self, backend: Any, perturbed: Array, temperature: Any) -> Array:
        """H at a temperature."""

    @abstractmethod
    def soft_pullback(self, backend: Any, soft: Array, temperature: Any, cotangent: Array) -> Array:
        """cotangent · ∂soft/∂ζ."""


@dataclass(frozen=True)
class Binary(Relaxation):
    """Of a family with `logits`: one logistic number a coordinate, from the uniform number that samples it."""

    family: HasLogits

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return self.family.noise(sample_shape, dimension)

    def given_noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"given": Noise("uniform", (*sample_shape, dimension))}

    def perturbed(self, backend: Any, parameters: Blocks, noise: dict[str, Array]) -> Array:
        u = noise["base"]
        return self.family.logits(backend, parameters) + _log(backend.xp, u) - backend.xp.log1p(-u)

    def given(self, backend: Any, parameters: Blocks, noise: dict[str, Array], z: Array) -> tuple[Array, Array]:
        """ζ ≥ 0 where z = 1: u is uniform above 1 − p, say at a fraction v. Where z = 0 it is the mirror image."""
        xp, v = backend.xp, noise["given"]
        up = z > 0.5
        logit = self.family.logits(backend, parameters) + xp.zeros_like(v)
        rest = 1.0 - v
        near, far = xp.where(up, v, rest), xp.where(up, rest, v)
        toward = xp.where(up, logit, -logit) + _log(xp, near)
        size = xp.logaddexp(xp.zeros_like(toward), toward) - _log(xp, far)
        return xp.where(up, size, -size), sigmoid(xp, toward)

    def pathwise(self, backend: Any, parameters: Blocks, cotangent: Array) -> Blocks:
        return self.family.from_logits(backend, cotangent)

    def hard(self, backend: Any, perturbed: Array) -> Array:
        return backend.xp.astype(perturbed > 0.0, perturbed.dtype)

    def soft(self, backend: Any, perturbed: Array, temperature: Any) -> Array:
        return sigmoid(backend.xp, perturbed / temperature)

    def soft_pullback(self, backend: Any, soft: Array, temperature: Any, cotangent: Array) -> Array:
        return cotangent * soft * (1.0 - soft) / temperature


def sigmoid(xp: Any, x: Array) -> Array:
    """1/(1 + exp(−x)), without overflow."""
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0.0, xp.ones_like(x), small) / (1.0 + small)


def logit(probability: float) -> float:
    """log p/(1 − p)."""
    return math.log(probability) - math.log1p(-probability)


def _log(xp: Any, u: Array) -> Array:
    return xp.log(xp.where(u > TINY, u, xp.full_like(u, TINY)))
