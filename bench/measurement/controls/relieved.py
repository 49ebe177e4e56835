"""Block sums of estimates less controls.

Estimates are made where the cell's are; controls are evaluated in float64 by NumPy, so that nothing is compiled for so
few replicates, and nothing of single precision adds to the error.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.measurement.controls.fit import Controls
from bench.measurement.defensive import estimates_of
from bench.measurement.kernel import BlockSums, Setting


class Relieved:
    """Where block sums of estimates less Σ C h come from, whose mean is less `controls.constant`."""

    chunk = 1

    def __init__(self, setting: Setting, controls: Controls) -> None:
        self.setting, self.controls = setting, controls
        self.cubed = setting.replicates

    @np.errstate(over="ignore", divide="ignore", invalid="ignore")  # whoever adds the sums up looks
    def __call__(self, roots: dict[str, Any], first: int, centre: dict[str, Any]) -> BlockSums:
        s = self.setting
        noise = s.noise(roots, first, s.replicates)
        left = self.controls.corrected(*estimates_of(s, noise))
        power, squared = {}, {}
        for name, estimate in left.items():
            d = estimate - s.backend.to_numpy(centre[name])
            square = d * d
            power[name] = tuple(each.sum(axis=0)[None] for each in (d, square, square * d))
            squared[name] = square.sum(axis=1)[None]
        return BlockSums(power, squared)
