"""Array operations that several problems share; `xp` is the array API namespace of a backend."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
#: Arrays of any backend, and of NumPy, by name.
Arrays = dict[str, Array]
Vectors = dict[str, np.ndarray]


def times(xp: Any, left: Array, matrix: Array) -> Array:
    """Return an array times a matrix, as one large product for all batch axes.

    A matrix per replicate [R, K, M] is multiplied with left [R, S, K].

    Parameters
    ----------
    xp
        Array API namespace.
    left
        [..., K], or [R, S, K] with a matrix for each replicate.
    matrix
        [K, M], or [R, K, M].
    """
    if matrix.ndim == 3:
        return xp.matmul(left, matrix)
    flat = xp.matmul(xp.reshape(left, (-1, left.shape[-1])), matrix)
    return xp.reshape(flat, (*left.shape[:-1], matrix.shape[-1]))


def gathered(xp: Any, table: Array, rows: Array) -> Array:
    """Return the rows of a table [N, P] of numbers [R, B] as [R, B, P].

    Parameters
    ----------
    xp
        Array API namespace.
    table
        [N, P].
    rows
        Row numbers [R, B].
    """
    return xp.reshape(xp.take(table, xp.reshape(rows, (-1,)), axis=0), (*rows.shape, table.shape[1]))


def log_sum_exp(xp: Any, joint: Array) -> tuple[Array, Array]:
    """Return the log-sum-exp over components (axis −2) [..., rows] and the responsibilities [..., K, rows]."""
    largest = xp.max(joint, axis=-2, keepdims=True)
    share = xp.exp(joint - largest)
    total = xp.sum(share, axis=-2, keepdims=True)
    return (largest + xp.log(total))[..., 0, :], share / total


def log_softmax(xp: Any, logits: Array) -> Array:
    """Return the logarithm of the softmax over the last axis."""
    shifted = logits - xp.max(logits, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


def oriented(axes: np.ndarray) -> np.ndarray:
    """Return axes [M, P] with the sign of each such that its largest entry is positive, the same on every machine."""
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return axes * np.where(largest < 0.0, -1.0, 1.0)
