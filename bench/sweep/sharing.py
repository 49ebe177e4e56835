"""Share the blocks of a large cell between processes. Sums come back in the order of blocks, so rows stay the same."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from gradmeter.bench.cells import Cell
from gradmeter.bench.measurement.kernel import BlockSums, Setting, StatisticsKernel
from gradmeter.bench.sweep.measuring import Ended
from gradmeter.bench.sweep.processes import Limits, NotBegun, WorkerProcess, wait

#: Seconds of work that are left where it pays to start processes, and seconds of one piece of it.
WORTH, PIECE = 4.0, 0.5
#: Calls that are timed to know.
TIMED = 8


class SharedKernel(StatisticsKernel):
    """A kernel whose calls further processes share where many are to come."""

    def __init__(self, setting: Setting, uncompiled: int, helpers: Helpers) -> None:
        super().__init__(setting, uncompiled)
        self._helpers = helpers

    def calls(
        self, stream: str, firsts: Sequence[int], roots: Any, centre: dict[str, np.ndarray], on_device: dict[str, Any]
    ) -> Iterator[BlockSums]:
        """Yield the sums of the blocks from each of `firsts` on, in their order."""

        def here(piece: Sequence[int]) -> list[BlockSums]:
            return [self(roots, first, on_device) for first in piece]

        begun = time.monotonic()
        for done, first in enumerate(firsts):
            if done >= TIMED and self.settled:
                each = (time.monotonic() - begun) / done
                if each * (len(firsts) - done) >= WORTH:
                    size = max(1, round(PIECE / each))
                    pieces = [firsts[i : i + size] for i in range(done, len(firsts), size)]
                    yield from self._helpers.sums(stream, pieces, centre, here)
                    return
            yield self(roots, first, on_device)


class Helpers:
    """Processes that help with one cell; they are started when there is work for them.

    Parameters
    ----------
    count
        Their number.
    limits
        What they may take.
    """

    def __init__(self, cell: Cell, count: int, limits: Limits) -> None:
        self._cell, self._count, self._limits = cell, count, limits
        self._idle: list[WorkerProcess] = []

    def sums(
        self,
        stream: str,
        pieces: list[Sequence[int]],
        centre: dict[str, np.ndarray],
        here: Callable[[Sequence[int]], list[BlockSums]],
    ) -> Iterator[BlockSums]:
        """Yield the sums of all pieces in their order; this process computes, too, with `here`.

        A piece whose process fails is computed here.
        """
        self._idle += [WorkerProcess(self._limits) for _ in range(self._count - len(self._idle))]
        waiting, busy, found = deque(enumerate(pieces)), dict[WorkerProcess, int](), dict[int, list[BlockSums]]()
        window = 2 * (self._count + 1)  # bounds the sums that are held
        for position in range(len(pieces)):
            while position not in found:
                while self._idle and waiting and waiting[0][0] < position + window:
                    number, piece = waiting.popleft()
                    process = self._idle.pop()
                    busy[process] = number
                    process.start("sums", self._cell, stream, list(piece), centre)
                if waiting and waiting[0][0] < position + window:
                    number, piece = waiting.popleft()
                    found[number] = here(piece)
                else:
                    wait(busy)
                for process in [process for process in busy if process.done()]:
                    number = busy.pop(process)
                    found[number] = self._result(process) or here(pieces[number])
            yield from found.pop(position)

    def _result(self, process: WorkerProcess) -> list[BlockSums] | None:
        try:
            sums = process.result()
        except NotBegun:
            sums = None
        if sums is None or isinstance(sums, Ended):
            process.kill()
            self._idle.append(WorkerProcess(self._limits))
            return None
        self._idle.append(process)
        return list(sums)

    def close(self) -> None:
        for process in self._idle:
            process.kill()
