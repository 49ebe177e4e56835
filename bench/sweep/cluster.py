"""Measure cells on a Dask cluster. Dask distributes them; on each of its workers a cell has a process of its own.

So what a cell does to its process is told and recorded as without a cluster, and a Dask worker that dies takes no cell
with it: the scheduler gives its cells to others.
"""

from __future__ import annotations

import itertools
import multiprocessing
import queue
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any

from gradmeter.bench.cells import Cell
from gradmeter.bench.sweep.executors import MOST_LOST, Closing, Found, Timed, TimerProcess
from gradmeter.bench.sweep.listener import Listener, Stop
from gradmeter.bench.sweep.measuring import Ended, Outcome
from gradmeter.bench.sweep.processes import (
    TICK,
    Limits,
    NotBegun,
    UnableToSend,
    WorkerProcess,
    main_left_out,
    packed,
    wait,
)
from gradmeter.bench.sweep.server import start_server
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import short, typed

#: Cells that are submitted for each thread of the cluster, so that none waits for the next.
AHEAD = 2
#: Seconds to wait for a scheduler.
PATIENCE = 15

_IDLE: list[WorkerProcess] = []
_LOCK = threading.Lock()


def on_worker(work: str, sent: bytes, limits: Limits) -> Any:
    """Do work on a cell in a process of its own, on a Dask worker; a cell whose process dies gets a second one."""
    with suppress(AssertionError):
        multiprocessing.current_process().daemon = False  # a daemon may have no processes
    with _LOCK:
        start_server()
    found = _once(work, sent, limits)
    if isinstance(found, Ended) and found.status == "crashed":
        found = _once(work, sent, limits)
        if isinstance(found, Ended) and found.status == "crashed":
            return found.twice()
    return found


def _once(work: str, sent: bytes, limits: Limits) -> Any:
    for attempt in range(MOST_LOST):
        with _LOCK:
            process = _IDLE.pop() if _IDLE else WorkerProcess(limits)
        try:
            process.send(work, sent, limits.seconds)
            while not process.done():
                wait([process])
            found = process.result()
        except NotBegun:
            if attempt + 1 == MOST_LOST:
                raise
            continue
        if isinstance(found, Ended) or (isinstance(found, Outcome) and found.spoilt):
            process.kill()
        else:
            with _LOCK:
                _IDLE.append(process)
        return found
    raise AssertionError


def _all_of(ended: queue.SimpleQueue[Any]) -> list[Any]:
    """Return all futures that have ended; wait a moment for the first."""
    found = []
    with suppress(queue.Empty):
        found.append(ended.get(timeout=TICK))
        while True:
            found.append(ended.get_nowait())
    return found


class OnDask(Closing):
    """Measures cells on a Dask cluster, and times them in a process on this machine.

    Parameters
    ----------
    scheduler
        Address of the scheduler, such as `tcp://host:8786`; None for a cluster on this machine.
    local
        Number of workers of a cluster on this machine.
    limits
        What a cell may take.

    Raises
    ------
    UsageError
        dask.distributed is not installed, or there is no scheduler at that address.
    """

    def __init__(self, scheduler: str | None, local: int | None, limits: Limits) -> None:
        try:
            import distributed
        except ImportError:
            raise UsageError(
                "a cluster needs dask.distributed; install it with: pip install 'gradmeter[dask]'"
            ) from None
        import dask

        if scheduler is not None and not re.fullmatch(r"(?:[a-z]+://)?[^\s/]+:\d+", scheduler):
            raise UsageError(f"scheduler is '{short(scheduler)}'; it must be an address such as tcp://host:8786")
        start_server()
        self._limits = limits
        self._cluster = None
        self._meanwhile = ExitStack()
        if local is not None:
            self._meanwhile.enter_context(main_left_out())  # also where Dask replaces a worker later
            with dask.config.set({"distributed.worker.daemon": False}):
                self._cluster = distributed.LocalCluster(
                    n_workers=local, threads_per_worker=1, dashboard_address=None, silence_logs=40
                )
        try:
            self._client = distributed.Client(self._cluster or scheduler, timeout=PATIENCE, set_as_default=False)
        except (OSError, ValueError) as error:
            raise UsageError(f"there is no Dask scheduler at {scheduler}: {typed(error)}") from None
        self._killed = distributed.KilledWorker
        self._timer = TimerProcess(limits)

    @property
    def width(self) -> int:
        return max(1, sum(self._client.nthreads().values()))

    def measure(self, cells: Iterable[Cell], listener: Listener, stop: Stop) -> Iterator[Found]:
        return self._each("measured", cells, listener, stop, 0)

    def parts(self, cells: Iterable[Cell], listener: Listener, stop: Stop) -> Iterator[Found]:
        return self._each("parts", cells, listener, stop)

    def _each(self, work: str, cells: Iterable[Cell], listener: Listener, stop: Stop, *more: Any) -> Iterator[Found]:
        waiting, running = iter(cells), {}
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        failed: list[Found] = []
        numbers, left = itertools.count(), True

        def submit(cell: Cell) -> None:
            try:
                sent = packed((cell, *more))
            except UnableToSend as error:
                failed.append((cell, Ended("exception", str(error))))
                return
            key = f"gradmeter-{next(numbers)}-{cell.key[:16]}"
            future = self._client.submit(on_worker, work, sent, self._limits, key=key, pure=False)
            running[future.key] = cell, future
            future.add_done_callback(ended.put)

        try:
            while left or running:
                width = AHEAD * self.width if left else 0
                while left and len(running) < width:
                    cell = next(waiting, None)
                    if cell is None:
                        left = False
                        break
                    listener.cell_started(cell)
                    submit(cell)
                yield from failed
                failed.clear()
                self._timer.go_on()
                if stop():
                    return
                futures = _all_of(ended)
                cells_of = {future.key: running.pop(future.key)[0] for future in futures}
                good = [future for future in futures if future.status == "finished"]
                found = dict(zip((future.key for future in good), self._gathered(good), strict=True))
                for future in futures:
                    cell = cells_of[future.key]
                    if future.key in found:
                        yield cell, found[future.key]
                    elif future.status == "error":
                        yield cell, self._failure(future.exception())
                    elif self._client.status == "running":  # lost with its worker
                        submit(cell)
                    else:
                        raise UsageError("the Dask scheduler has gone; finished rows are kept")
                yield None
        finally:
            with suppress(Exception):
                self._client.cancel([future for _, future in running.values()])

    def _gathered(self, futures: list[Any]) -> list[Any]:
        """Return the results of futures in one request; that of a worker which died meanwhile is an `Ended`."""
        try:
            return list(self._client.gather(futures))
        except Exception:
            return [self._one(future) for future in futures]

    def _one(self, future: Any) -> Any:
        try:
            return future.result()
        except Exception as error:
            return self._failure(error)

    def _failure(self, error: Any) -> Ended:
        if isinstance(error, self._killed):
            return Ended("crashed", "the Dask workers that measured it died")
        return Ended("exception", f"it cannot be measured on the cluster: {typed(error)}")

    def compile(self, cell: Cell, outcome: Outcome) -> None:
        self._timer.add(cell)

    def time(self, cells: Sequence[Cell], listener: Listener, stop: Stop) -> Timed | None:
        return self._timer.time(cells, listener, stop)

    def close(self) -> None:
        self._timer.close()
        for each in (self._client, self._cluster):
            if each is not None:
                with suppress(Exception):
                    each.close()
        self._meanwhile.close()
