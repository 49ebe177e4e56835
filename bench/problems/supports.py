"""Constrained latent variables as functions of unconstrained ones, with the logarithm of the Jacobian determinant.

If x = T(z) with T one-to-one, the density of z is that of x times |det ∂T/∂z|.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import unknown

Array = Any


class Support(Protocol):
    """A set of values, and a map onto it."""

    def size(self, shape: tuple[int, ...]) -> int:
        """Return how many unconstrained numbers an array of this shape takes."""
        ...

    def constrain(self, xp: Any, z: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Return x [..., *shape] at z [..., size], and log |det ∂x/∂z| [...]."""
        ...

    def unconstrain(self, x: np.ndarray) -> np.ndarray:
        """Return the z [size] that is mapped to x; NaN where x is not in the set."""
        ...


def _softplus(xp: Any, z: Array) -> Array:
    return xp.logaddexp(z, xp.zeros_like(z))


@dataclass(frozen=True)
class Interval:
    """The numbers between two ends, which are None where there is none.

    x = z without ends; low + exp z or high − exp z with one; low + (high − low) sigmoid z with two.
    """

    low: float | None = None
    high: float | None = None

    def size(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape)

    def constrain(self, xp: Any, z: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        if self.low is None and self.high is None:
            x, logarithms = z, xp.zeros_like(z)
        elif self.high is None:
            x, logarithms = self.low + xp.exp(z), z
        elif self.low is None:
            x, logarithms = self.high - xp.exp(z), z
        else:
            above, below = -_softplus(xp, -z), -_softplus(xp, z)
            width = self.high - self.low
            x, logarithms = self.low + width * xp.exp(above), math.log(width) + above + below
        return xp.reshape(x, (*z.shape[:-1], *shape)), xp.sum(logarithms, axis=-1)

    def unconstrain(self, x: np.ndarray) -> np.ndarray:
        flat = np.ravel(x)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.low is None and self.high is None:
                return flat
            if self.high is None:
                return np.log(flat - self.low)
            if self.low is None:
                return np.log(self.high - flat)
            return np.log(flat - self.low) - np.log(self.high - flat)


@dataclass(frozen=True)
class Simplex:
    """Positive numbers along the last axis that sum to 1, by breaking a stick of length 1.

    x_k = s_k Π_{j<k} (1 − s_j) with s_k = sigmoid(z_k − log(K − k)) for k < K, so that z = 0 gives equal parts.
    """

    def size(self, shape: tuple[int, ...]) -> int:
        return math.prod(shape[:-1]) * (shape[-1] - 1)

    def constrain(self, xp: Any, z: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
        parts, leading = shape[-1], z.shape[:-1]
        z = xp.reshape(z, (*leading, *shape[:-1], parts - 1))
        offset = xp.asarray(np.log(np.arange(parts - 1, 0, -1.0)), dtype=z.dtype)
        broken, left = -_softplus(xp, offset - z), -_softplus(xp, z - offset)
        after = xp.cumulative_sum(left, axis=-1)
        before = after - left
        x = xp.exp(xp.concat([broken + before, after[..., -1:]], axis=-1))
        logarithms = xp.reshape(broken + left + before, (*leading, -1))
        return x, xp.sum(logarithms, axis=-1)

    def unconstrain(self, x: np.ndarray) -> np.ndarray:
        if x.ndim == 0 or not np.allclose(x.sum(axis=-1), 1.0):
            return np.full(1, np.nan)
        parts = x.shape[-1]
        left = 1.0 - np.cumsum(x, axis=-1)[..., :-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.ravel(np.log(x[..., :-1]) - np.log(left) + np.log(np.arange(parts - 1, 0, -1.0)))


#: Supports by name.
SUPPORTS: dict[str, Support] = {
    "real": Interval(),
    "positive": Interval(low=0.0),
    "unit-interval": Interval(0.0, 1.0),
    "simplex": Simplex(),
}


def support_of(name: str, given: Any) -> Support:
    """Return the support that a user gave a parameter: a name, or the two ends of an interval, None for none.

    Raises
    ------
    UsageError
        It is neither.
    """
    if isinstance(given, str):
        if given not in SUPPORTS:
            raise unknown(f"support of {name}", given, SUPPORTS)
        return SUPPORTS[given]
    try:
        low, high = (None if end is None or math.isinf(end) else float(end) for end in given)
    except (TypeError, ValueError):
        raise UsageError(
            f"the support of {name} is {given!r:.60}; it must be {', '.join(SUPPORTS)} or (low, high)"
        ) from None
    if low is not None and high is not None and not low < high:
        raise UsageError(f"the support of {name} is ({low:g}, {high:g}); low must be below high")
    return Interval(low, high)


@dataclass(frozen=True)
class Part:
    """One named array of latent variables: its shape, its support, and its place in z."""

    name: str
    shape: tuple[int, ...]
    support: Support
    first: int
    size: int


@dataclass(frozen=True)
class Layout:
    """The order of named arrays in z [D]."""

    parts: tuple[Part, ...]

    @property
    def dimension(self) -> int:
        return sum(part.size for part in self.parts)

    def constrain(self, xp: Any, z: Array) -> tuple[dict[str, Array], Array]:
        """Return the arrays [..., *shape] at z [..., D] by name, and log |det ∂x/∂z| [...]."""
        arrays, total = {}, xp.zeros_like(z[..., 0])
        for part in self.parts:
            own = z[..., part.first : part.first + part.size]
            arrays[part.name], logarithm = part.support.constrain(xp, own, part.shape)
            total = total + logarithm
        return arrays, total

    def name_of(self, coordinate: int) -> str:
        """Return the name of the array that a coordinate of z belongs to, with its place there."""
        part = next(p for p in self.parts if coordinate < p.first + p.size)
        return part.name if part.size == 1 else f"{part.name}[{coordinate - part.first}]"


def lay_out(point: Mapping[str, np.ndarray], supports: Mapping[str, Any]) -> tuple[Layout, np.ndarray]:
    """Return the layout of named arrays, in their order, and z [D] at the given values.

    Raises
    ------
    UsageError
        A support is no support, is of no parameter, or does not contain the value.
    """
    _known("supports", supports, point)
    parts, values, first = [], [], 0
    for name, array in point.items():
        given = supports.get(name, "real")
        support = support_of(name, given)
        z = support.unconstrain(array)
        if not np.all(np.isfinite(z)):
            at = f"{array:g}" if array.ndim == 0 else f"an array from {array.min():g} to {array.max():g}"
            raise UsageError(f"parameter {name} is {at}, which is not inside its support {given}")
        parts.append(Part(name, array.shape, support, first, support.size(array.shape)))
        values.append(z)
        first += parts[-1].size
    return Layout(tuple(parts)), np.concatenate(values)


def _known(what: str, given: Iterable[str], names: Iterable[str]) -> None:
    for name in given:
        if name not in names:
            raise unknown(f"{what}: parameter", name, names)
