"""Parameterisations of a policy over prompts: maps from θ to the logits [N, V] of every prompt.

A prompt takes the place of a datum and its logits that of λ, so the map is an `Encoder`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.arrays import Array, Arrays, Vectors, times
from gradmeter.estimators.amortised import Encoder
from gradmeter.estimators.families.logs import softmax
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
    """Return Σ cotangent · ∂logits/∂θ for all prompts, {block: [*shape]}.

    Without a closed form, each derivative is the imaginary part of the map at θ_i + iε, exact to rounding for ε = 1e-30
    (Squire & Trapp 1998); the map must be analytic.

    Parameters
    ----------
    encoder
        The map from θ to logits.
    data
        Arrays that the map reads.
    theta
        θ, {block: [*shape]}.
    cotangent
        [P, N, V].
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


@dataclass(frozen=True)
class Linear(Parameterisation):
    """Logits φ(prompt, prefix) · W of features that all prompts and prefixes share.

    φ holds 1 and the indicators of the prompt, of the position, and of the last token.
    """

    @property
    def features(self) -> int:
        """The number of features."""
        return 1 + self.prompts + self.length + self.vocabulary - 1

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weights": (self.features, self.vocabulary)}

    def constants(self) -> Vectors:
        position, last = places(self.vocabulary, self.length)
        found = np.zeros((self.prompts, self.prefixes, self.features))
        found[..., 0] = 1.0
        for p in range(self.prompts):
            found[p, :, 1 + p] = 1.0
        found[:, np.arange(self.prefixes), 1 + self.prompts + position] = 1.0
        after = np.flatnonzero(last > 0)
        found[:, after, self.prompts + self.length + last[after]] = 1.0
        return {"features": found}

    def initial(self, spread: float) -> Vectors:
        return super().initial(0.5 * spread)  # up to four features are 1

    def apply(self, xp: Any, data: Arrays, rows: Array | None) -> Arrays:
        return {"logits": times(xp, chosen(xp, data["features"], rows), data["weights"])}

    def pullback(self, xp: Any, data: Arrays, rows: Array | None, cotangent: Arrays) -> Arrays:
        features, slope = chosen(xp, data["features"], rows), cotangent["logits"]
        features = xp.reshape(features, (features.shape[0], -1, features.shape[-1]))
        slope = xp.reshape(slope, (slope.shape[0], -1, slope.shape[-1]))
        return {"weights": xp.matmul(xp.matrix_transpose(features), slope)}


def places(vocabulary: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of tokens of every prefix, and its last token, 0 where it has none."""
    position = np.zeros(number_of_prefixes(vocabulary, length), dtype=np.int64)
    last = np.zeros_like(position)
    for n in range(1, len(position)):
        parent, token = divmod(n - 1, vocabulary - 1)
        position[n], last[n] = position[parent] + 1, token + 1
    return position, last


@dataclass(frozen=True)
class Network(Parameterisation):
    """Base class of networks that all prompts and prefixes share, with H = 4 hidden units.

    Every prefix is evaluated at once. The derivatives are those of the framework.
    """

    hidden: ClassVar[int] = 4

    def initial(self, spread: float) -> Vectors:
        """Return random θ, its last layer such that the logits have a standard deviation of about `spread`."""
        size = {name: math.sqrt(shape[0]) if len(shape) > 1 else 2.0 for name, shape in self.shapes().items()}
        found = {name: random_logits(1.0, name, shape=shape) / size[name] for name, shape in self.shapes().items()}
        logits = self.apply(np, {**self.constants(), **found}, None)["logits"]
        return {**found, "output": found["output"] * (spread / float(logits.std()))}

    def apply(self, xp: Any, data: Arrays, rows: Array | None) -> Arrays:
        states = xp.stack([self.states(xp, data, data["prompt"][p, :]) for p in range(self.prompts)])  # [P, N, H]
        return {"logits": chosen(xp, times(xp, states, data["output"]), rows)}

    def states(self, xp: Any, data: Arrays, prompt: Array) -> Array:
        """Return the last hidden layer after every prefix of one prompt [N, H], from its embedding [H]."""
        raise NotImplementedError


@dataclass(frozen=True)
class Recurrent(Network):
    """An Elman network: h = tanh(prompt), then h′ = tanh(h U + E[token]), logits h′ O (Elman 1990)."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        h = self.hidden
        embeddings = {"prompt": (self.prompts, h), "token": (self.vocabulary - 1, h)}
        return {**embeddings, "recurrent": (h, h), "output": (h, self.vocabulary)}

    def states(self, xp: Any, data: Arrays, prompt: Array) -> Array:
        level = xp.tanh(prompt)[None, :]  # the states of all prefixes of one length, in their order
        levels = [level]
        for _ in range(self.length - 1):
            moved = times(xp, level, data["recurrent"])[:, None, :] + data["token"]
            level = xp.reshape(xp.tanh(moved), (-1, self.hidden))
            levels.append(level)
        return xp.concat(levels, axis=0)


@dataclass(frozen=True)
class Attention(Network):
    """One head of causal self-attention over the prompt and the tokens so far (Vaswani et al. 2017).

    The last of x_0 = prompt, x_t = E[token_t] + position_t attends to all of them, and is added to what it reads.
    """

    def shapes(self) -> dict[str, tuple[int, ...]]:
        h = self.hidden
        embeddings = {"prompt": (self.prompts, h), "token": (self.vocabulary - 1, h), "position": (self.length, h)}
        return {**embeddings, "query": (h, h), "key": (h, h), "value": (h, h), "output": (h, self.vocabulary)}

    def states(self, xp: Any, data: Arrays, prompt: Array) -> Array:
        level = prompt[None, None, :]  # x of all prefixes of one length [n, t + 1, H]
        found = []
        for t in range(self.length):
            query = times(xp, level[:, -1:, :], data["query"])
            weights = softmax(xp, xp.matmul(query, xp.matrix_transpose(times(xp, level, data["key"]))))
            read = xp.matmul(weights, times(xp, level, data["value"]))
            found.append(xp.tanh((level[:, -1:, :] + read)[:, 0, :]))
            if t + 1 < self.length:
                new, count = data["token"] + data["position"][t, :], (level.shape[0], self.vocabulary - 1)
                old = xp.broadcast_to(level[:, None, ...], (*count, t + 1, self.hidden))
                last = xp.broadcast_to(new[None, :, None, :], (*count, 1, self.hidden))
                level = xp.reshape(xp.concat([old, last], axis=2), (-1, t + 2, self.hidden))
        return xp.concat(found, axis=0)


PARAMETERISATIONS: dict[str, type[Parameterisation]] = {
    "tabular": Tabular,
    "linear": Linear,
    "recurrent": Recurrent,
    "attention": Attention,
}
