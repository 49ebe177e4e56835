"""One pass over the points of a Gaussian mixture with diagonal covariances, shared by all methods, and helpers.

Points are [N, P]; K components have means and scales (standard deviations) [K, P] and log weights [K].
Responsibilities r_ik = p(z_i = k | x_i) use log-sum-exp, so that points far from every mean do not underflow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.problems.arrays import log_sum_exp
from gradmeter.bench.problems.problem import LOG_2PI
from gradmeter.estimators import UsageError
from gradmeter.estimators.noise import stream_root

#: Elements of the largest array in a pass (points × components × coordinates), chosen to fit a core's cache.
CHUNK = 2**16


@dataclass(frozen=True)
class Pass:
    """Results of one pass over the points; moments are about the means of that pass, which avoids cancellation.

    Attributes
    ----------
    count : [K]
        Σ_i r_ik.
    first, second : [K, P]
        Σ_i r_ik (x_i − μ_k) and Σ_i r_ik (x_i − μ_k)².
    log_likelihood : float
        Σ_i log Σ_k exp(log joint).
    """

    count: np.ndarray
    first: np.ndarray
    second: np.ndarray
    log_likelihood: float


def expect(points: np.ndarray, means: np.ndarray, scales: np.ndarray, log_weights: np.ndarray) -> Pass:
    """Run one pass: the E-step and the moments that every M-step needs.

    Parameters
    ----------
    points, means, scales : [N, P], [K, P], [K, P]
        Data, means and standard deviations.
    log_weights : [K]
        Log weights. These may include any constant of a component's log joint, and are −∞ for an unused component.
    """
    components = len(means)
    count, first, second = np.zeros(components), np.zeros_like(means), np.zeros_like(means)
    evidence = []
    for away, joint in _joints(points, means, scales, log_weights):
        log_likelihood, share = log_sum_exp(np, joint)
        evidence.append(float(log_likelihood.sum()))
        count += share.sum(axis=1)
        first += (away @ share[:, :, None])[:, :, 0]
        second += ((away * away) @ share[:, :, None])[:, :, 0]
    return Pass(count, first, second, math.fsum(evidence))


def responsibilities(points: np.ndarray, means: np.ndarray, scales: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """Return the responsibilities r [N, K]."""
    shares = [log_sum_exp(np, joint)[1] for _, joint in _joints(points, means, scales, log_weights)]
    return np.ascontiguousarray(np.concatenate(shares, axis=1).T)


def _joints(
    points: np.ndarray, means: np.ndarray, scales: np.ndarray, log_weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield x − μ_k [K, P, n] and log π_k + log N(x | μ_k, σ_k²) [K, n] for chunks of n points, innermost for speed."""
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
    """Draw initial means [K, P] from the points, with probability ∝ squared distance to the nearest mean so far.

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
    """Return the permutation [K] that best matches the components to the reference; component labels are arbitrary."""
    from scipy.optimize import linear_sum_assignment  # slow to import

    distances = ((means[None, :, :] - reference[:, None, :]) ** 2).sum(axis=2)
    return np.asarray(linear_sum_assignment(distances)[1])
