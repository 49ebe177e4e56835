"""The likelihood of a mixture and its gradient, from one E-step."""

from __future__ import annotations

import numpy as np

from gradmeter.bench.problems.arrays import log_softmax
from gradmeter.bench.problems.mixtures.gaussian import expect


def marginal_gradient(
    points: np.ndarray, means: np.ndarray, log_scales: np.ndarray, weight_logits: np.ndarray
) -> tuple[float, dict[str, np.ndarray]]:
    """log p(x) of a mixture with weights softmax(weight_logits), and its gradient by block, from one E-step.

    Fisher's identity: ∇ log p(x) = E_{p(z|x)} ∇ log p(x, z).
    """
    log_weights = log_softmax(np, weight_logits)
    scales = np.exp(log_scales)
    found = expect(points, means, scales, log_weights)
    return found.log_likelihood, {
        "means": found.first / scales**2,
        "log_scales": found.second / scales**2 - found.count[:, None],
        "weight_logits": found.count - len(points) * np.exp(log_weights),
    }
