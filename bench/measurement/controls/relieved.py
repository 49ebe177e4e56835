"""Block sums of controlled estimates, that is of estimates less control variates.

The cell's backend evaluates the estimates from noise that NumPy draws. NumPy evaluates the controls in float64, so that
nothing is compiled for so few replicates and single precision adds no error.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from gradmeter.bench.measurement.controls.frozen import Controls
from gradmeter.bench.measurement.evaluate import blocks_together, estimates_of
from gradmeter.bench.measurement.kernel import BlockSums, Setting
from gradmeter.bench.measurement.moments import GROUPS, squared_distances

#: Fewest controlled replicates that certify: controls do not reduce the error from events that are never met.
FEWEST_RELIEVED = 2**12


@dataclass(frozen=True)
class _OnHost(Setting):
    """A cell whose streams are drawn on the host: their only root is their name."""

    def roots(self, stream: str) -> Any:
        return stream


def fewer(replicates: int) -> int:
    """Return a smaller block size, halved while 64 blocks exceed the number of replicates that controls need."""
    while replicates * GROUPS >= 2 * FEWEST_RELIEVED and replicates % 2 == 0:
        replicates //= 2
    return replicates


class Relieved:
    """A source of block sums of estimates less Σ C h, whose mean is smaller by `controls.constant`.

    Attributes
    ----------
    about
        The centre of plain replicates by parameter block [P].
    met
        Largest Q = ‖ĝ − about‖² of the estimates themselves by parameter block, over all calls.
    """

    def __init__(self, setting: Setting, controls: Controls) -> None:
        self.about = {name: np.zeros(size) for name, size in setting.sizes.items()}
        self.met = dict.fromkeys(setting.sizes, 0.0)
        whole = {each.name: getattr(setting, each.name) for each in fields(setting)}
        size = fewer(setting.replicates)
        self.setting = _OnHost(**{**whole, "replicates": size})
        self.controls = controls
        self.cubed = size
        #: Replicates in a call of the compiled function.
        self.at_once = setting.replicates
        self.chunk = max(self.at_once // size, blocks_together(setting, size))

    @np.errstate(over="ignore", divide="ignore", invalid="ignore")  # the caller that accumulates the sums checks them
    def __call__(self, roots: str, first: int, centre: dict[str, Any]) -> BlockSums:
        s, blocks = self.setting, self.chunk
        noise = s.host_noise(roots, first // blocks, blocks * s.replicates)
        found = estimates_of(s, noise, self.at_once)
        for name, estimate in found.items():
            self.met[name] = max(self.met[name], float(squared_distances(estimate, self.about[name]).max()))
        left = self.controls.corrected(noise, found)
        sums: BlockSums = {}
        for name, estimate in left.items():
            d = (estimate - s.backend.to_numpy(centre[name])).reshape(blocks, s.replicates, -1)
            square = d * d
            cubes = np.einsum("bij,bij->bj", square, d)
            sums[name] = d.sum(axis=1), square.sum(axis=1), cubes, square.sum(axis=2)
        return sums
