"""What is known of the law of one coordinate beside its density: where it lies, how its tails fall, how its ends move.

Exact integrals over one coordinate rest on it, and the question which of them exist.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Array = Any
Blocks = dict[str, Array]


@dataclass(frozen=True)
class Tail:
    """How −log q(z) grows far out: as rate |z|^power.

    E exp(s |z|^p) is finite on that side for every s where p < power, for s < rate where p = power, and for no s > 0
    where p > power. Power 0 is a tail that falls as a power of z; infinite power, one that falls faster than any
    exp(−|z|^p), or an end of the support.
    """

    power: float
    rate: Array = math.inf

    def bears(self, growth: Array, power: float) -> Array:
        """Whether E exp(growth |z|^power) is finite on this side."""
        if power == self.power:
            return (growth < self.rate) | (growth <= 0.0)
        return (growth <= 0.0) | (power < self.power)


BOUNDED = Tail(math.inf)
HEAVY = Tail(0.0)


@dataclass(frozen=True)
class Outline:
    """Of the densities of D coordinates.

    Attributes
    ----------
    low, high : ends of the support [D], infinite ones included.
    middle, width : a place between them near which the mass lies, where the density may have its one corner; and the
        order of its spread, above 0 [D].
    below, above : the tails.
    moving : by parameter block, what ∂λ_i moves low_i and high_i by; of the blocks that move an end at which the
        density is not 0, and of no others.
    mirror : which blocks and which sign of them the blocks are, {name: (name, sign)}, where z becomes low + high − z;
        of densities that are singular at `high`, near which only distances from it are precise.
    discrete : z is 0, 1, 2, …; `high` is where counting may stop.
    """

    low: Array
    middle: Array
    high: Array
    width: Array
    below: Tail = BOUNDED
    above: Tail = BOUNDED
    moving: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)
    mirror: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    discrete: bool = False


class Marginals(NamedTuple):
    """The laws of single coordinates, for expectations of Σ_i φ(z_i).

    Attributes
    ----------
    family, parameters : independent coordinates with these laws; they may be more than D.
    collect : (E φ of each, ∇ of each E φ by block) -> E Σ_i φ(z_i), and its ∇_λ {block: [*shape]} in the family
        whose marginals these are.
    logits : whether the laws are those of the logits of z_i in (0, 1), not of z_i itself.
    """

    family: Any
    parameters: Blocks
    collect: Callable[[Array, Blocks], tuple[float, Blocks]]
    logits: bool = False
