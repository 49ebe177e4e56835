"""Unordered-set estimator: S distinct states, drawn without replacement.

Approximates   ∇_λ E_{q_λ}[f(z)]
with           Σ_{z ∈ C} q(z) R(C, z) (f(z) − b_z) ∇_λ log q_λ(z),     R(C, z) = P(C \\ {z} | z drawn first)/P(C),
               C the set of S states drawn one after another without replacement, P(C) its probability in any order
               b_z = Σ_{z′ ∈ C} q(z′) R_z(C, z′) f(z′),     R_z = R if z was drawn first, and R_z(C, z) = 1
requires       finitely many states; nothing of f. S is at most `MOST_DRAWN`, and at most the number of states.

It is the conditional expectation, given C but not its order, of the score function at the first draw, so no state is
evaluated twice. b_z estimates E f from the others, given that z was drawn first. If C is all states, the estimate is
exact.

P is computed over subsets: with A ⊂ C drawn already, the rest of C follows with probability
h(A) = Σ_{z ∈ C \\ A} q(z)/(1 − q(A)) h(A ∪ {z}), h(C) = 1. So R(C, z) = h({z})/h(∅) and R_z(C, z′) = h({z, z′})/h({z}).

Source: Kool, van Hoof & Welling 2020, equations 10 to 18.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gradmeter.estimators import backends
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.enumeration import has_batch_axes, no_sample, zero_sample
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.estimator import Blocks, Estimator, Requires, dtype_of, spread
from gradmeter.estimators.expectation import Array, Expectation
from gradmeter.estimators.families import Family
from gradmeter.estimators.families.capabilities import Capable, require
from gradmeter.estimators.noise import DrawnNoise, Noise
from gradmeter.estimators.options import option

#: The largest number of states, whose probabilities every replicate needs.
MOST = 2**10
#: The largest S: the probability of a set is a sum over its 2^S subsets.
MOST_DRAWN = 8
#: The largest number of discontinuities of one number of noise that are listed.
MOST_JUMPS = 2**10


@dataclass(frozen=True)
class UnorderedSet(Estimator):
    """The unordered-set estimator; `baseline=built-in` subtracts b_z."""

    name: ClassVar[str] = "unordered-set"
    summary: ClassVar[str] = "S distinct states, drawn without replacement, each weighted for any order of drawing"
    requires: ClassVar[Requires] = Requires(("score", "states"))

    baseline: str = option("built-in", "what is subtracted from f", choices=("built-in", "none"))

    def check_settings(self, family: Family, entropy: str, num_samples: int, dimension: int) -> None:
        states = require(family, "states").states(dimension)
        states.check(self.name, MOST)
        most = min(MOST_DRAWN, states.number)
        if not self.smallest_num_samples() <= num_samples <= most:
            raise NotApplicable(
                f"{self.name} draws {num_samples} different states of {states.number}; samples must be "
                f"{self.smallest_num_samples()} to {most} here"
            )

    def smallest_num_samples(self) -> int:
        return 2 if self.baseline == "built-in" else 1

    def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
        drawn = {"drawn": Noise("uniform", (num_samples,))}
        return {**no_sample(dimension), **drawn, **expectation.noise_specs()}

    def discontinuities(
        self, expectation: Expectation, parameters: Blocks, num_samples: int, dimension: int
    ) -> dict[str, np.ndarray]:
        """Return the ends of the subintervals of every draw, for every set of states drawn before."""
        _, q = _listed(backends.get("numpy"), expectation.family, parameters, dimension, "float64")
        found: list[np.ndarray] = []
        for before in range(num_samples):
            ends: list[np.ndarray] = []
            for gone in itertools.combinations(range(len(q)), before):
                if len(ends) * len(q) > MOST_JUMPS:
                    raise NotApplicable(f"{self.name} jumps at too many values of its noise to list them")
                mass = np.cumsum(np.where(np.isin(np.arange(len(q)), gone), 0.0, q))
                ends.append(mass[:-1] / mass[-1])
            found.append(np.unique(np.concatenate(ends)))
        longest = max(len(each) for each in found)
        padded = [np.concatenate([each, np.full(longest - len(each), each[-1])]) for each in found]
        return {"drawn": np.stack(padded)}

    def estimate_integrand(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> Blocks:
        return self.estimate_and_samples(backend, expectation, parameters, noise, state)[0]

    def estimate_and_samples(
        self, backend: Backend, expectation: Expectation, parameters: Blocks, noise: DrawnNoise, state: Blocks
    ) -> tuple[Blocks, Array, Array]:
        """Return the estimate with the distinct states and their weights q(z) R(C, z)."""
        xp, family = backend.xp, expectation.family
        dimension = noise["nothing"].shape[-1]
        replicate = zero_sample(xp, noise) if has_batch_axes(family, parameters, dimension) else None
        states, q = _listed(backend, family, parameters, dimension, dtype_of(noise["drawn"]), replicate)
        place, left = _without_replacement(backend, q, noise["drawn"])
        z = xp.reshape(xp.take(states, xp.reshape(place, (-1,)), axis=0), (*place.shape, dimension))
        if replicate is None:
            p = xp.reshape(xp.take(q, xp.reshape(place, (-1,))), place.shape)
        else:
            here = place[..., None] == backend.asarray(range(q.shape[-1]), None)
            p = xp.sum(xp.where(here, q[:, None, :], xp.zeros_like(q[:, None, :])), axis=-1)
        whole, first, second = _leaving_out(backend, p, left)
        f = expectation.value(backend, parameters, z, noise)
        weight = p * first / whole[:, None]
        value = f
        if self.baseline == "built-in":
            value = f - xp.sum((p * f)[:, None, :] * second / first[..., None], axis=-1)
        gradients = {
            name: xp.sum(spread(weight * value, s) * s, axis=1)
            for name, s in family.score(backend, parameters, z).items()
        }
        return gradients, z, weight


def _listed(
    backend: Backend, family: Capable, parameters: Blocks, dimension: int, dtype: str, replicate: Array | None = None
) -> tuple[Array, Array]:
    """Return all states [N, D] and their probabilities [N].

    Parameters
    ----------
    replicate
        Zeros [R, 1, D] where every replicate has a λ of its own; the probabilities are then [R, N].
    """
    z = family.states(dimension).listed(backend, dtype)
    each = z if replicate is None else z + replicate
    return z, backend.xp.exp(family.log_density(backend, parameters, each))


def _without_replacement(backend: Backend, q: Array, uniform: Array) -> tuple[Array, Array]:
    """Draw states by the inverse CDF of those that are left.

    Returns
    -------
    place
        The numbers of the drawn states [R, S].
    left
        The probability of all other states [R].
    """
    xp = backend.xp
    numbers = backend.asarray(range(q.shape[-1]), None)
    last = 1.0 - 2.0 * float(xp.finfo(uniform.dtype).eps)  # else rounding may choose beyond the last state
    uniform = xp.where(uniform < last, uniform, xp.full_like(uniform, last))
    mass, places = q + xp.zeros_like(uniform[:, :1]), []
    for i in range(uniform.shape[1]):
        passed = xp.cumulative_sum(mass, axis=-1)
        reached = uniform[:, i : i + 1] * passed[:, -1:] >= passed[:, :-1]
        place = xp.sum(xp.astype(reached, numbers.dtype), axis=-1)
        mass = xp.where(place[:, None] == numbers, xp.zeros_like(mass), mass)
        places.append(place)
    return xp.stack(places, axis=1), xp.sum(mass, axis=-1)


@functools.cache
def _subsets(size: int) -> list[tuple[list[list[float]], list[list[int]], list[list[int]]]]:
    """Return for every number of elements below `size` how its subsets grow by one.

    Returns
    -------
    list
        Of: the indicators of the elements that each subset lacks [M, size]; the elements that may be added [M, size −
        m]; and the place of each resulting subset among those of m + 1 elements [M, size − m].
    """
    found = []
    for m in range(size):
        chosen = list(itertools.combinations(range(size), m))
        larger = {subset: i for i, subset in enumerate(itertools.combinations(range(size), m + 1))}
        lacks = [[j for j in range(size) if j not in subset] for subset in chosen]
        grown = [
            [larger[tuple(sorted((*subset, j)))] for j in more] for subset, more in zip(chosen, lacks, strict=True)
        ]
        outside = [[float(j not in subset) for j in range(size)] for subset in chosen]
        found.append((outside, lacks, grown))
    return found


def _leaving_out(backend: Backend, p: Array, left: Array) -> tuple[Array, Array, Array]:
    """Return h(∅) [R], h({z}) for every z in C [R, S], and h({z, z′}) [R, S, S], where h({z, z}) is h({z}).

    Parameters
    ----------
    p
        The probabilities of the states in C [R, S].
    left
        The probability of the states outside C [R].
    """
    xp, size = backend.xp, p.shape[1]
    levels = {size: xp.ones_like(p[:, :1])}
    for m in reversed(range(size)):
        outside, lacks, grown = _subsets(size)[m]
        rest = left[:, None] + xp.matmul(p, xp.matrix_transpose(backend.asarray(outside, dtype_of(p))))
        added, following = _taken(backend, p, lacks), _taken(backend, levels[m + 1], grown)
        levels[m] = xp.sum(added * following, axis=-1) / rest
    first = levels[1]
    if size == 1:
        return levels[0][:, 0], first, first[..., None]
    pairs = {pair: i for i, pair in enumerate(itertools.combinations(range(size), 2))}
    at = [[pairs.get((min(a, b), max(a, b)), 0) for b in range(size)] for a in range(size)]
    second = _taken(backend, levels[2], at)
    numbers = backend.asarray(range(size), None)
    same = xp.astype(numbers[:, None] == numbers, p.dtype)
    return levels[0][:, 0], first, same * first[..., None] + (1.0 - same) * second


def _taken(backend: Backend, values: Array, places: list[list[int]]) -> Array:
    """Return the values [R, N] at a table of places [M, K], as [R, M, K]."""
    flat = backend.asarray([place for row in places for place in row], None)
    return backend.xp.reshape(backend.xp.take(values, flat, axis=1), (values.shape[0], len(places), -1))
