"""Sums of whole numbers, which are exact in any order: whatever form a backend gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradmeter.estimators.backends.backend import Backend

SHAPES = ((3, 1), (1, 7), (2, 3, 5), (2, 0, 3), (2, 300))


@pytest.mark.parametrize("dtype", ["float64", "int32"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.matrix
def test_sum(backend: Backend, shape: tuple[int, ...], dtype: str) -> None:
    """Along every axis and all of them, with the axis kept or not."""
    whole = np.random.default_rng(1).integers(-50, 50, shape)
    x, sums = backend.asarray(whole, dtype), backend.xp.sum
    for axis in (None, *range(-len(shape), len(shape))):
        for keepdims in (False, True):
            found = backend.to_numpy(sums(x, axis=axis, keepdims=keepdims))
            np.testing.assert_array_equal(found, whole.sum(axis=axis, keepdims=keepdims))
            assert found.dtype.kind == np.dtype(dtype).kind


def test_sum_of_infinite_numbers(backend: Backend) -> None:
    x = backend.asarray([[1.0, np.inf], [-np.inf, 5.0], [np.nan, 0.0], [2.0, 3.0]], "float64")
    np.testing.assert_array_equal(backend.to_numpy(backend.xp.sum(x, axis=-1)), [np.inf, -np.inf, np.nan, 5.0])


@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (3, 400)])
def test_matrix_sum(backend: Backend, eager: None, shape: tuple[int, int]) -> None:
    """Compiled, in either order in memory."""
    whole = np.random.default_rng(2).integers(-50, 50, shape)

    def both(x: Any) -> Any:
        flipped = backend.xp.matrix_transpose(x)
        return [(backend.matrix_sum(x, axis), backend.matrix_sum(flipped, 1 - axis)) for axis in (0, 1)]

    for axis, sums in enumerate(backend.compile(both)(backend.asarray(whole, "float32"))):
        for found in sums:
            np.testing.assert_array_equal(backend.to_numpy(found), whole.sum(axis=axis))
