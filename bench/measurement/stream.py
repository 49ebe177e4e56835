"""Streams of replicates, accumulated block by block into moments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

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


@runtime_checkable
class Sharing(Protocol):
    """A source whose calls other processes may share."""

    def calls(
        self, stream: str, firsts: Sequence[int], roots: Any, centre: dict[str, np.ndarray], on_device: dict[str, Any]
    ) -> Iterator[BlockSums]:
        """Yield what calling the source with each first block would return, in their order.

        Parameters
        ----------
        stream
            Name of the noise stream, whose `roots` these are.
        centre, on_device
            The centre as host arrays, and on the device.
        """
        ...


class Stream:
    """Replicates of one noise stream, whose number doubles from one interim analysis to the next.

    Parameters
    ----------
    kernel
        Source of the block sums.
    stream
        Name of the noise stream.
    centre
        Value subtracted before squares are taken, by parameter block [P].
    offset
        Mean of what was already subtracted from the estimates, by parameter block [P]; absent if nothing was.
    """

    def __init__(
        self,
        kernel: Source,
        stream: str,
        centre: dict[str, np.ndarray],
        offset: dict[str, np.ndarray] | None = None,
    ) -> None:
        setting = kernel.setting
        self.kernel, self.centre, self._name = kernel, centre, stream
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
        firsts = range(self.total.blocks, blocks, self.kernel.chunk)
        found: Iterator[BlockSums] = (self.kernel(self._roots, first, self._centre) for first in firsts)
        if isinstance(self.kernel, Sharing):
            found = self.kernel.calls(self._name, firsts, self._roots, self.centre, self._centre)
        while self.total.blocks < blocks:
            if self.total.blocks == GROUPS * self.total.blocks_per_group:
                for moments in self._all.values():
                    moments.double()
            first, chunk = self.total.blocks, self.kernel.chunk
            size = max(self._gathered, chunk)
            step = max(chunk, min(self._few, size))
            parts = []
            for start in range(0, size, step):
                calls = range(first + start, first + min(start + step, size), chunk)
                called = _joined([next(found) for _ in calls])
                parts.append(self._sums(called, first + start))
            sums = _joined(parts)
            # Add equally many at a time whatever the kernel's chunk, so that it does not affect how sums are rounded.
            for i in range(0, size, self._gathered):
                self._add(sums, slice(i, i + self._gathered))
            if each is not None:
                each(self.total.count)

    def check_largest(self, check: Callable[[Any, int, Any, dict[str, np.ndarray]], None]) -> None:
        """Call check(roots, block, centre, Q by parameter block) on the block with the largest Q of the first 64."""
        check(self._roots, self._largest[1], self._centre, self._largest[2])

    def _sums(self, found: BlockSums, first: int) -> BlockSums:
        """Return Σd, Σd², Σd³ [blocks, P] and (ΣQ, ΣQ²) [blocks, 2] by parameter block and for `all`.

        The largest Q are kept for the tail index.
        """
        blocks, few = len(next(iter(found.values()))[3]), self._few
        norms = {name: np.empty((blocks, 2)) for name in self._all}
        with np.errstate(invalid="ignore", over="ignore"):
            for i in range(0, blocks, few):
                some = slice(i, i + few)
                q = {name: sums[3][some] for name, sums in found.items()}
                q[ALL] = functools.reduce(np.add, [each.astype(np.float64, copy=False) for each in q.values()])
                if first < GROUPS:
                    self._keep_block(q[ALL].max(axis=1), first, i, found)
                for name, moments in self._all.items():
                    wide = q[name].astype(np.float64, copy=False)
                    np.sum(wide, axis=1, out=norms[name][some, 0])
                    np.vecdot(wide, wide, out=norms[name][some, 1])
                    moments.keep_largest(q[name])
        powers = {**found, ALL: 3 * (np.empty((blocks, 0)),)}
        return {name: (*powers[name][:3], norms[name]) for name in self._all}

    def _keep_block(self, most: np.ndarray, first: int, offset: int, found: BlockSums) -> None:
        """Keep the block with the largest Q of those from `first` + `offset` on."""
        j = offset + int(np.argmax(most))
        if most[j - offset] > self._largest[0] and first + j < GROUPS:
            norms = {name: sums[3][j].copy() for name, sums in found.items()}
            self._largest = float(most[j - offset]), first + j, norms

    def _add(self, sums: BlockSums, some: slice) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            for name, moments in self._all.items():
                before = moments.count
                moments.add(*(each[some] for each in sums[name]))
                if name is not ALL and not np.all(np.isfinite(moments.norms)):
                    finite = bool(np.all(np.isfinite(moments.sums[:, 0])))
                    what = (
                        f"the square of an estimate of {name} overflows"
                        if finite
                        else f"estimate of {name} is not finite"
                    )
                    raise NonFinite(f"{what} within replicates {before} to {moments.count - 1}")


def _joined(parts: list[BlockSums]) -> BlockSums:
    """Concatenate consecutive blocks."""
    if len(parts) == 1:
        return parts[0]
    arrays = {name: zip(*[part[name] for part in parts], strict=True) for name in parts[0]}
    return {name: tuple(map(np.concatenate, each)) for name, each in arrays.items()}


def pilot_mean(kernel: Source, blocks: int = PILOT_BLOCKS) -> dict[str, np.ndarray]:
    """Return a rough mean of the estimates [P] as the centre of sums, from `blocks` blocks of a stream of its own."""
    setting = kernel.setting
    if blocks == 0:
        return {name: np.zeros(size) for name, size in setting.sizes.items()}
    roots, centre = setting.roots("pilot"), setting.zeros()
    found = _joined([kernel(roots, first, centre) for first in range(0, blocks, kernel.chunk)])
    count, means = setting.replicates * blocks, {}
    for name in setting.blocks:
        # A kernel may have summed further blocks in one call; omit them, so that its chunk changes nothing.
        mean = found[name][0][:blocks].astype(np.float64).sum(axis=0) / count
        if not np.all(np.isfinite(mean)):
            raise NonFinite(f"estimate of {name} is not finite in the pilot run of {count} replicates")
        # Round to the working precision, so that the centre subtracted is exactly the centre added back.
        means[name] = mean.astype(setting.dtype).astype(np.float64)
    return means
