"""Frozen control variates: what is subtracted from the estimates, with its known mean."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradmeter.bench.measurement.controls.features import Arrays, Layout
from gradmeter.bench.measurement.evaluate import in_double


@dataclass(frozen=True)
class Controls:
    """Frozen control variates: Σ C h(noise) for each coordinate, whose mean is `constant`.

    Attributes
    ----------
    layout
        Description of the features.
    pooled
        Blocks whose coordinates use the features of all numbers.
    arrays
        The model, and coefficients by block.
    constant
        E Σ C h by block [P], float64.
    spread
        Standard deviation of Σ C h by block [P], in the pilot.
    gain
        Variance of an estimate over the cross-validated residual variance, traces over all blocks.
    replicates
        Replicates of the pilot.
    blocks
        The blocks that have controls.
    """

    layout: Layout
    pooled: tuple[str, ...]
    arrays: Arrays
    constant: dict[str, np.ndarray]
    spread: dict[str, np.ndarray]
    gain: float
    replicates: int = 0
    blocks: tuple[str, ...] = field(default=())

    def corrected(self, noise: Arrays, found: Arrays) -> Arrays:
        """Return estimates [R, P] by block less Σ C h, whose mean is `constant`."""
        averages, whole = self.layout(np, in_double(noise), self.arrays)
        left = {name: a.astype(np.float64, copy=False) for name, a in found.items()}
        for name in self.blocks:
            c = self.arrays[f"C of {name}"]
            if name in self.pooled:
                value = np.concatenate([*averages, whole[:, None]], axis=1) @ c
            else:
                value = whole[:, None] * c[-1]
                for k, each in enumerate(averages):
                    value += each * c[k]
            left[name] = left[name] - value
        return left

    def relieved(self, noise: Arrays, found: Arrays) -> Arrays:
        """Return estimates less Σ C (h − E h), which have the same mean as the estimates."""
        left = self.corrected(noise, found)
        return {name: a + self.constant[name] if name in self.constant else a for name, a in left.items()}
