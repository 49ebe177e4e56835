"""Helpers for quadratures over low-dimensional latent variables: the rule, agreement of two rules, and cache keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gradmeter.bench.problems.arrays import Vectors
from gradmeter.bench.problems.problem import Exact

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


def converged(
    integrated: Callable[[int], Exact | None],
    rules: Sequence[int],
    points: Callable[[int], int],
    most: int,
    agreement: float,
) -> Exact | None:
    """Return the values of the first rule that agrees with the rule before it.

    Parameters
    ----------
    integrated : callable
        Nodes per coordinate -> values, or None where the rule is known to fail.
    rules : sequence of int
        Nodes per coordinate of the rules, ascending.
    points : callable
        Nodes per coordinate -> number of evaluations, of which a rule may have at most `most`.
    most
        Largest number of evaluations of a rule.
    agreement : float
        As for `agree`.

    Returns
    -------
    Exact or None
        None if no two rules agree, if a rule fails, or if only one is affordable, which has no error estimate.
    """
    affordable = [nodes for nodes in rules if points(nodes) <= most]
    found: Exact | None = None
    for nodes in affordable if len(affordable) > 1 else ():
        before, found = found, integrated(nodes)
        if found is None:
            return None
        if before is not None and agree(found.gradient, before.gradient, agreement):
            return found
    return None


def key_of(parameters: Vectors) -> Key:
    """Convert parameters to a hashable key."""
    arrays = {name: np.asarray(a, dtype=np.float64) for name, a in parameters.items()}
    return tuple((name, a.shape, a.tobytes()) for name, a in arrays.items())


def parameters_of(key: Key) -> Vectors:
    """Convert a key back to parameters, as read-only arrays."""
    return {name: np.frombuffer(numbers).reshape(shape) for name, shape, numbers in key}
