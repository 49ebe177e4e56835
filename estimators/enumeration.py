"""Enumeration: the gradient as a sum over every state, without noise.

Approximates   ∇_λ E_{q_λ}[f(z)]
with           Σ_z q_λ(z) f(z) ∇_λ log q_λ(z),     exactly
requires       finitely many states, at most `MOST`; nothing of f. Costs one evaluation a state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, dtype_of
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.families.capabilities import Capable, require
from gradmeter.estimators.noise import DrawnNoise, Noise

#: The largest number of states: a single estimate would be enough, but the measurement computes thousands of them.
MOST = 2**8
#: The largest number of array elements for the states that are evaluated together.
AT_ONCE = 2**22


@dataclass(frozen=True)
class Enumeration(Estimator):
    """The sum over every state; S has no effect."""

    name: ClassVar[str] = "enumeration"
    summary: ClassVar[str] = "sum over every state: exact, one evaluation a state"
    requires: ClassVar[Requires] = Requires(("score", "states"))

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        require(family, "states").states(dimension).check(self.name, MOST)

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        """Return an empty array [R, 0, D], whose shape tells D, and f's own noise."""
        return {**no_sample(dimension), **expectation.noise_specs()}

    def evaluations(self, expectation: Expectation, num_samples: int, dimension: int) -> int:
        return expectation.family.states(dimension).number

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> Blocks:
        xp, family = backend.xp, expectation.family
        replicate = zero_sample(xp, noise)
        parts, states = _parts(expectation, replicate), family.states(replicate.shape[-1])
        z = xp.reshape(states.listed(backend, dtype_of(replicate)), (parts, states.number // parts, -1))

        own = has_batch_axes(family, parameters, replicate.shape[-1])

        def part(z: Array) -> Array:
            value = expectation.value(backend, parameters, z + replicate, noise)
            scores = weighted_scores(backend, family, parameters, z + replicate if own else z)
            return xp.matmul(value[:, None, :], scores)[:, 0, :] if own else xp.matmul(value, scores)

        total = part(z[0, ...]) if parts == 1 else xp.sum(backend.map(part, z), axis=0)
        return by_block(xp, family.shapes(replicate.shape[-1]), total)

    def estimate_and_samples(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> tuple[Blocks, Array, Array]:
        """Return the gradient with every state, weighted by its probability."""
        found = self.estimate_integrand(backend, expectation, parameters, noise, state)
        replicate = zero_sample(backend.xp, noise)
        z = expectation.family.states(replicate.shape[-1]).listed(backend, dtype_of(replicate))
        weight = backend.xp.exp(expectation.family.log_density(backend, parameters, z))
        return found, z + replicate, weight + replicate[..., 0]

    def explicit_terms(
        self, backend: Backend, expectation: Expectation, z: Array, weights: Array, noise: dict[str, Array]
    ) -> Blocks:
        count = z.shape[1] // _parts(expectation, z[:, :1])
        sums: Blocks = {}
        for first in range(0, z.shape[1], count):
            some = slice(first, first + count)
            terms = expectation.explicit_pullback(backend, z[:, some], weights[:, some], noise)
            sums = {name: sums[name] + term for name, term in terms.items()} if sums else terms
        return sums


def no_sample(dimension: int) -> dict[str, Noise]:
    """Declare an empty array [R, 0, D], from which `zero_sample` learns D."""
    return {"nothing": Noise("uniform", (0, dimension))}


def zero_sample(xp: Any, noise: DrawnNoise) -> Array:
    """Return zeros [R, 1, D], given noise that `no_sample` declares."""
    return xp.sum(noise["nothing"], axis=1, keepdims=True)


def _parts(expectation: Expectation, replicate: Array) -> int:
    """Return into how many equal parts the states are split for evaluation, to bound memory.

    Every replicate [R, 1, D] evaluates every state, although all replicates give the same gradient.
    """
    states = expectation.family.states(replicate.shape[-1])
    size = replicate.shape[0] * states.number * expectation.width(replicate.shape[-1])
    parts, base = 1, len(states.alternatives)
    while parts < states.number and size > parts * AT_ONCE:
        parts *= base
    return parts


def has_batch_axes(family: Family, parameters: Blocks, dimension: int) -> bool:
    """Return whether every replicate has a λ of its own, as where an encoder computes it.

    Parameters
    ----------
    family
        Family q_λ.
    parameters
        λ, {parameter block: [*shape]}.
    dimension
        D, the number of coordinates of z.
    """
    return any(parameters[name].ndim > len(shape) for name, shape in family.shapes(dimension).items())


def weighted_scores(backend: Backend, family: Capable, parameters: Blocks, z: Array) -> Array:
    """Return q(z) ∇_λ log q(z) for states z, with all parameter blocks concatenated.

    Parameters
    ----------
    backend
        Array framework.
    family
        Family q_λ.
    parameters
        λ, {parameter block: [*shape]}.
    z
        States [..., D].
    """
    xp = backend.xp
    weight = xp.exp(family.log_density(backend, parameters, z))
    score = family.score(backend, parameters, z)
    flat = [xp.reshape(score[name], (*weight.shape, -1)) for name in family.blocks]
    return weight[..., None] * xp.concat(flat, axis=-1)


def by_block(xp: Any, shapes: dict[str, tuple[int, ...]], flat: Array) -> Blocks:
    """Split [R, P] into {parameter block: [R, *shape]}.

    Parameters
    ----------
    xp
        Array API namespace.
    shapes
        {parameter block: shape}.
    flat
        [R, P].
    """
    gradients, start = {}, 0
    for name, shape in shapes.items():
        stop = start + math.prod(shape)
        gradients[name] = xp.reshape(flat[:, start:stop], (-1, *shape))
        start = stop
    return gradients
