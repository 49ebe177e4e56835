"""A mean-field Normal joined with independent choices: for models with continuous variables and component indices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.families.categorical import DISCRETE, Categorical
from gradmeter.estimators.families.family import Array, Blocks, Family
from gradmeter.estimators.families.normal import Normal
from gradmeter.estimators.noise import Noise


@dataclass(frozen=True)
class NormalCategorical(Family):
    """`numbers` Normal coordinates followed by one-hot choices of one of `categories`, all independent.

    Parameters: `loc` and `log_scale` [numbers], `logits` [choices, K]. Problems construct this family; it has no
    options.
    """

    name: ClassVar[str] = "normal-categorical"
    summary: ClassVar[str] = "mean-field Normal beside independent one-hot choices; parameters loc, log_scale, logits"
    blocks: ClassVar[tuple[str, ...]] = ("loc", "log_scale", "logits")
    unsupported: ClassVar[dict[str, str]] = {
        "pathwise": DISCRETE,
        "weak_derivatives": "its choices have none",
        "log_density_gradient": DISCRETE,
        "log_density_replaced": "the K numbers of a choice sum to 1, so none is replaced alone",
        "power_moment": "it is two families",
    }

    numbers: int
    categories: int

    @property
    def _choice(self) -> Categorical:
        return Categorical(self.categories)

    def _split(self, z: Array) -> tuple[Array, Array]:
        return z[..., : self.numbers], z[..., self.numbers :]

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return {**Normal().shapes(self.numbers), **self._choice.shapes(dimension - self.numbers)}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        """Return the noise: `base` for the Normal coordinates, `choice` for the choices."""
        choice = self._choice.noise(sample_shape, max(0, dimension - self.numbers))
        return {**Normal().noise(sample_shape, self.numbers), "choice": choice["base"]}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        chosen = self._choice.sample(backend, parameters, {"base": noise["choice"]})
        return backend.xp.concat([Normal().sample(backend, parameters, noise), chosen], axis=-1)

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        return {"choice": self._choice.discontinuities(parameters, dimension - self.numbers)["base"]}

    def log_density(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        numbers, choices = self._split(z)
        log_density = Normal().log_density(backend, parameters, numbers)
        return log_density + self._choice.log_density(backend, parameters, choices)

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        numbers, choices = self._split(z)
        score = Normal().score(backend, parameters, numbers)
        return {**score, **self._choice.score(backend, parameters, choices)}

    def entropy_gradient(self, backend: Backend, parameters: Blocks) -> Blocks:
        exact = Normal().entropy_gradient(backend, parameters)
        return {**exact, **self._choice.entropy_gradient(backend, parameters)}
