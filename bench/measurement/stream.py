"""Streams of replicates, accumulated block by block into moments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from gradmeter.bench.measurement.kernel import BlockSums
from gradmeter.bench.measurement.moments import GROUPS, Moments
from gradmeter.bench.measurement.plan import PILOT_BLOCKS
from gradmeter.bench.rows import ALL

#: Number of blocks whose sums are added together, a divisor of GROUPS; and the largest parameter block for which that
#: costs hardly more than adding one.
GATHERED, FEW = 16, 2**14


class NonFinite(ArithmeticError):
    """An estimate is NaN or infinite."""


class Described(Protocol):
    """What the statistics need to know about a source of estimates: a `Setting`, or less."""

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
    """A source of block sums of estimates: a `StatisticsKernel`, or another library's process."""

    @property
    def setting(self) -> Described: ...
    @property
    def chunk(self) -> int: ...
    @property
    def cubed(self) -> int: ...
    def __call__(self, roots: Any, first: int, centre: dict[str, Any]) -> BlockSums: ...


class Stream:
    """Replicates of one noise stream, whose number doubles from one interim analysis to the next.

    Parameters
    ----------
    kernel : source of the block sums.
    stream : name of the noise stream.
    centre : value subtracted before squares are taken, by parameter block [P].
    offset : mean of what was already subtracted from the estimates, by parameter block [P]; absent if nothing was.
    """

    def __init__(
        self,
        kernel: Source,
        stream: str,
        centre: dict[str, np.ndarray],
        offset: dict[str, np.ndarray] | None = None,
    ) -> None:
        setting = kernel.setting
        self.kernel, self.centre = kernel, centre
        self.relieved = offset is not None
        self.offset = offset or {name: np.zeros(size) for name, size in setting.sizes.items()}
        self.moments = {name: Moments(p, setting.replicates, kernel.cubed) for name, p in setting.sizes.items()}
        self.total = Moments(0, setting.replicates)
        self._all = {**self.moments, ALL: self.total}
        self._gathered = GATHERED if max(setting.sizes.values()) <= FEW else 1
        # Few enough blocks at a time that their Q in float64 stay in the processor's cache from one pass to the next.
        self._few = 1 << (max(1, FEW // setting.replicates).bit_length() - 1)
        #: Of the first 64 blocks, the one with the largest Q: this Q, the block's number, and its Q by parameter block.
        self._largest: tuple[float, int, dict[str, np.ndarray]] = -1.0, 0, {}
        self._roots = setting.roots(stream)
        self._centre = setting.to_device(centre)

    def extend(self, blocks: int, each: Any = None) -> None:
        """Extend the stream to this many blocks in all, 64 times a power of two."""
        while self.total.blocks < blocks:
            if self.total.blocks == GROUPS * self.total.blocks_per_group:
                for moments in self._all.values():
                    moments.double()
            first, size = self.total.blocks, max(self._gathered, self.kernel.chunk)
            step = max(self.kernel.chunk, min(self._few, size))
            parts = [
                self._sums(self._called(i, min(i + step, first + size)), i) for i in range(first, first + size, step)
            ]
            sums = {n: [_one(p) for p in zip(*(part[n] for part in parts), strict=True)] for n in self._all}
            # Add equally many at a time whatever the kernel's chunk, so that it does not affect how sums are rounded.
            for i in range(0, size, self._gathered):
                self._add({name: [each[i : i + self._gathered] for each in parts] for name, parts in sums.items()})
            if each is not None:
                each(self.total.count)

    def check_largest(self, check: Callable[[Any, int, Any, dict[str, np.ndarray]], None]) -> None:
        """Call check(roots, block, centre, Q by parameter block) on the block with the largest Q of the first 64."""
        check(self._roots, self._largest[1], self._centre, self._largest[2])

    def _called(self, first: int, end: int) -> BlockSums:
        """Return the sums of blocks `first` to `end`, over as many calls as that takes."""
        return _joined([self.kernel(self._roots, i, self._centre) for i in range(first, end, self.kernel.chunk)])

    def _sums(self, found: BlockSums, first: int) -> dict[str, list[np.ndarray]]:
        """Return Σd, Σd², Σd³ [blocks, P] and (ΣQ, ΣQ²) [blocks, 2] by parameter block and for `all`.

        The largest Q are kept for the tail index.
        """
        blocks, few = len(next(iter(found.squared_norm.values()))), self._few
        norms = {name: np.empty((blocks, 2)) for name in self._all}
        with np.errstate(invalid="ignore", over="ignore"):
            for i in range(0, blocks, few):
                q = {name: found.squared_norm[name][i : i + few] for name in self.moments}
                wide = {name: each.astype(np.float64, copy=False) for name, each in q.items()}
                wide[ALL] = functools.reduce(np.add, wide.values())
                if first < GROUPS:
                    self._keep_block(wide[ALL].max(axis=1), first + i, found.squared_norm, i)
                for name, each in wide.items():
                    np.sum(each, axis=1, out=norms[name][i : i + few, 0])
                    np.vecdot(each, each, out=norms[name][i : i + few, 1])
                    self._all[name].keep_largest(q.get(name, each))
        power = {**found.power, ALL: 3 * (np.empty((blocks, 0)),)}
        return {name: [*power[name], norms[name]] for name in self._all}

    def _keep_block(self, most: np.ndarray, first: int, norms: dict[str, np.ndarray], offset: int) -> None:
        """Keep the block with the largest Q; `first` is the number of the first of these blocks."""
        j = int(np.argmax(most))
        if most[j] > self._largest[0] and first + j < GROUPS:
            self._largest = float(most[j]), first + j, {name: norms[name][offset + j].copy() for name in self.moments}

    def _add(self, sums: dict[str, list[np.ndarray]]) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            for name, moments in self._all.items():
                before = moments.count
                moments.add(*sums[name])
                if name is not ALL and not np.all(np.isfinite(moments.norms)):
                    finite = bool(np.all(np.isfinite(moments.sums[:, 0])))
                    what = (
                        f"the square of an estimate of {name} overflows"
                        if finite
                        else f"estimate of {name} is not finite"
                    )
                    raise NonFinite(f"{what} within replicates {before} to {moments.count - 1}")


def _one(parts: Sequence[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _joined(called: list[BlockSums]) -> BlockSums:
    """Concatenate the blocks of consecutive calls."""
    power = {}
    for name in called[0].power:
        first, second, third = (_one([each.power[name][order] for each in called]) for order in range(3))
        power[name] = first, second, third
    names = called[0].squared_norm
    return BlockSums(power, {name: _one([each.squared_norm[name] for each in called]) for name in names})


def pilot_mean(kernel: Source, blocks: int = PILOT_BLOCKS) -> dict[str, np.ndarray]:
    """Return a rough mean of the estimates [P] as the centre of sums, from `blocks` blocks of a stream of its own."""
    setting = kernel.setting
    centre = setting.zeros()
    if blocks == 0:
        return {name: np.zeros(size) for name, size in setting.sizes.items()}
    found = [kernel(setting.roots("pilot"), first, centre) for first in range(0, blocks, kernel.chunk)]
    count = setting.replicates * blocks
    means = {}
    for name in setting.blocks:
        # A kernel may have summed further blocks in one call; omit them, so that its chunk changes nothing.
        sums = np.concatenate([each.power[name][0].astype(np.float64) for each in found])[:blocks]
        means[name] = sums.sum(axis=0) / count
    for name, mean in means.items():
        if not np.all(np.isfinite(mean)):
            raise NonFinite(f"estimate of {name} is not finite in the pilot run of {count} replicates")
    # Round to the working precision, so that the centre subtracted is exactly the centre added back.
    return {name: np.asarray(mean).astype(setting.dtype).astype(np.float64) for name, mean in means.items()}
