"""Categorical choices, one-hot: z concatenates the choices' indicators, K numbers for each choice.

So z is [..., D] as for every family, with D = choices × K, and f can be evaluated anywhere between the corners of the
simplices, as relaxations require.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.choices import ChoicesConfig, weights_option
from gradmeter.estimators.families.family import Array, Blocks, Family
from gradmeter.estimators.families.logs import softmax
from gradmeter.estimators.families.relaxation import Relaxation
from gradmeter.estimators.families.states import States
from gradmeter.estimators.noise import Noise
from gradmeter.estimators.options import Values

DISCRETE = "it is discrete: a sample jumps from one category to another"


@dataclass(frozen=True)
class Categorical(Family):
    """Independent choices of one of K `categories`, with probabilities softmax(logits).

    Parameter: `logits` [D/K, K]; adding a constant to all logits of one choice has no effect.
    """

    name: ClassVar[str] = "categorical"
    summary: ClassVar[str] = "independent choices of one of K categories, one-hot, D = choices × K; parameter logits"
    blocks: ClassVar[tuple[str, ...]] = ("logits",)
    unsupported: ClassVar[dict[str, str]] = {
        "pathwise": DISCRETE,
        "weak_derivatives": "the K numbers of a choice sum to 1, so none moves alone",
        "log_density_replaced": "the K numbers of a choice sum to 1, so none is replaced alone",
    }

    categories: int = 2

    @dataclass(frozen=True)
    class Config(ChoicesConfig):
        weights: Values = weights_option()

        @property
        def family(self) -> Family:
            return Categorical(self.categories)

        def parameters(self, dimension: int) -> Blocks:
            return {"logits": self.logits(dimension)}

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return {"logits": (dimension // self.categories, self.categories)}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        """Return one uniform number per choice, for the inverse CDF."""
        return {"base": Noise("uniform", (*sample_shape, dimension // self.categories))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        xp, u = backend.xp, noise["base"][..., None]
        below = xp.cumulative_sum(softmax(xp, parameters["logits"]), axis=-1)[..., :-1]
        passed = xp.astype(u > below, u.dtype)  # 1 … 1 0 … 0: the category is the index of the first 0
        ends = xp.zeros_like(passed[..., :1])
        return self.side_by_side(xp, xp.concat([ends + 1.0, passed], axis=-1) - xp.concat([passed, ends], axis=-1))

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        return {"base": np.cumsum(softmax(np, parameters["logits"]), axis=-1)[..., :-1]}

    def by_choice(self, xp: Any, z: Array) -> Array:
        """Reshape [..., D] to [..., D/K, K]."""
        return xp.reshape(z, (*z.shape[:-1], -1, self.categories))

    def side_by_side(self, xp: Any, z: Array) -> Array:
        """Reshape [..., D/K, K] to [..., D]."""
        return xp.reshape(z, (*z.shape[:-2], -1))

    def _log_probabilities(self, backend: Backend, parameters: Blocks) -> Array:
        """Return log p [D]."""
        logits = parameters["logits"]
        xp = backend.xp
        largest = xp.max(logits, axis=-1, keepdims=True)
        total = largest + xp.log(xp.sum(xp.exp(logits - largest), axis=-1, keepdims=True))
        return self.side_by_side(xp, logits - total)

    def log_density(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        return backend.xp.sum(z * self._log_probabilities(backend, parameters), axis=-1)

    def log_density_gradient(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        return backend.xp.zeros_like(z) + self._log_probabilities(backend, parameters)

    def log_density_hessian_product(self, backend: Backend, parameters: Blocks, z: Array, vector: Array) -> Array:
        return backend.xp.zeros_like(vector)

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return z − p = z Σ_{j≠k} p_j − (Σz − z) p, without cancellation where a p_k is near 1.

        Σz, the sum of each choice's z, is 1 except under automatic differentiation.
        """
        xp = backend.xp
        z, p = self.by_choice(xp, z), softmax(xp, parameters["logits"])
        place = backend.asarray(range(self.categories), None)
        apart = xp.astype(place[:, None] != place[None, :], p.dtype)
        return {"logits": z * xp.matmul(p, apart) - (xp.sum(z, axis=-1, keepdims=True) - z) * p}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        """Return −p (log p + entropy)."""
        xp = backend.xp
        p = softmax(xp, parameters["logits"])
        log = self.by_choice(xp, self._log_probabilities(backend, parameters))
        return {"logits": p * (xp.sum(p * log, axis=-1, keepdims=True) - log)}

    def power_moment(self, parameters: Blocks, order: int) -> tuple[Array, Blocks]:
        """Return p, which is the moment of every order above 0; the sum over a choice is constant."""
        p = softmax(np, parameters["logits"]).ravel()
        return p if order else np.ones_like(p), {"logits": np.zeros_like(parameters["logits"])}

    def states(self, dimension: int) -> States:
        of = range(self.categories)
        return States(tuple(tuple(1.0 if i == j else 0.0 for j in of) for i in of), dimension // self.categories)

    def expected(self, backend: Backend, parameters: Blocks) -> Array:
        return self.side_by_side(backend.xp, softmax(backend.xp, parameters["logits"]))

    def expected_pathwise(self, backend: Backend, parameters: Blocks, cotangent: Array) -> Blocks:
        xp = backend.xp
        p, c = softmax(xp, parameters["logits"]), self.by_choice(xp, cotangent)
        return {"logits": p * (c - xp.sum(p * c, axis=-1, keepdims=True))}

    def relaxation(self) -> Relaxation:
        return _Gumbels(self)


@dataclass(frozen=True)
class _Gumbels(Relaxation):
    """The Gumbel-max relaxation: ζ_k = log p_k − log e_k with exponential e_k, K per choice; H is 1 at the largest ζ_k.

    exp(−ζ_k) is exponential with rate p_k. The smallest of these has rate 1 and is independent of its index; the others
    exceed it by exponentials with their own rates.
    """

    family: Categorical

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"gumbel": Noise("exponential", (*sample_shape, dimension))}

    def given_noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        return {"given": Noise("exponential", (*sample_shape, dimension))}

    def location(self, backend: Backend, parameters: Blocks) -> Array:
        return self.family._log_probabilities(backend, parameters)

    def perturbed(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        return self.location(backend, parameters) - backend.xp.log(noise["gumbel"])

    def gapped(self, backend: Backend, parameters: Blocks, z: Array, gap: float) -> Array:
        xp, family = backend.xp, self.family
        logits = family.by_choice(xp, self.location(backend, parameters))
        largest = xp.max(logits, axis=-1, keepdims=True)
        others = xp.where(logits < largest - gap, logits, largest - gap)
        chosen = family.by_choice(xp, z)
        return family.side_by_side(xp, chosen * largest + (1.0 - chosen) * others)

    def given(self, backend: Backend, parameters: Blocks, noise: dict[str, Array], z: Array) -> tuple[Array, Array]:
        xp, family = backend.xp, self.family
        e, z = family.by_choice(xp, noise["given"]), family.by_choice(xp, z)
        least = xp.sum(z * e, axis=-1, keepdims=True)
        more = (1.0 - z) * e / softmax(xp, parameters["logits"])
        return family.side_by_side(xp, -xp.log(least + more)), family.side_by_side(xp, more / (least + more))

    def pathwise(self, backend: Backend, parameters: Blocks, cotangent: Array) -> Blocks:
        xp = backend.xp
        c = self.family.by_choice(xp, cotangent)
        return {"logits": c - softmax(xp, parameters["logits"]) * xp.sum(c, axis=-1, keepdims=True)}

    def hard(self, backend: Backend, perturbed: Array) -> Array:
        xp, family = backend.xp, self.family
        each = family.by_choice(xp, perturbed)
        chosen = xp.argmax(each, axis=-1, keepdims=True) == backend.asarray(range(family.categories), None)
        return family.side_by_side(xp, xp.astype(chosen, perturbed.dtype))

    def soft(self, backend: Backend, perturbed: Array, temperature: Any) -> Array:
        xp, family = backend.xp, self.family
        return family.side_by_side(xp, softmax(xp, family.by_choice(xp, perturbed) / temperature))

    def soft_pullback(self, backend: Backend, soft: Array, temperature: Any, cotangent: Array) -> Array:
        xp, family = backend.xp, self.family
        p, c = family.by_choice(xp, soft), family.by_choice(xp, cotangent)
        return family.side_by_side(xp, p * (c - xp.sum(p * c, axis=-1, keepdims=True)) / temperature)
