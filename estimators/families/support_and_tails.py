"""Support, tails and moving ends of the distribution of one coordinate, in addition to its density.

The exact integrals over one coordinate use them, and the check whether such an integral exists.
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
    """The growth of −log q(z) in a tail: as rate |z|^power.

    On that side E exp(s |z|^p) is finite for every s if p < power, for s < rate if p = power, and for no s > 0 if p >
    power. Power 0 is a tail that falls as a power of z. Infinite power is a tail that falls faster than any
    exp(−|z|^p), or an end of the support.

    Attributes
    ----------
    power
        Power of |z|.
    rate
        Factor, an array that broadcasts to [D].
    """

    power: float
    rate: Array = math.inf

    def has_moment(self, growth: Array, power: float) -> Array:
        """Return whether E exp(growth |z|^power) is finite on this side.

        Parameters
        ----------
        growth
            s, an array that broadcasts to [D].
        power
            Power p of |z|.

        Returns
        -------
        array
            Boolean, of the shape of `growth` or `rate`.
        """
        if power == self.power:
            return (growth < self.rate) | (growth <= 0.0)
        return (growth <= 0.0) | (power < self.power)


BOUNDED = Tail(math.inf)
HEAVY = Tail(0.0)


@dataclass(frozen=True)
class SupportAndTails:
    """The support and tails of the densities of D coordinates.

    Attributes
    ----------
    low, high
        Ends of the support [D], which may be infinite.
    middle, width
        A point near which the mass lies, at which the density may have its only corner, and the order of the density's
        spread, above 0 [D].
    below, above
        The lower and upper tails.
    moving
        The derivatives of low_i and high_i with respect to λ_i, by parameter block, for the blocks that move an end at
        which the density is not 0.
    mirror
        The parameters of the distribution reflected by z → low + high − z, {name: (name, sign)}; for densities that are
        singular at `high`, near which only the distance from `high` is precise.
    discrete
        Whether z is 0, 1, 2, …; `high` is then where counting may stop.
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
    """The marginal distributions of single coordinates, for expectations of Σ_i φ(z_i).

    Attributes
    ----------
    family, parameters
        Independent coordinates with these distributions; there may be more than D.
    collect
        Function of E φ for each coordinate and ∇ of each E φ by block; returns E Σ_i φ(z_i) and its ∇_λ, {block:
        [*shape]}, for the family whose marginals these are.
    logits
        Whether the distributions are those of the logits of z_i in (0, 1), instead of z_i.
    """

    family: Any
    parameters: Blocks
    collect: Callable[[Array, Blocks], tuple[float, Blocks]]
    logits: bool = False
