"""Linear functions of the latent variables, from which the terms of a log joint density are built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Predictor:
    """Linear functions a_nᵀz + c_n, one per row n.

    Sums, differences, and products with numbers [n] are predictors too. A predictor of one row combines with any other.

    Attributes
    ----------
    coefficients
        [n, D]
    offset
        [n]
    """

    coefficients: np.ndarray
    offset: np.ndarray

    #: Makes NumPy leave `array - predictor` and the like to this class.
    __array_ufunc__ = None

    def __len__(self) -> int:
        return len(self.offset)

    def __getitem__(self, rows: Any) -> Predictor:
        return Predictor(self.coefficients[rows], self.offset[rows])

    def __add__(self, other: Any) -> Predictor:
        if isinstance(other, Predictor):
            return Predictor(self.coefficients + other.coefficients, self.offset + other.offset)
        offset = self.offset + other
        return Predictor(np.broadcast_to(self.coefficients, (len(offset), self.coefficients.shape[1])), offset)

    __radd__ = __add__

    def __mul__(self, factor: Any) -> Predictor:
        return Predictor(self.coefficients * np.reshape(factor, (-1, 1)), self.offset * factor)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Predictor:
        return self * (1.0 / np.asarray(divisor))

    def __neg__(self) -> Predictor:
        return self * -1.0

    def __sub__(self, other: Any) -> Predictor:
        return self + (-other)

    def __rsub__(self, other: Any) -> Predictor:
        return -self + other

    def repeat(self, times: int) -> Predictor:
        """Return every row `times` times in succession."""
        return Predictor(np.repeat(self.coefficients, times, axis=0), np.repeat(self.offset, times))


def latents(*sizes: int) -> list[Predictor]:
    """Return the coordinates of z as predictors, in successive groups of these sizes."""
    unit, ends = np.eye(sum(sizes)), np.cumsum(sizes)
    return [Predictor(unit[end - size : end], np.zeros(size)) for size, end in zip(sizes, ends, strict=True)]


def linear(design: np.ndarray, weights: Predictor) -> Predictor:
    """Return design [n, P] times P predictors."""
    return Predictor(design @ weights.coefficients, design @ weights.offset)
