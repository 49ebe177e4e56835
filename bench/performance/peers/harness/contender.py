"""Adapt a peer to the measurements: a source of estimates, and calls to time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.cells import Cell
from gradmeter.bench.measurement.kernel import BlockSums, TimedCall
from gradmeter.bench.performance.peers.harness.process import PeerFailure, PeerProcess
from gradmeter.bench.performance.peers.harness.tasks import Task
from gradmeter.bench.performance.peers.harness.worker import decode, encode
from gradmeter.bench.reading.peers import Peer

#: A batch grows until one call takes this long; longer calls are timed no more accurately.
LONG_ENOUGH = 0.01
SMALLEST_BATCH, LARGEST_BATCH = 2**14, 2**21  # numbers: samples × D
GROWTH = 4
#: Fewest interim analyses, so that easy cases stop early.
LOOKS = 8
_STREAMS = {"pilot": 0, "main": 1, "confirm": 2}


def message(cell: Cell, peer: Peer) -> dict[str, Any]:
    """Return the message that describes one of gradmeter's cells to a peer, in float32."""
    described, data = cell.description(), cell.problem.expectation().data
    arrays = {name: encode(values.astype(np.float32)) for name, values in cell.problem.parameters().items()}
    return {
        "problem": described["problem"],
        "estimator": described["estimator"],
        "options": described["estimator_options"],
        "num_samples": cell.num_samples,
        "data": {name: encode(np.asarray(values, dtype=np.float32)) for name, values in data.items()},
        "settings": peer.settings,
        **arrays,
    }


@dataclass(frozen=True)
class PeerSetting:
    """What the statistics need to know about a peer's estimates."""

    sizes: dict[str, int]
    replicates: int
    dtype: str = "float32"

    @property
    def blocks(self) -> tuple[str, ...]:
        return tuple(self.sizes)

    def roots(self, stream: str) -> int:
        """Return the first seed of a stream; all seeds differ and are below 2^31, which every generator accepts."""
        return _STREAMS[stream] * 2**24

    def zeros(self) -> dict[str, np.ndarray]:
        return {name: np.zeros(size) for name, size in self.sizes.items()}

    def to_device(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return arrays


class PeerEstimates:
    """A `Source` whose estimates come from the peer and whose block sums are computed here."""

    chunk = 1

    def __init__(self, process: PeerProcess, setting: PeerSetting) -> None:
        self.setting = setting
        self.cubed = setting.replicates
        self._process = process

    def __call__(self, roots: int, first: int, centre: dict[str, np.ndarray]) -> BlockSums:
        replicates = self.setting.replicates
        answer = self._process.ask("estimates", seed=roots + first, replicates=replicates)
        sums: BlockSums = {}
        for name, size in self.setting.sizes.items():
            try:
                found = decode(answer["estimates"][name]).astype(np.float64)
            except (KeyError, TypeError, ValueError) as error:
                raise PeerFailure("exception", f"no estimates of {name}: {error!r}") from None
            if found.shape != (replicates, size):
                raise PeerFailure("exception", f"estimates of {name} have shape {found.shape}")
            with np.errstate(invalid="ignore", over="ignore"):  # the sums are checked where they are accumulated
                d = found - centre[name]
                powers = (d.sum(axis=0), (d**2).sum(axis=0), (d**3).sum(axis=0), (d**2).sum(axis=1))
                sums[name] = tuple(each[None] for each in powers)
        return sums


def most_replicates(task: Task, peer: Peer, dimension: int) -> int:
    """Return the largest allowed number of replicates, a power of two of at least 64."""
    allowed = min(task.replicates, peer.replicates, peer.elements // (dimension * task.num_samples))
    return max(64, 1 << (allowed.bit_length() - 1))


def source(process: PeerProcess, cell: Cell, replicates: int) -> PeerEstimates:
    """Return a source of estimates for at most `replicates`, in blocks of at most 4096."""
    block = min(4096, max(1, replicates // 64 // LOOKS))
    return PeerEstimates(process, PeerSetting(dict.fromkeys(("loc", "log_scale"), cell.problem.dimension), block))


class RemoteCall:
    """One batch of gradient samples in the peer's process, which also measures the time."""

    def __init__(self, process: PeerProcess, samples: int) -> None:
        self._process, self._samples = process, samples

    def elapsed(self, repeats: int) -> float:
        return float(self._process.ask("time", samples=self._samples, repeats=repeats)["seconds"])

    def __call__(self) -> None:
        self.elapsed(1)


def best_batch(elapsed: Callable[[int, int], float], num_samples: int, dimension: int) -> int:
    """Return the batch size with the least time per sample among batches that grow fourfold, the peer's best case.

    Parameters
    ----------
    elapsed
        (samples, repeats) -> seconds.
    """
    samples = num_samples * max(1, SMALLEST_BATCH // (dimension * num_samples))
    tried: dict[int, float] = {}
    while True:
        elapsed(samples, 1)  # compiles
        seconds = min(elapsed(samples, 1) for _ in range(3))
        tried[samples] = seconds / samples
        if seconds > LONG_ENOUGH or samples * GROWTH * dimension > LARGEST_BATCH:
            return min(tried, key=lambda n: tried[n])
        samples *= GROWTH


def timed_calls(process: PeerProcess, cell: Cell, task: Task, peer: Peer) -> tuple[TimedCall, TimedCall]:
    """Return calls for a bulk of n / S estimates (n samples, the peer's best batch) and for one estimate."""
    process.ask("prepare", task=message(cell, peer))
    size = task.num_samples
    if not (task.whole or peer.loops):
        size = best_batch(
            lambda samples, repeats: RemoteCall(process, samples).elapsed(repeats), size, cell.problem.dimension
        )
    bulk = TimedCall(RemoteCall(process, size), size // task.num_samples)
    return bulk, TimedCall(RemoteCall(process, task.num_samples), 1)
