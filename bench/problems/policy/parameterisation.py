"""Parameterisations of a policy over prompts: maps from θ to the logits [N, V] of every prompt.

A prompt takes the place of a datum and its logits that of λ, so the map is an `Encoder`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors
from gradmeter.estimators.amortised import Encoder
from gradmeter.estimators.families.sequence_policy import number_of_prefixes, random_logits


@dataclass(frozen=True)
class Parameterisation(Encoder):
    """Base class: P prompts, V tokens, T of them at most; N prefixes."""

    prompts: int
    vocabulary: int
    length: int

    @property
    def prefixes(self) -> int:
        """N."""
        return number_of_prefixes(self.vocabulary, self.length)

    def population(self, data: Arrays) -> int:
        return self.prompts

    def constants(self) -> Vectors:
        """Return the arrays that the map reads beside θ, such as features."""
        return {}

    def initial(self, spread: float) -> Vectors:
        """Return θ with which the logits have a standard deviation of about `spread`."""
        return {name: random_logits(spread, name, shape=shape) for name, shape in self.shapes().items()}


@dataclass(frozen=True)
class Tabular(Parameterisation):
    """One logit for every prompt, prefix and token: θ is the table."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"table": (self.prompts, self.prefixes, self.vocabulary)}

    def apply(self, xp: Any, data: Arrays, rows: Array | None) -> Arrays:
        return {"logits": chosen(xp, data["table"], rows)}

    def pullback(self, xp: Any, data: Arrays, rows: Array | None, cotangent: Arrays) -> Arrays:
        return {"table": by_prompt(xp, data["table"], rows, cotangent["logits"])}


def chosen(xp: Any, table: Array, rows: Array | None) -> Array:
    """Return the tables of the prompts in `rows` [R, B, N, V] of [P, N, V], or [1, P, N, V]."""
    if rows is None:
        return table[None, ...]
    return xp.reshape(xp.take(table, xp.reshape(rows, (-1,)), axis=0), (*rows.shape, *table.shape[1:]))


def by_prompt(xp: Any, table: Array, rows: Array | None, cotangent: Array) -> Array:
    """Return cotangents [R, B, N, V] of the prompts in `rows` added up by prompt [R, P, N, V]."""
    if rows is None:
        return cotangent
    every = xp.cumulative_sum(xp.zeros_like(table[:, 0, 0]) + 1.0) - 1.0
    which = xp.astype(xp.astype(rows, cotangent.dtype)[:, :, None] == every, cotangent.dtype)  # [R, B, P]
    flat = xp.reshape(cotangent, (*cotangent.shape[:2], -1))
    return xp.reshape(xp.matmul(xp.matrix_transpose(which), flat), (-1, *table.shape))


def jacobian_product(encoder: Parameterisation, data: Arrays, theta: Vectors, cotangent: np.ndarray) -> Vectors:
    """Return Σ cotangent [P, N, V] · ∂logits/∂θ for all prompts, {block: [*shape]}.

    Without a closed form, each derivative is the imaginary part of the map at θ_i + iε, exact to rounding for ε = 1e-30
    (Squire & Trapp 1998); the map must be analytic.
    """
    if encoder.pullback is not None:
        found = encoder.pullback(np, {**data, **theta}, None, {"logits": cotangent[None]})
        return {name: a[0] for name, a in found.items()}
    gradient = {}
    for name, values in theta.items():
        slopes = np.zeros(values.size)
        for i in range(values.size):
            moved = values.astype(np.complex128).ravel()
            moved[i] += 1e-30j
            logits = encoder.apply(np, {**data, **theta, name: moved.reshape(values.shape)}, None)["logits"][0]
            slopes[i] = 1e30 * float(np.sum(cotangent * logits.imag))
        gradient[name] = slopes.reshape(values.shape)
    return gradient


PARAMETERISATIONS: dict[str, type[Parameterisation]] = {"tabular": Tabular}
