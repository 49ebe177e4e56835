"""Measure τ: how far rounding may move an average of estimates.

A few dozen replicates are evaluated twice: as they are, and with all inputs of an estimate and all results of f and
log q perturbed by random units in the last place (`moved.py`). The size of the change is the condition of the estimate:
ε |ĝ| where nothing cancels, ε 10⁶ where f is 10⁶ + z², and ε times the terms where a sum cancels.
"""

from __future__ import annotations

import numpy as np

from gradmeter.bench.measurement.kernel import Setting
from gradmeter.bench.measurement.moved import FewEstimates

#: Calls of `FewEstimates.size` replicates, and independent perturbations of each.
CALLS, MOVEMENTS = 4, 4
#: One in this many replicates, those that changed most, is left out of the average change.
TRIMMED = 16
#: Factor on the mean change. Over the catalogue (all variants × 32 problems × float32 and float64 on NumPy), integrated
#: means of correct estimators were off by up to 3.4 changes, averages of estimates without variance by up to 7.2, and
#: their standard deviation was up to 14 changes; 64 is about four times that. On 291 cells of PyTorch and JAX that
#: standard deviation was below 12.
MULTIPLE = 64.0
#: Factor on ε times the root mean square of ĝ_j: the error of representing it and sums of it.
REPRESENTED = 4.0


@np.errstate(all="ignore")  # estimates that are not finite are reported elsewhere
def rounding(setting: Setting) -> dict[str, np.ndarray]:
    """Return τ_j [P] by parameter block, a bound on how far rounding moves the average of coordinate j.

    τ_j = `MULTIPLE` · c_j + `REPRESENTED` · ε · rms(ĝ_j), where c_j is the mean over replicates of the root mean square
    change of ĝ_j. τ bounds two things: the systematic part of rounding, which remains in an average of any number of
    replicates, and the standard deviation of an estimate whose variance is zero but for rounding. Errors that differ
    between replicates average out, so for an average τ is a conservative bound.

    The two of 32 replicates that changed most are left out of c_j: where a perturbation reverses a discrete choice in
    one of them, this is not rounding of the average. Cancellation in most replicates still shows.

    An estimator that returns 0 has τ = 0, since nothing rounds it.
    """
    change, size = changes(setting)
    eps = float(np.finfo(setting.dtype).eps)
    return {name: MULTIPLE * change[name] + REPRESENTED * eps * size[name] for name in change}


def changes(setting: Setting) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return c_j and the root mean square of ĝ_j, each [P] by parameter block."""
    estimate = FewEstimates(setting)
    generator = np.random.default_rng(0)
    noises = [setting.host_noise("rounding", call, estimate.size) for call in range(CALLS)]
    plain = _joined([estimate(noise) for noise in noises])
    squares = {name: np.zeros(values.shape) for name, values in plain.items()}
    for _ in range(MOVEMENTS):
        inputs = estimate.moved(generator)
        moved = _joined([estimate(estimate.moved_noise(noise, generator), inputs) for noise in noises])
        for name, values in moved.items():
            squares[name] += _finite((values - plain[name]) ** 2)
    change = {name: _trimmed_mean(np.sqrt(total / MOVEMENTS)) for name, total in squares.items()}
    return change, {name: np.sqrt(np.mean(_finite(values) ** 2, axis=0)) for name, values in plain.items()}


def _joined(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in parts[0]}


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, 0.0)


def _trimmed_mean(sizes: np.ndarray) -> np.ndarray:
    """Return the mean over replicates [P] without the largest values."""
    kept = max(1, len(sizes) - len(sizes) // TRIMMED)
    return np.sort(sizes, axis=0)[:kept].mean(axis=0)
