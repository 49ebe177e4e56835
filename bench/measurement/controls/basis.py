"""Functions of one number of noise that are orthonormal under its distribution: each has mean 0 and variance 1.

The distribution is that of the generator and nothing else. No family, estimator or model of f enters, so everything
built from these functions has a known mean whether or not the measured estimator is correct.

    normal        Hermite polynomials
    exponential   Laguerre polynomials
    rayleigh      polynomials in w itself, for the weight w exp(−w²/2): f may grow like odd powers of w
    maxwell       generalised Hermite polynomials (for the weight m² exp(−m²/2))
    uniform, stratum   Legendre polynomials; with discontinuities, polynomials in how many of them lie below the number
    rademacher    the number itself

The polynomials are computed from the moments by the Gram–Schmidt process in rational arithmetic.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

Array = Any

#: √(π/2) = E w of Rayleigh noise, to 40 digits.
ROOT_HALF_PI = Fraction("1.2533141373155002512078826424055226265034")
#: E xⁿ, by kind of noise.
MOMENTS: dict[str, Callable[[int], Fraction]] = {
    "normal": lambda n: Fraction(0 if n % 2 else math.prod(range(1, n, 2))),
    "exponential": lambda n: Fraction(math.factorial(n)),
    "rayleigh": lambda n: math.prod(range(n, 0, -2)) * (ROOT_HALF_PI if n % 2 else Fraction(1)),
    "maxwell": lambda n: Fraction(0 if n % 2 else math.prod(range(1, n + 2, 2))),
    "uniform": lambda n: Fraction(1, n + 1),
    "stratum": lambda n: Fraction(1, n + 1),
    "rademacher": lambda n: Fraction(0 if n % 2 else 1),
}
#: Largest number of functions of a number with two values.
TWO_VALUED = {"rademacher": 1}
#: Kinds with a mirror image of the same distribution (`gradmeter.estimators.noise.mirror`).
MIRRORED = ("normal", "maxwell", "uniform", "rademacher", "exponential")
#: Most discontinuities of a number that are distinguished.
MOST_JUMPS = 16


@functools.lru_cache(maxsize=64)
def polynomials(kind: str, degree: int) -> tuple[tuple[float, ...], ...]:
    """Return coefficients c_0, c_1, … of orthonormal polynomials of degree 1 to `degree` (1 if two-valued)."""
    moment = MOMENTS[kind]

    def product(one: list[Fraction], other: list[Fraction]) -> Fraction:
        return sum((a * b * moment(i + j) for i, a in enumerate(one) for j, b in enumerate(other)), Fraction(0))

    found: list[tuple[list[Fraction], Fraction]] = [([Fraction(1)], Fraction(1))]
    for order in range(1, min(degree, TWO_VALUED.get(kind, degree)) + 1):
        new = [Fraction(0)] * order + [Fraction(1)]
        for old, square in found:
            share = product(new, old) / square
            new = [a - share * (old[i] if i < len(old) else 0) for i, a in enumerate(new)]
        found.append((new, product(new, new)))
    return tuple(tuple(float(a) / math.sqrt(square) for a in each) for each, square in found[1:])


@dataclass(frozen=True)
class Basis:
    """Orthonormal functions of the numbers of one name of noise.

    Attributes
    ----------
    kind
        Kind of the noise.
    degree
        Number of functions.
    jumps
        J, discontinuities of each number; 0 for polynomials in the number itself.
    coefficients
        Coefficients of those polynomials (`polynomials`).
    """

    kind: str
    degree: int
    discontinuities: int = 0
    coefficients: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def smooth(cls, kind: str, degree: int) -> Basis:
        """Return the basis of polynomials in the number itself."""
        found = polynomials(kind, degree)
        return cls(kind, len(found), 0, found)

    def __call__(self, xp: Any, x: Array, steps: dict[str, Array]) -> list[Array]:
        """Evaluate φ_1, φ_2, … at x [..., m], each of its shape; `steps` from `stepped` where there are jumps."""
        if self.discontinuities:
            at, rise = steps["at"], steps["rise"]  # [J, m], [degree, J + 1, m]
            found = []
            above = [xp.astype(x >= at[j], x.dtype) for j in range(self.discontinuities)]
            for k in range(self.degree):
                value = rise[k, 0] + xp.zeros_like(x)
                for j in range(self.discontinuities):
                    value = value + rise[k, j + 1] * above[j]
                found.append(value)
            return found
        found = []
        for coefficients in self.coefficients:
            value = coefficients[-1] * xp.ones_like(x)
            for c in reversed(coefficients[:-1]):
                value = value * x + c
            found.append(value)
        return found


def stepped(at: np.ndarray, degree: int, dtype: str) -> tuple[int, dict[str, np.ndarray]]:
    """Return orthonormal polynomials in how many discontinuities lie below a uniform number, as step functions of it.

    Parameters
    ----------
    at
        Discontinuities of every number [m, J]; they are rounded to the dtype that the number is compared in.
    degree
        Number of functions for each number.
    dtype
        `float64` or `float32`.

    Returns
    -------
    The number of functions, and {"at": [J, m], "rise": [degree, J + 1, m]}: the value on the first subinterval, then
    the increment at every discontinuity. For a number with fewer subintervals the surplus functions are 0.
    """
    inside = np.where((at > 0.0) & (at < 1.0), at, 1.0)
    ends = np.sort(inside, axis=1)[:, :MOST_JUMPS].astype(dtype).astype(np.float64)
    ends = ends[:, : max(1, int(np.max(np.sum(ends < 1.0, axis=1))))]
    m, discontinuities = ends.shape
    edges = np.concatenate([np.zeros((m, 1)), ends, np.ones((m, 1))], axis=1)
    p = np.maximum(np.diff(edges, axis=1), 0.0)  # [m, J + 1]
    index = np.broadcast_to(np.arange(discontinuities + 1.0), p.shape)
    found: list[np.ndarray] = [np.ones_like(p)]
    for order in range(1, min(degree, discontinuities) + 1):
        new = index**order
        for _ in range(2):  # orthogonalise twice, against rounding
            for old in found:
                new = new - np.sum(p * new * old, axis=1, keepdims=True) * old
        norm = np.sqrt(np.sum(p * new * new, axis=1, keepdims=True))
        found.append(np.where(norm > 1e-9, new / np.where(norm > 1e-9, norm, 1.0), 0.0))
    values = np.stack(found[1:])  # [degree, m, J + 1]
    rise = np.concatenate([values[..., :1], np.diff(values, axis=2)], axis=2)
    return len(values), {"at": np.ascontiguousarray(ends.T), "rise": np.ascontiguousarray(np.swapaxes(rise, 1, 2))}
