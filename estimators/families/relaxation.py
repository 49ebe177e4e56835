"""Relaxations of choices: z = H(ζ), where ζ depends smoothly on λ and on noise, and softened forms of H.

With ζ_k = log p_k + g_k and standard Gumbel g, argmax_k ζ_k is k with probability p_k (Gumbel 1954, Maddison et al.
2014). For two categories only the difference matters, a logistic variable: ζ = logit + log u − log(1 − u), z = 1{ζ >
0}. At temperature T, H is softened to softmax(ζ/T) or σ(ζ/T), which tend to H as T falls (Maddison et al. 2017, Jang et
al. 2017). `given` draws ζ conditional on z, again as a smooth function of λ (Tucker et al. 2017, appendix C).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.noise import Noise

Array = Any
Blocks = dict[str, Array]

#: The lower bound of uniform noise in logarithms: uniform noise may be 0.
TINY = 1e-30


class Relaxation(ABC):
    """The relaxation of a discrete family: ζ, z = H(ζ) and the softened forms of z, all [..., D]."""

    @abstractmethod
    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        """Return the noise that ζ is made from.

        Parameters
        ----------
        sample_shape
            Leading axes of the samples for one estimate, such as (S,).
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        dict
            {name: Noise}.
        """

    @abstractmethod
    def given_noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        """Return the noise that ζ given z is made from, under other names.

        Parameters
        ----------
        sample_shape
            Leading axes of the samples for one estimate, such as (S,).
        dimension
            D, the number of coordinates of z.

        Returns
        -------
        dict
            {name: Noise}.
        """

    @abstractmethod
    def location(self, backend: Backend, parameters: Blocks) -> Array:
        """Return ζ without its noise.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.

        Returns
        -------
        array
            [D], or [1].
        """

    @abstractmethod
    def perturbed(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        """Return ζ, the location plus noise.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        noise
            {name: array}, as `noise` declares.

        Returns
        -------
        array
            [..., D].
        """

    @abstractmethod
    def given(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> tuple[Array, Array]:
        """Return ζ given H(ζ) = z, and the factor of its cotangent before `pathwise`.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        noise
            {name: array}, as `given_noise` declares.
        z
            Samples [..., D].

        Returns
        -------
        zeta
            ζ given z [..., D].
        factor
            [..., D].
        """

    @abstractmethod
    def gapped(self, backend: Backend, parameters: Blocks, z: Array, gap: float) -> Array:
        """Return the location moved by as little as makes the logits of z the largest, by at least `gap`.

        The chosen logit rises to the largest one; the others fall to at most the largest one minus `gap`.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        z
            Samples [..., D].
        gap
            Least distance between the largest logit and the next one, at least 0.

        Returns
        -------
        array
            [..., D].
        """

    @abstractmethod
    def pathwise(self, backend: Backend, parameters: Blocks, cotangent: Array) -> Blocks:
        """Return cotangent · ∂ζ/∂λ.

        Parameters
        ----------
        backend
            Array framework.
        parameters
            λ, {parameter block: [*shape]}.
        cotangent
            [..., D].

        Returns
        -------
        dict
            {parameter block: [..., *shape]}.
        """

    @abstractmethod
    def hard(self, backend: Backend, perturbed: Array) -> Array:
        """Return H(ζ).

        Parameters
        ----------
        backend
            Array framework.
        perturbed
            ζ [..., D].

        Returns
        -------
        array
            z [..., D].
        """

    @abstractmethod
    def soft(self, backend: Backend, perturbed: Array, temperature: Any) -> Array:
        """Return H softened at a temperature.

        Parameters
        ----------
        backend
            Array framework.
        perturbed
            ζ [..., D].
        temperature
            T, a number above 0.

        Returns
        -------
        array
            [..., D].
        """

    @abstractmethod
    def soft_pullback(self, backend: Backend, soft: Array, temperature: Any, cotangent: Array) -> Array:
        """Return cotangent · ∂soft/∂ζ.

        Parameters
        ----------
        backend
            Array framework.
        soft
            What `soft` returned [..., D].
        temperature
            T, a number above 0.
        cotangent
            [..., D].

        Returns
        -------
        array
            [..., D].
        """


@dataclass(frozen=True)
class Binary(Relaxation):
    """The relaxation of a family with `logits`: one logistic variable per coordinate, from its uniform number.

    Attributes
    ----------
    family
        Family with the capability `logits`.
    """

    family: Any

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return self.family.noise(sample_shape, dimension)

    def given_noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"given": Noise("uniform", (*sample_shape, dimension))}

    def location(self, backend: Backend, parameters: Blocks) -> Array:
        return self.family.logits(backend, parameters)

    def perturbed(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        u = noise["base"]
        return self.location(backend, parameters) + _log(backend.xp, u) - backend.xp.log1p(-u)

    def gapped(self, backend: Backend, parameters: Blocks, z: Array, gap: float) -> Array:
        """Return ±max(±logit, gap), + for z = 1: of two logits only the difference matters."""
        xp, sign = backend.xp, 2.0 * z - 1.0
        toward = sign * self.location(backend, parameters)
        return sign * xp.where(toward > gap, toward, xp.full_like(toward, gap))

    def given(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> tuple[Array, Array]:
        """Return ζ given z: for z = 1, ζ ≥ 0 and u is at a fraction v of (1 − p, 1); for z = 0, the mirror image."""
        xp, v = backend.xp, noise["given"]
        up = z > 0.5
        logit = self.family.logits(backend, parameters) + xp.zeros_like(v)
        rest = 1.0 - v
        near, far = xp.where(up, v, rest), xp.where(up, rest, v)
        toward = xp.where(up, logit, -logit) + _log(xp, near)
        size = xp.logaddexp(xp.zeros_like(toward), toward) - _log(xp, far)
        return xp.where(up, size, -size), sigmoid(xp, toward)

    def pathwise(self, backend: Backend, parameters: Blocks, cotangent: Array) -> Blocks:
        return self.family.from_logits(backend, cotangent)

    def hard(self, backend: Backend, perturbed: Array) -> Array:
        return backend.xp.astype(perturbed > 0.0, perturbed.dtype)

    def soft(self, backend: Backend, perturbed: Array, temperature: Any) -> Array:
        return sigmoid(backend.xp, perturbed / temperature)

    def soft_pullback(self, backend: Backend, soft: Array, temperature: Any, cotangent: Array) -> Array:
        return cotangent * soft * (1.0 - soft) / temperature


def sigmoid(xp: Any, x: Array) -> Array:
    """Return 1/(1 + exp(−x)), without overflow.

    Parameters
    ----------
    xp
        Array API namespace.
    x
        Array of any shape.

    Returns
    -------
    array
        Of the shape of `x`.
    """
    small = xp.exp(-xp.abs(x))
    return xp.where(x >= 0.0, xp.ones_like(x), small) / (1.0 + small)


def logit(probability: float) -> float:
    """Return log p/(1 − p).

    Parameters
    ----------
    probability
        p, between 0 and 1.

    Returns
    -------
    float
    """
    return math.log(probability) - math.log1p(-probability)


def _log(xp: Any, u: Array) -> Array:
    return xp.log(xp.where(u > TINY, u, xp.full_like(u, TINY)))
