"""Smooth functions h of a predictor v, and their derivatives of any order, on every backend.

All derivatives are polynomials in t = tanh(v/2), since dt/dv = (1 − t²)/2 and softplus'(v) = (1 + t)/2; h itself is one
for `tanh`, which is t, and for `tanh-squared`.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.polynomial import polynomial

from gradmeter.bench.problems.arrays import Array

#: Imaginary part of the poles nearest to the real line, the same for all of these functions.
POLE = math.pi
SOFTPLUS, TANH, TANH_SQUARED = "softplus", "tanh", "tanh-squared"
#: h, or softplus', as the coefficients of a polynomial in t, lowest power first.
_POLYNOMIALS = {SOFTPLUS: (0.5, 0.5), TANH: (0.0, 1.0), TANH_SQUARED: (0.0, 0.0, 1.0)}


@functools.cache
def _coefficients(link: str, order: int) -> tuple[float, ...]:
    """Return the polynomial in t of the derivative of an order, which is at least 1 for softplus."""
    if order == (link == SOFTPLUS):
        return _POLYNOMIALS[link]
    below = np.asarray(_coefficients(link, order - 1))
    found = polynomial.polymul(polynomial.polyder(below), (0.5, 0.0, -0.5))
    return tuple(float(c) for c in found)


class Argument:
    """Values v at which links are evaluated; what their derivatives share is computed once, and only if needed."""

    def __init__(self, xp: Any, v: Array) -> None:
        self._xp, self._v = xp, v
        self._found: dict[tuple[str, int], Array] = {}

    @functools.cached_property
    def _half_tanh(self) -> Array:
        return self._xp.tanh(0.5 * self._v)

    def derivative(self, link: str, order: int) -> Array:
        """Return the derivative of h of an order, elementwise; h itself for order 0."""
        if (link, order) not in self._found:
            self._found[link, order] = self._evaluate(link, order)
        return self._found[link, order]

    def _evaluate(self, link: str, order: int) -> Array:
        xp, v = self._xp, self._v
        if link == SOFTPLUS and order == 0:
            return xp.maximum(v, xp.zeros_like(v)) + xp.log1p(xp.exp(-xp.abs(v)))
        coefficients = _coefficients(link, order)
        value = coefficients[-1] + xp.zeros_like(v)
        for coefficient in coefficients[-2::-1]:
            value = value * self._half_tanh + coefficient
        return value
