"""What quadratures over a latent variable of few coordinates share: the rule, when two rules agree, keys of a cache."""

from __future__ import annotations

import numpy as np

from gradmeter.bench.problems.problem import Vectors

#: How far out the rule reaches, in standard deviations.
REACH = 8.0

Key = tuple[tuple[str, tuple[int, ...], bytes], ...]


def normal_rule(nodes: int, coordinates: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [M, D] and probability weights [M] of N(0, I): a trapezoid rule of so many nodes for each coordinate."""
    x = np.linspace(-REACH, REACH, nodes)
    w = np.exp(-0.5 * x * x)
    points = np.stack(np.meshgrid(*[x] * coordinates, indexing="ij"), axis=-1).reshape(-1, coordinates)
    weights = np.prod(np.stack(np.meshgrid(*[w / w.sum()] * coordinates, indexing="ij")), axis=0).ravel()
    return points, weights


def agree(found: Vectors, before: Vectors, agreement: float) -> bool:
    """Whether no number differs by more than `agreement` of its block's largest, or of 1."""
    return all(
        bool(np.abs(g - before[name]).max() <= agreement * max(1.0, float(np.abs(g).max())))
        for name, g in found.items()
    )


def key_of(parameters: Vectors) -> Key:
    """Parameters as something that can be hashed."""
    arrays = {name: np.asarray(a, dtype=np.float64) for name, a in parameters.items()}
    return tuple((name, a.shape, a.tobytes()) for name, a in arrays.items())


def parameters_of(key: Key) -> Vectors:
    """The parameters again, read-only."""
    return {name: np.frombuffer(numbers).reshape(shape) for name, shape, numbers in key}
