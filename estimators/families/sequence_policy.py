"""Sequence policies: tokens drawn one after another, each given all tokens before it, until the end token.

    π(a_1 … a_L) = Π_t π(a_t | a_1 … a_{t−1}),     π(· | prefix) = softmax(logits[prefix])

The tokens are 0, …, V − 1, and 0 ends the sequence; the T-th token is the last one in any case. z [..., T] holds the
tokens as numbers, and zeros after the end. So D = T, and there are 1 + b + … + b^(T − 1) prefixes with b = V − 1, in
the order of their length and then of their tokens: the prefix that follows prefix n by token a > 0 is n·b + a.

A sequence is made from one uniform number u, by inversion of the distribution function in the order of the tokens:
each token takes the subinterval of u that has its probability, and u is stretched from there to [0, 1]. An estimate is
then constant between finitely many values of u, and can be integrated exactly. Each stretch loses the digits that the
token used, so sequences of probability p are drawn with a relative error of about ε/p.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import UsageError
from gradmeter.estimators.families.categorical import DISCRETE
from gradmeter.estimators.families.family import Array, Blocks, Family, FamilyConfig
from gradmeter.estimators.families.logs import log_softmax, softmax
from gradmeter.estimators.families.states import MOST_STATES, States
from gradmeter.estimators.noise import Noise, stream_root
from gradmeter.estimators.options import option

#: The smallest u.
LEAST = 1e-30
AFTER_OTHERS = "a token depends on the tokens before it"


@dataclass(frozen=True)
class Steps:
    """The steps of sequences z [..., T] through the prefixes.

    Attributes
    ----------
    prefixes
        Indicator of the prefix before every token [..., T, N]; 0 after the end.
    tokens
        Indicator of every token [..., T, V]; 0 after the end.
    active
        1 up to the end token, 0 after it [..., T].
    """

    prefixes: Array
    tokens: Array
    active: Array

    def read(self, xp: Any, table: Array) -> Array:
        """Return the entries of a table of prefixes and tokens at every step [..., T], 0 after the end.

        Parameters
        ----------
        table
            [N, V] for all sequences, or [R, 1, N, V] for sequences [R, S, T].
        """
        return xp.sum(self.rows(xp, table) * self.tokens, axis=-1)

    def at_end(self, xp: Any, values: Array) -> Array:
        """Return values [..., 1] at the last token of their sequences, 0 at the others [..., T]."""
        after = xp.concat([self.active[..., 1:], xp.zeros_like(self.active[..., :1])], axis=-1)
        return values * (self.active - after)

    def rows(self, xp: Any, table: Array) -> Array:
        """Return the rows of such a table at every step [..., T, V], 0 after the end."""
        if table.ndim == 2:
            return xp.matmul(self.prefixes, table)
        shape = self.prefixes.shape
        flat = xp.reshape(self.prefixes, (shape[0], -1, shape[-1]))
        return xp.reshape(xp.matmul(flat, table[:, 0, ...]), (*shape[:-1], table.shape[-1]))


def places(xp: Any, table: Array, axis: int) -> Array:
    """Return 0, 1, 2, … along one axis of a table, from its entries so that they are on its device."""
    line = xp.zeros_like(table[..., 0] if axis == -2 else table[..., 0, :])
    return xp.cumulative_sum(line + 1.0, axis=-1)[(*(0,) * (line.ndim - 1), ...)] - 1.0


def steps_of(xp: Any, z: Array, table: Array) -> Steps:
    """Return the steps of sequences.

    Parameters
    ----------
    xp
        Array API namespace.
    z
        Sequences [..., T].
    table
        Array of prefixes and tokens [..., N, V], of which only the shape is read.
    """
    every_prefix, every_token = places(xp, table, -2), places(xp, table, -1)
    branches = table.shape[-1] - 1
    prefix, alive = xp.zeros_like(z[..., 0]), xp.zeros_like(z[..., 0]) + 1.0
    prefixes, active = [], []
    for t in range(z.shape[-1]):
        token = z[..., t]
        prefixes.append(alive[..., None] * xp.astype(prefix[..., None] == every_prefix, z.dtype))
        active.append(alive)
        alive = alive * xp.astype(token > 0.0, z.dtype)
        prefix = xp.where(alive > 0.0, prefix * branches + token, prefix)
    lasting = xp.stack(active, axis=-1)
    tokens = lasting[..., None] * xp.astype(z[..., None] == every_token, z.dtype)
    return Steps(xp.stack(prefixes, axis=-2), tokens, lasting)


def number_of_prefixes(vocabulary: int, length: int) -> int:
    """Return N, the number of prefixes after which a token is drawn."""
    return sum((vocabulary - 1) ** t for t in range(length))


def length_of(prefixes: int, vocabulary: int) -> int:
    """Return T, of a table with N rows."""
    length = 0
    while number_of_prefixes(vocabulary, length) < prefixes:
        length += 1
    return length


def number_of_sequences(vocabulary: int, length: int) -> int:
    """Return the number of sequences: those with the end token, and those of T other tokens."""
    return number_of_prefixes(vocabulary, length) + (vocabulary - 1) ** length


def check_sequences(vocabulary: int, length: int) -> None:
    """Raise UsageError if there are too many sequences to list."""
    if length * np.log(vocabulary - 1) > np.log(MOST_STATES) or number_of_sequences(vocabulary, length) > MOST_STATES:
        raise UsageError(
            f"family sequence-policy with vocabulary={vocabulary} has more than {MOST_STATES} sequences of up to "
            f"{length} tokens; give a smaller vocabulary or shorter sequences"
        )


def listed(vocabulary: int, length: int) -> list[tuple[float, ...]]:
    """Return every sequence, in the order in which a growing u makes them."""
    found: list[tuple[float, ...]] = [(float(a),) for a in range(vocabulary)]
    for longer in range(2, length + 1):
        found = [(0.0,) * longer, *((float(a), *rest) for a in range(1, vocabulary) for rest in found)]
    return found


@functools.lru_cache(maxsize=16)
def sequences(vocabulary: int, length: int) -> np.ndarray:
    """Return `listed` as a read-only array [sequences, T]."""
    found = np.asarray(listed(vocabulary, length))
    found.setflags(write=False)
    return found


def thresholds(log_probabilities: np.ndarray, length: int) -> np.ndarray:
    """Return the values of u between one sequence and the next [sequences − 1], from log π [N, V] in float64."""
    z = sequences(log_probabilities.shape[-1], length)
    steps = walk(z, log_probabilities.shape[-1])
    each = np.where(steps >= 0, log_probabilities[steps, z.astype(np.int64)], 0.0).sum(axis=-1)
    return np.cumsum(np.exp(each))[:-1]


def walk(z: np.ndarray, vocabulary: int) -> np.ndarray:
    """Return the number of the prefix before every token [..., T], −1 after the end, for sequences z [..., T]."""
    found = np.full(z.shape, -1, dtype=np.int64)
    prefix, alive = np.zeros(z.shape[:-1], dtype=np.int64), np.ones(z.shape[:-1], dtype=bool)
    for t in range(z.shape[-1]):
        found[..., t] = np.where(alive, prefix, -1)
        token = z[..., t].astype(np.int64)
        alive = alive & (token > 0)
        prefix = np.where(alive, prefix * (vocabulary - 1) + token, prefix)
    return found


def random_logits(scale: float, *path: object, shape: tuple[int, ...]) -> np.ndarray:
    """Draw logits from N(0, scale²); they depend only on the path and the shape, not on the machine.

    Parameters
    ----------
    scale
        Standard deviation.
    *path
        Parts of the name of the random stream.
    shape
        Shape of the logits.
    """
    generator = np.random.Generator(np.random.PCG64(stream_root("sequence-policy", *path, *shape)))
    return scale * generator.standard_normal(shape)


@dataclass(frozen=True)
class SequencePolicy(Family):
    """A policy over sequences of at most T = D tokens, with a row of logits for every prefix.

    Parameter: `logits` [N, V]; it may have the batch axes of z, [R, 1, N, V] for z [R, S, T]. A constant added to one
    row has no effect.
    """

    name: ClassVar[str] = "sequence-policy"
    summary: ClassVar[str] = "sequences of at most D tokens, each given those before it; parameter logits by prefix"
    blocks: ClassVar[tuple[str, ...]] = ("logits",)
    unsupported: ClassVar[dict[str, str]] = {
        "pathwise": DISCRETE,
        "weak_derivatives": AFTER_OTHERS,
        "log_density_replaced": AFTER_OTHERS,
        "log_densities": AFTER_OTHERS,
        "log_density_gradient": "log π is a function of whole numbers",
    }

    vocabulary: int = 3

    @dataclass(frozen=True)
    class Config(FamilyConfig):
        vocabulary: int = option(3, "V, tokens, of which the first ends a sequence", minimum=2, maximum=1000)
        spread: float = option(1.0, "standard deviation of the logits, which are fixed random numbers", minimum=0.0)

        @property
        def family(self) -> Family:
            return SequencePolicy(self.vocabulary)

        def parameters(self, dimension: int) -> Blocks:
            return {"logits": random_logits(self.spread, "logits", shape=self.family.shapes(dimension)["logits"])}

        def check(self, dimension: int) -> None:
            check_sequences(self.vocabulary, dimension)

    def shapes(self, dimension: int) -> dict[str, tuple[int, ...]]:
        return {"logits": (number_of_prefixes(self.vocabulary, dimension), self.vocabulary)}

    def noise(self, sample_shape: tuple[int, ...], dimension: int) -> dict[str, Noise]:
        """Return one uniform number per sequence."""
        return {"base": Noise("uniform", (*sample_shape, 1))}

    def sample(self, backend: Backend, parameters: Blocks, noise: dict[str, Array]) -> Array:
        xp, u = backend.xp, noise["base"][..., 0]
        table = softmax(xp, parameters["logits"])
        every_prefix, every_token = places(xp, table, -2), places(xp, table, -1)
        length = length_of(*table.shape[-2:])
        prefix, alive = xp.zeros_like(u), xp.zeros_like(u) + 1.0
        tokens = []
        for t in range(length):
            here = Steps(xp.astype(prefix[..., None] == every_prefix, u.dtype)[..., None, :], u, u)
            p = here.rows(xp, table)[..., 0, :]
            up_to = xp.cumulative_sum(p, axis=-1)
            # Between 0 and the sum, so that a token of probability 0 is never drawn.
            at = xp.minimum(xp.maximum(u, xp.full_like(u, LEAST)), xp.ones_like(u)) * up_to[..., -1]
            passed = xp.astype(at[..., None] > up_to[..., :-1], u.dtype)
            token = xp.sum(passed, axis=-1)
            tokens.append(alive * token)
            if t + 1 < length:
                u = (at - xp.sum(p[..., :-1] * passed, axis=-1)) / xp.sum(
                    p * xp.astype(token[..., None] == every_token, u.dtype), axis=-1
                )
                alive = alive * xp.astype(token > 0.0, u.dtype)
                prefix = xp.where(alive > 0.0, prefix * (self.vocabulary - 1) + token, prefix)
        return xp.stack(tokens, axis=-1)

    def discontinuities(self, parameters: Blocks, dimension: int) -> dict[str, np.ndarray]:
        return {"base": thresholds(log_softmax(np, parameters["logits"]), dimension)[None, :]}

    def log_density(self, backend: Backend, parameters: Blocks, z: Array) -> Array:
        xp, logits = backend.xp, parameters["logits"]
        return xp.sum(steps_of(xp, z, logits).read(xp, log_softmax(xp, logits)), axis=-1)

    def score(self, backend: Backend, parameters: Blocks, z: Array) -> Blocks:
        """Return the row of the token's indicator − π for every prefix on the way, 0 for the others."""
        xp, logits = backend.xp, parameters["logits"]
        steps = steps_of(xp, z, logits)
        chosen = xp.matmul(xp.matrix_transpose(steps.prefixes), steps.tokens)
        return {"logits": chosen - xp.sum(steps.prefixes, axis=-2)[..., None] * softmax(xp, logits)}

    def states(self, dimension: int) -> States:
        """Return every sequence, as one choice among all of them."""
        return States(tuple(listed(self.vocabulary, dimension)), 1)
