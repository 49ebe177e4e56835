"""Helpers for quadratures over low-dimensional latent variables: the rule, agreement of two rules, and cache keys."""

from __future__ import annotations

import numpy as np

from gradmeter.bench.problems.problem import Vectors

#: How far the rule extends, in standard deviations.
REACH = 8.0

Key = tuple[tuple[str, tuple[int, ...], bytes], ...]


def normal_rule(nodes: int, coordinates: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points [M, D] and probability weights [M] of a product trapezoidal rule for N(0, I).

    `nodes` is the number of nodes per coordinate, so M = nodes^coordinates.
    """
    x = np.linspace(-REACH, REACH, nodes)
    w = np.exp(-0.5 * x * x)
    points = np.stack(np.meshgrid(*[x] * coordinates, indexing="ij"), axis=-1).reshape(-1, coordinates)
    weights = np.prod(np.stack(np.meshgrid(*[w / w.sum()] * coordinates, indexing="ij")), axis=0).ravel()
    return points, weights


def agree(found: Vectors, before: Vectors, agreement: float) -> bool:
    """Return whether no number differs by more than `agreement`, relative to the largest of its block or to 1."""
    return all(
        bool(np.abs(g - before[name]).max() <= agreement * max(1.0, float(np.abs(g).max())))
        for name, g in found.items()
    )


def key_of(parameters: Vectors) -> Key:
    """Convert parameters to a hashable key."""
    arrays = {name: np.asarray(a, dtype=np.float64) for name, a in parameters.items()}
    return tuple((name, a.shape, a.tobytes()) for name, a in arrays.items())


def parameters_of(key: Key) -> Vectors:
    """Convert a key back to parameters, as read-only arrays."""
    return {name: np.frombuffer(numbers).reshape(shape) for name, shape, numbers in key}
