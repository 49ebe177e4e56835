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


def derivatives(xp: Any, link: str, v: Array, highest: int) -> list[Array]:
    """Return h and its derivatives up to the order `highest`, elementwise."""
    found, t = [], xp.tanh(0.5 * v)
    for order in range(highest + 1):
        if link == SOFTPLUS and order == 0:
            found.append(xp.maximum(v, xp.zeros_like(v)) + xp.log1p(xp.exp(-xp.abs(v))))
            continue
        coefficients = _coefficients(link, order)
        value = coefficients[-1] + xp.zeros_like(t)
        for coefficient in coefficients[-2::-1]:
            value = value * t + coefficient
        found.append(value)
    return found
