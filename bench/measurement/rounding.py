"""How far rounding may move an average of estimates, measured."""

from __future__ import annotations

import numpy as np

from bench.measurement.kernel import Setting
from bench.measurement.moved import FewEstimates

CALLS, MOVEMENTS = 4, 4
MULTIPLE = 64.0
#: Of ε times the root mean square of an estimate: its own representation, and that of sums of it.
REPRESENTED = 4.0
TRIMMED = 16


def rounding(setting: Setting) -> dict[str, np.ndarray]:
    change, size = sizes(setting)
    eps = float(np.finfo(setting.dtype).eps)
    return {name: MULTIPLE * change[name] + REPRESENTED * eps * size[name] for name in change}


@np.errstate(all="ignore")
def sizes(setting: Setting) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    estimate = FewEstimates(setting)
    generator = np.random.default_rng(0)
    noises = [estimate.noise("rounding", call, estimate.size) for call in range(CALLS)]
    plain = _stacked([estimate(noise) for noise in noises])
    square = {name: np.zeros(values.shape) for name, values in plain.items()}
    for _ in range(MOVEMENTS):
        inputs = estimate.moved(generator)
        found = _stacked([estimate(estimate.moved_noise(noise, generator), inputs) for noise in noises])
        for name, values in found.items():
            change = (values - plain[name]) ** 2
            square[name] += np.where(np.isfinite(change), change, 0.0)
    kept = len(next(iter(plain.values()))) * (TRIMMED - 1) // TRIMMED
    change = {n: np.sqrt(np.sort(s / MOVEMENTS, axis=0)[: max(1, kept)].mean(axis=0)) for n, s in square.items()}
    rms = {n: np.sqrt(np.mean(np.where(np.isfinite(v), v, 0.0) ** 2, axis=0)) for n, v in plain.items()}
    return change, rms


def _stacked(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]).astype(np.float64) for name in parts[0]}
