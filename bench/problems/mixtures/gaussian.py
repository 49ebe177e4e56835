"""What every method on a Gaussian mixture shares: one pass over the points, components with diagonal covariance.

Points are [N, P], of K components with means and scales (standard deviations) [K, P] and log-weights [K].
Responsibilities r_ik = p(z_i = k | x_i) are by log-sum-exp, so that no point is too far from every mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.problems.problem import LOG_2PI
from gradmeter.estimators import UsageError
from gradmeter.estimators.noise import stream_root

#: Numbers in the widest array of a pass: points × components × coordinates, what fits a core's cache.
CHUNK = 2**16


@dataclass(frozen=True)
class Pass:
    """What one pass over the points gives; moments are about the means that it was made with, so nothing cancels.

    Attributes
    ----------
    count : Σ_i r_ik [K].
    first, second : Σ_i r_ik (x_i − μ_k) and Σ_i r_ik (x_i − μ_k)² [K, P].
    log_likelihood : Σ_i log Σ_k exp(log joint).
    """

    count: np.ndarray
    first: np.ndarray
    second: np.ndarray
    log_likelihood: float


def log_sum_exp(joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of log joints [K, N]: their log-sum-exp over the components [N], and the responsibilities [K, N]."""
    largest = joint.max(axis=0)
    share = np.exp(joint - largest)
    total = share.sum(axis=0)
    share /= total
    return largest + np.log(total), share


def expect(points: np.ndarray, means: np.ndarray, scales: np.ndarray, log_weights: np.ndarray) -> Pass:
    """One pass: the E-step and the moments that every M-step needs.

    Parameters
    ----------
    points [N, P], means [K, P], scales [K, P], log_weights [K] : these may hold any constant of a component's
        log joint, and −∞ for a component that takes no part.
    """
    components = len(means)
    count, first, second = np.zeros(components), np.zeros_like(means), np.zeros_like(means)
    evidence = []
    for away, joint in _joints(points, means, scales, log_weights):
        log_likelihood, share = log_sum_exp(joint)
        evidence.append(float(log_likelihood.sum()))
        count += share.sum(axis=1)
        first += (away @ share[:, :, None])[:, :, 0]
        second += ((away * away) @ share[:, :, None])[:, :, 0]
    return Pass(count, first, second, math.fsum(evidence))


def responsibilities(points: np.ndarray, means: np.ndarray, scales: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """r [N, K]."""
    shares = [log_sum_exp(joint)[1] for _, joint in _joints(points, means, scales, log_weights)]
    return np.ascontiguousarray(np.concatenate(shares, axis=1).T)


def _joints(
    points: np.ndarray, means: np.ndarray, scales: np.ndarray, log_weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """x − μ_k [K, P, n] and log π_k + log N(x | μ_k, σ_k²) [K, n], of n points at a time and innermost, for speed."""
    components, dimension = means.shape
    constant = log_weights - np.log(scales).sum(axis=1) - 0.5 * dimension * LOG_2PI
    half_precision = -0.5 / (scales * scales)
    step = max(1, CHUNK // (components * dimension))
    for start in range(0, len(points), step):
        away = np.ascontiguousarray(points[start : start + step].T) - means[:, :, None]
        joint = (half_precision[:, None, :] @ (away * away))[:, 0, :]
        joint += constant[:, None]
        yield away, joint


def start(points: np.ndarray, components: int, seed: int) -> np.ndarray:
    """Means [K, P] to start from: points, each chosen with probability ∝ its squared distance from those before.

    Source: Arthur & Vassilvitskii 2007 (k-means++).
    """
    generator = np.random.Generator(np.random.PCG64(stream_root("mixture-start", components, seed)))
    chosen = [int(generator.integers(len(points)))]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < components:
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        total = np.cumsum(nearest)
        if not total[-1] > 0.0:
            raise UsageError(f"{components} components need as many distinct points; the data has {len(chosen)}")
        chosen.append(int(np.searchsorted(total, generator.uniform(0.0, total[-1]), side="right")))
    return points[chosen].copy()


def match(means: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The order [K] in which components come nearest to the reference's; labels mean nothing, so compare them so."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    distances = ((means[None, :, :] - reference[:, None, :]) ** 2).sum(axis=2)
    return np.asarray(linear_sum_assignment(distances)[1])


def log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max()
    return shifted - np.log(np.exp(shifted).sum())
