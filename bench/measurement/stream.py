"""Streams of replicates, gathered block by block into moments."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from bench.measurement.kernel import BlockSums
from bench.measurement.moments import GROUPS, Moments

PILOT_BLOCKS = 4
#: Blocks whose sums are added up together, where that costs hardly more than one: a divisor of GROUPS, and the most
#: numbers of a parameter block.
GATHERED, FEW = 16, 2**14


class NonFinite(ArithmeticError):
    """An estimate is NaN or infinite."""


class Described(Protocol):
    """What the statistics need to know of whatever makes the estimates: a `Setting`, or less."""

    @property
    def sizes(self) -> dict[str, int]: ...
    @property
    def blocks(self) -> tuple[str, ...]: ...
    @property
    def replicates(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    def roots(self, stream: str) -> Any: ...
    def zeros(self) -> dict[str, Any]: ...
    def to_device(self, arrays: dict[str, np.ndarray]) -> dict[str, Any]: ...


class Source(Protocol):
    """Where block sums of estimates come from: a `StatisticsKernel`, or another library's process."""

    @property
    def setting(self) -> Described: ...
    @property
    def chunk(self) -> int: ...
    @property
    def cubed(self) -> int: ...
    def __call__(self, roots: Any, first: int, centre: dict[str, Any]) -> BlockSums: ...


class Stream:
    """Replicates of one noise stream, gathered in doubling looks."""

    def __init__(self, kernel: Source, stream: str, centre: dict[str, np.ndarray]) -> None:
        setting = kernel.setting
        self.kernel, self.centre = kernel, centre
        self.moments = {name: Moments(p, setting.replicates, kernel.cubed) for name, p in setting.sizes.items()}
        self.total = Moments(0, setting.replicates)
        self._gathered = GATHERED if max(setting.sizes.values()) <= FEW else 1
        self._roots = setting.roots(stream)
        self._centre = setting.to_device(centre)

    def extend(self, blocks: int, each: Any = None) -> None:
        """Up to that many blocks in all, a power of two times 64."""
        while self.total.blocks < blocks:
            if self.total.blocks == GROUPS * self.total.blocks_per_group:
                for moments in (*self.moments.values(), self.total):
                    moments.double()
            first, size = self.total.blocks, max(self._gathered, self.kernel.chunk)
            called = [self.kernel(self._roots, i, self._centre) for i in range(first, first + size, self.kernel.chunk)]
            sums = called[0] if len(called) == 1 else _joined(called)
            # As many at a time whatever the kernel's chunk, so that it does not change how sums are rounded.
            for i in range(0, size, self._gathered):
                self._add(sums, slice(i, i + self._gathered))
            if each is not None:
                each(self.total.count)

    def _add(self, sums: BlockSums, some: slice) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            squared = {name: q[some].astype(np.float64, copy=False) for name, q in sums.squared_norm.items()}
            for name, moments in self.moments.items():
                before, (first, second, third) = moments.count, sums.power[name]
                moments.add((first[some], second[some], third[some]), squared[name])
                if not np.all(np.isfinite(moments.norms)):
                    raise NonFinite(
                        f"estimate of {name} is not finite within replicates {before} to {moments.count - 1}"
                    )
            total = np.sum(list(squared.values()), axis=0)
            nothing = np.zeros((len(total), 0))
            self.total.add((nothing, nothing, nothing), total)


def _joined(called: list[BlockSums]) -> BlockSums:
    """The blocks of consecutive calls as those of one."""
    return BlockSums(
        power={
            name: (
                np.concatenate([each.power[name][0] for each in called]),
                np.concatenate([each.power[name][1] for each in called]),
                np.concatenate([each.power[name][2] for each in called]),
            )
            for name in called[0].power
        },
        squared_norm={
            name: np.concatenate([each.squared_norm[name] for each in called]) for name in called[0].squared_norm
        },
    )


def pilot_mean(kernel: Source) -> dict[str, np.ndarray]:
    """A rough mean of the estimates [P], to centre sums at; from a stream of its own."""
    setting = kernel.setting
    centre = setting.zeros()
    found = [kernel(setting.roots("pilot"), first, centre) for first in range(0, PILOT_BLOCKS, kernel.chunk)]
    count = setting.replicates * PILOT_BLOCKS
    means = {}
    for name in setting.blocks:
        # A kernel may have summed more blocks in one call; they are left out, so that its chunk changes nothing.
        sums = np.concatenate([each.power[name][0].astype(np.float64) for each in found])[:PILOT_BLOCKS]
        means[name] = sums.sum(axis=0) / count
    for name, mean in means.items():
        if not np.all(np.isfinite(mean)):
            raise NonFinite(f"estimate of {name} is not finite in the pilot run of {count} replicates")
    # Rounded to the working precision, so that the centre subtracted is exactly the centre added back.
    return {name: np.asarray(mean).astype(setting.dtype).astype(np.float64) for name, mean in means.items()}
