"""Measure cells on a Dask cluster. Dask distributes them; on each of its workers a cell has a process of its own.

So what a cell does to its process is told and recorded as without a cluster, and a Dask worker that dies takes no cell
with it: the scheduler gives its cells to others.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import operator
import os
import queue
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from gradmeter.bench.cells import MOST_CELLS, Cell
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
    most_pickling,
    not_packed,
    packing,
    wait,
)
from gradmeter.bench.sweep.server import start_server
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import short, typed

#: Tasks that are submitted for each thread of the cluster, so that none waits for the next.
AHEAD = 2
#: Seconds that a task should take at least, and for each worker of the cluster. Dask's scheduler, which takes some
#: milliseconds for a task, is then busy for half of the time.
TASK, TASK_FOR_EACH_WORKER = 1.0, 0.005
MOST_IN_A_TASK = 1000
#: Tasks for each worker into which the cells that are left are divided at least, so that all end at about one time.
LAST_TASKS = 4
#: Seconds between two looks at how many threads the cluster has.
BETWEEN_LOOKS = 1.0
#: Seconds to wait for a scheduler.
PATIENCE = 15

_IDLE: list[WorkerProcess] = []
_LOCK = threading.Lock()


class _Abandoned(Exception):
    """Nobody waits for a task any more."""


def on_worker(work: str, batch: list[bytes], limits: Limits, longest: float) -> tuple[list[Any], float]:
    """Do work on several cells, one after another, each in a process of its own, on a Dask worker.

    A cell whose process dies gets a second one.

    Parameters
    ----------
    longest
        Seconds after which no further cell is begun.

    Returns
    -------
    What became of each cell, and the seconds it took. Cells that were not begun are left out.
    """
    with suppress(AssertionError):
        multiprocessing.current_process().daemon = False  # a daemon may have no processes
    with _LOCK:
        start_server()
    abandoned, found, begun = _abandonment(), list[Any](), time.monotonic()
    for sent in batch:
        with suppress(_Abandoned):
            found.append(_twice_at_most(work, sent, limits, abandoned))
        if abandoned() or time.monotonic() - begun > longest:
            break
    return found, time.monotonic() - begun


def _abandonment() -> Callable[[], bool]:
    """Return a function that says whether the task of this thread was cancelled, or its Dask worker is to end.

    Dask does not end the thread of a cancelled task: its run was stopped, or its client has gone.
    """
    import distributed

    worker = distributed.get_worker()
    key = worker.get_current_task()

    def asked() -> bool:
        task = worker.state.tasks.get(key)
        return task is None or task.state == "cancelled" or worker.status.name != "running"

    return asked


def _twice_at_most(work: str, sent: bytes, limits: Limits, abandoned: Callable[[], bool]) -> Any:
    found = _once(work, sent, limits, abandoned)
    if isinstance(found, Ended) and found.status == "crashed":
        found = _once(work, sent, limits, abandoned)
        if isinstance(found, Ended) and found.status == "crashed":
            return found.twice()
    return found


def _idle(limits: Limits) -> WorkerProcess:
    """Return a process that does nothing, one of an earlier task if there is one with the same limits."""
    with _LOCK:
        while _IDLE:
            process = _IDLE.pop()
            if process.limits == limits:
                return process
            process.kill()
    return WorkerProcess(limits)


def _once(work: str, sent: bytes, limits: Limits, abandoned: Callable[[], bool]) -> Any:
    for attempt in range(MOST_LOST):
        process = _idle(limits)
        try:
            process.send(work, sent, limits.seconds)
            while not process.done():
                wait([process])
                if abandoned():
                    process.kill()
                    raise _Abandoned
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


class _Sent(NamedTuple):
    """A cell, and the same as bytes for a worker."""

    cell: Cell
    packed: bytes


class Batches:
    """Sizes of tasks: the scheduler's work for a task does not depend on how many cells it has."""

    def __init__(self) -> None:
        self._seconds: float | None = None

    @staticmethod
    def seconds(workers: int) -> float:
        """Return how long a task should take."""
        return max(TASK, TASK_FOR_EACH_WORKER * workers)

    def size(self, workers: int, left: int) -> int:
        """Return the number of cells that the next task should have, where so many cells are left at most."""
        if self._seconds is None:
            return 1
        wanted = min(MOST_IN_A_TASK, self.seconds(workers) / max(self._seconds, 1e-9), left / (LAST_TASKS * workers))
        return max(1, int(wanted))

    def took(self, cells: int, seconds: float) -> None:
        """Take note of the time of a task; the last ones count most."""
        if cells == 0:
            return
        mean = seconds / cells
        self._seconds = mean if self._seconds is None else 0.8 * self._seconds + 0.2 * mean


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
        self._cluster: Any = None
        self._stopped = False
        if scheduler is not None and not scheduler.isascii():  # the client would go on trying for ever
            raise UsageError(
                f"there is no Dask scheduler at {short(scheduler)}: give an address such as tcp://host:8786"
            )
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
        waiting, sizes, numbers = iter(cells), Batches(), itertools.count()
        running: dict[str, tuple[list[_Sent], Any]] = {}
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        left, width, looked = operator.length_hint(cells, MOST_CELLS), 0, -math.inf

        def submit(batch: list[_Sent]) -> None:
            key = f"gradmeter-{next(numbers)}-{batch[0].cell.key[:16]}"
            packed = [each.packed for each in batch]
            longest = 2.0 * sizes.seconds(width)
            future = self._client.submit(on_worker, work, packed, self._limits, longest, key=key, pure=False)
            running[future.key] = batch, future
            future.add_done_callback(ended.put)

        try:
            while left or running:
                if time.monotonic() - looked > BETWEEN_LOOKS:
                    width, looked = self.width, time.monotonic()
                while left and len(running) < AHEAD * width and not stop():
                    taken = list(itertools.islice(waiting, sizes.size(width, left)))
                    batch = []
                    for cell in taken:
                        listener.cell_started(cell)
                        packed = self._packed((cell, *more), stop)
                        if isinstance(packed, Ended):
                            yield cell, packed
                        else:
                            batch.append(_Sent(cell, packed))
                    if batch:
                        submit(batch)
                    left = max(1, left - len(taken)) if taken else 0  # those that are known are not told
                self._timer.go_on()
                if stop():
                    return
                futures = _all_of(ended)
                good = [future for future in futures if future.status == "finished"]
                results = dict(zip((future.key for future in good), self._gathered(good), strict=True))
                for future in futures:
                    batch, _ = running.pop(future.key)
                    if future.key in results:
                        result = results[future.key]
                    elif future.status == "error":
                        result = self._failure(future.exception())
                    elif self._client.status == "running":  # lost with its worker
                        result = [], 0.0
                    else:
                        raise UsageError("the Dask scheduler has gone; finished rows are kept")
                    if not isinstance(result, Ended):
                        found, seconds = result
                        sizes.took(len(found), seconds)
                        yield from ((each.cell, one) for each, one in zip(batch, found, strict=False))
                        if len(found) < len(batch):
                            submit(batch[len(found) :])
                    elif len(batch) == 1:
                        yield batch[0].cell, result
                    else:  # whichever of them it was
                        for each in batch:
                            submit([each])
                yield None
        except _Abandoned:
            return
        finally:
            self._stopped = stop()
            with suppress(Exception):
                self._client.cancel([future for _, future in running.values()])

    def _packed(self, arguments: tuple[Any, ...], stop: Stop) -> bytes | Ended:
        """Return a cell as bytes for a worker.

        Raises
        ------
        _Abandoned
            A stop was asked for.
        """
        future, most, begun = packing(arguments), most_pickling(self._limits.seconds), time.monotonic()
        while not future.done():
            if stop():
                raise _Abandoned
            if time.monotonic() - begun > most:
                return not_packed(most)
            time.sleep(TICK)
        try:
            return future.result()
        except UnableToSend as error:
            return Ended("exception", str(error))

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
        if self._stopped and self._cluster is not None:
            for nanny in self._cluster.workers.values():
                with suppress(Exception):
                    nanny.auto_restart = False
                    os.kill(nanny.pid, signal.SIGKILL)  # Dask would wait for its threads, which may import for seconds
        for each in (self._client, self._cluster):
            if each is not None:
                with suppress(Exception):
                    each.close()
        self._meanwhile.close()
