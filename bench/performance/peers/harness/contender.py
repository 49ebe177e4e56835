"""A peer as what the measurements take: a source of estimates, and calls to time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.measurement.kernel import BlockSums, TimedCall
from gradmeter.bench.performance.peers.harness.process import PeerFailure, PeerProcess
from gradmeter.bench.performance.peers.harness.tasks import Task
from gradmeter.bench.performance.peers.harness.worker import decode, encode
from gradmeter.bench.reading.peers import Peer
from gradmeter.bench.sweep.cells import Cell

#: A batch grows until one call takes this long: larger ones are timed no better.
LONG_ENOUGH = 0.01
SMALLEST_BATCH, LARGEST_BATCH = 2**14, 2**21  # numbers: samples × D
GROWTH = 4
#: Looks at the replicates at least, so that the easy cases stop early.
LOOKS = 8
_STREAMS = {"pilot": 0, "main": 1, "confirm": 2}


def message(cell: Cell, peer: Peer) -> dict[str, Any]:
    """A cell of ours as the peer is told it, in float32."""
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
    """What the statistics need to know of a peer's estimates."""

    sizes: dict[str, int]
    replicates: int
    dtype: str = "float32"

    @property
    def blocks(self) -> tuple[str, ...]:
        return tuple(self.sizes)

    def roots(self, stream: str) -> int:
        """Seeds of different streams and blocks differ; they are below 2^31, for every generator takes those."""
        return _STREAMS[stream] * 2**24

    def zeros(self) -> dict[str, np.ndarray]:
        return {name: np.zeros(size) for name, size in self.sizes.items()}

    def to_device(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return arrays


class PeerEstimates:
    """A `Source`: estimates come from the peer, their block sums are made here."""

    chunk = 1

    def __init__(self, process: PeerProcess, setting: PeerSetting) -> None:
        self.setting = setting
        self.cubed = setting.replicates
        self._process = process

    def __call__(self, roots: int, first: int, centre: dict[str, np.ndarray]) -> BlockSums:
        replicates = self.setting.replicates
        answer = self._process.ask("estimates", seed=roots + first, replicates=replicates)
        power, squared = {}, {}
        for name, size in self.setting.sizes.items():
            try:
                found = decode(answer["estimates"][name]).astype(np.float64)
            except (KeyError, TypeError, ValueError) as error:
                raise PeerFailure("exception", f"no estimates of {name}: {error!r}") from None
            if found.shape != (replicates, size):
                raise PeerFailure("exception", f"estimates of {name} have shape {found.shape}")
            with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is found where it is summed up
                d = found - centre[name]
                power[name] = (d.sum(axis=0)[None], (d**2).sum(axis=0)[None], (d**3).sum(axis=0)[None])
                squared[name] = (d**2).sum(axis=1)[None]
        return BlockSums(power, squared)


def most_replicates(task: Task, peer: Peer, dimension: int) -> int:
    """A power of two, at least 64."""
    allowed = min(task.replicates, peer.replicates, peer.elements // (dimension * task.num_samples))
    return max(64, 1 << (allowed.bit_length() - 1))


def source(process: PeerProcess, cell: Cell, replicates: int) -> PeerEstimates:
    """Estimates in at most `replicates`, in blocks of at most 4096 of them."""
    block = min(4096, max(1, replicates // 64 // LOOKS))
    return PeerEstimates(process, PeerSetting(dict.fromkeys(("loc", "log_scale"), cell.problem.dimension), block))


class RemoteCall:
    """One batch of gradient samples, in the peer's process, which also holds the stopwatch."""

    def __init__(self, process: PeerProcess, samples: int) -> None:
        self._process, self._samples = process, samples

    def elapsed(self, repeats: int) -> float:
        return float(self._process.ask("time", samples=self._samples, repeats=repeats)["seconds"])

    def __call__(self) -> None:
        self.elapsed(1)


def best_batch(elapsed: Callable[[int, int], float], num_samples: int, dimension: int) -> int:
    """Of batches growing fourfold, the samples of the one with the least time a sample: the peer at its best.

    Parameters
    ----------
    elapsed : (samples, repeats) -> seconds.
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
    """Estimates in bulk, at the peer's best batch, and one alone; an average of n samples counts as n / S estimates."""
    process.ask("prepare", task=message(cell, peer))
    size = task.num_samples
    if not (task.whole or peer.loops):
        size = best_batch(
            lambda samples, repeats: RemoteCall(process, samples).elapsed(repeats), size, cell.problem.dimension
        )
    bulk = TimedCall(RemoteCall(process, size), size // task.num_samples)
    return bulk, TimedCall(RemoteCall(process, task.num_samples), 1)
