"""τ: how far rounding may move an average of estimates. Measured, never assumed.

A few dozen replicates are evaluated as they are, and again with all that an estimate reads, and all that f and log q
return, moved by random units in the last place (`moved.py`). The size of the change is the condition of the estimate:
ε |ĝ| where nothing cancels, ε 10⁶ where f is 10⁶ + z², and ε times the terms where terms that cancel are added up.
"""

from __future__ import annotations

import numpy as np

from gradmeter.bench.measurement.kernel import Setting
from gradmeter.bench.measurement.moved import FewEstimates

#: Calls of `FewEstimates.size` replicates, and independent movements of each.
CALLS, MOVEMENTS = 4, 4
#: Of every so many replicates, the one that moved farthest is left out.
TRIMMED = 16
#: Times the change. Over the catalogue (all variants × 32 problems × float32 and float64 on NumPy) integrated means of
#: right estimators were off by up to 3.4 changes, averages of estimates without variance by up to 7.2, and the standard
#: deviation of these was up to 14; 64 is about four times that. Of 291 cells of PyTorch and JAX the last was below 12.
MULTIPLE = 64.0
#: Times ε and the root mean square of ĝ_j: what it takes to represent it, and sums of it.
REPRESENTED = 4.0


@np.errstate(all="ignore")  # estimates that are not finite are reported elsewhere
def rounding(setting: Setting) -> dict[str, np.ndarray]:
    """Return τ_j [P] by parameter block: rounding moves the average of coordinate j by no more than that.

    τ_j = `MULTIPLE` · c_j + `REPRESENTED` · ε · rms(ĝ_j), where c_j is the mean over replicates of the root mean square
    change of ĝ_j. τ bounds two things: the systematic part of rounding, which is in an average however many replicates
    it has, and the spread of an estimate whose variance is zero but for rounding. Errors that differ from replicate to
    replicate average out, so for an average τ is a cautious bound.

    The two of 32 replicates that changed most are left out of c_j: a discrete choice that a movement turns over in one
    of them is no rounding of the average. What cancels in most replicates is seen.

    An estimator that returns 0 has τ = 0: nothing rounds it.
    """
    change, size = changes(setting)
    eps = float(np.finfo(setting.dtype).eps)
    return {name: MULTIPLE * change[name] + REPRESENTED * eps * size[name] for name in change}


def changes(setting: Setting) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return c_j, and the root mean square of ĝ_j, each [P] by parameter block."""
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
    """The mean over replicates [P] without the largest."""
    kept = max(1, len(sizes) - len(sizes) // TRIMMED)
    return np.sort(sizes, axis=0)[:kept].mean(axis=0)
