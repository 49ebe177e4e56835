"""Worker processes, one piece of work at a time each, that can be killed at a deadline and are missed when they die.

A worker is an executor of `concurrent.futures` with one process. That library notices every death, also `os._exit(0)`,
which others mistake for an orderly end. One executor a process means that a death costs no other work, and that no
lock or pipe is shared which a killed process could leave locked or half written.

Processes are forked from a server that has imported what measuring takes, the frameworks of the cells included, and
started no thread. User classes travel by value (cloudpickle), so that the user's script is not run again in a worker.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import cloudpickle

from gradmeter.bench.sweep.measuring import Ended
from gradmeter.bench.sweep.server import WORKER, context, ctrl_c_ignored
from gradmeter.estimators.errors import typed

#: Longest wait for anything, in seconds, so that a request to stop is noticed.
TICK = 0.1
#: Seconds after the death of a process in which its last result may still arrive.
GRACE = 2.0


class UnableToSend(Exception):
    """An object cannot be sent to another process."""


def packed(arguments: tuple[Any, ...]) -> bytes:
    """Return arguments as bytes for another process.

    Raises
    ------
    UnableToSend
        They hold what cannot be copied, such as a lock, or a class of the user's refuses.
    """
    try:
        return cloudpickle.dumps(arguments)
    except (Exception, SystemExit) as error:  # a class of the user's may raise anything
        raise UnableToSend(f"it cannot be sent to a worker process: {typed(error)}; measure it in process") from None


class NotBegun(Exception):
    """A worker process ended before it began its work."""


@dataclass(frozen=True)
class Limits:
    """What a worker process may take.

    Attributes
    ----------
    seconds
        Time of one cell, after which its process is killed; None for no limit.
    memory
        Bytes of data that one cell may add to its process; None for no limit.
    plugins
        Files that every process imports, as `--plugin`.
    """

    seconds: float | None = None
    memory: int | None = None
    plugins: tuple[Path, ...] = ()


@contextmanager
def main_left_out() -> Iterator[None]:
    """Keep processes that are started here from running the user's script again.

    They would import it as `__mp_main__` to find its classes, which cloudpickle sends by value.
    """
    main = sys.modules["__main__"]
    before = getattr(main, "__spec__", None)
    main.__spec__ = ModuleSpec("__main__", None)
    try:
        yield
    finally:
        main.__spec__ = before


class WorkerProcess:
    """One process, started with its first work."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        how = context()
        self._reports, reporting = how.Pipe(duplex=False)
        arguments = (limits.plugins, reporting)
        self._executor = ProcessPoolExecutor(1, how, _begin, arguments)
        self._process: Any = None
        self._children: list[Any] = []
        self._hello: Future[int] | None = None
        self._work: Future[Any] | None = None
        self._seconds: float | None = None
        self._began: float | None = None
        self._died: float | None = None
        self.progress: int | None = None

    def start(self, function: str, *arguments: Any, seconds: float | None = None) -> None:
        """Start work.

        Parameters
        ----------
        function
            Name of one of `gradmeter.bench.sweep.worker`, which gets the arguments and the limit of memory.
        seconds
            Time after which the process is killed; None for no limit.
        """
        assert self._work is None
        try:
            sent = packed(arguments)
        except UnableToSend as error:
            self._work = Future()
            self._work.set_result(Ended("exception", str(error)))
            return
        self.send(function, sent, seconds)

    def send(self, function: str, sent: bytes, seconds: float | None) -> None:
        """Start work whose arguments are pickled."""
        assert self._work is None
        self._began = self._died = self.progress = None
        self._seconds = seconds
        try:
            if self._hello is None:
                with main_left_out(), ctrl_c_ignored():
                    self._hello = self._executor.submit(os.getpid)
                self._children = multiprocessing.active_children()  # one of them is the process; its number comes later
            self._work = self._executor.submit(_call, function, sent, self._limits.memory)
        except (BrokenProcessPool, OSError, EOFError, AssertionError) as error:  # a daemon may have no processes
            self._work = Future()
            self._work.set_exception(NotBegun(typed(error)))  # it died while it was idle, or could not be started

    @property
    def pending(self) -> Future[Any] | None:
        """What a waiting process waits for: that the process is there, then that its work is done."""
        return self._work if self._hello is None or self._hello.done() else self._hello

    def done(self) -> bool:
        """Return whether `result` has something to return; kill the process where its deadline has passed."""
        self._hear()
        if self._work is None:
            return False
        self._find_process()
        if self._work.done():
            return True
        if self._began is None:
            return False
        now = time.monotonic()
        if self._seconds is not None and now - self._began > self._seconds:
            return True
        if self._process is not None and not self._process.is_alive():
            self._died = self._died or now
            return now - self._died > GRACE
        return False

    def _hear(self) -> None:
        """Read what the process said about its progress."""
        with suppress(OSError, EOFError):
            while self._reports.poll():
                (self.progress,) = struct.unpack("<q", self._reports.recv_bytes())

    def _find_process(self) -> None:
        if self._began is None and self._hello is not None and self._hello.done() and not self._hello.exception():
            self._began = time.monotonic()
            if self._process is None:
                pid = self._hello.result()
                self._process = next((child for child in self._children if child.pid == pid), None)
                self._children = []

    def result(self) -> Any:
        """Return what the work returned, or an `Ended`, after which the process is gone.

        Raises
        ------
        NotBegun
            The process died before it began, or could not be started.
        """
        assert self._work is not None
        work, self._work = self._work, None
        if not work.done():
            late = self._died is None
            self.kill()
            return Ended("timeout", f"not finished after {self._seconds:g} s") if late else self._death()
        error = work.exception()
        if error is None:
            return work.result()
        if isinstance(error, NotBegun):
            self.kill()
            raise error
        if not isinstance(error, BrokenProcessPool):
            return Ended("exception", f"it cannot be measured in a worker process: {typed(error)}")
        self.kill()
        if self._process is None:
            raise NotBegun(typed(error))
        return self._death()

    def _death(self) -> Ended:
        """Return how the process ended."""
        self._process.join(GRACE)
        status = self._process.exitcode
        if status is not None and status < 0:
            said = f"its process was ended by {signal.Signals(-status).name}"
        else:
            said = f"its process ended with status {status}"
        return Ended("crashed", said)

    def kill(self) -> None:
        """End the process now, whatever it does."""
        if self._process is None and self._hello is not None and self._hello.done() and not self._hello.exception():
            self._find_process()
        if self._process is not None:
            with suppress(OSError, ValueError):
                self._process.kill()
            with suppress(OSError, AttributeError):
                os.killpg(self._process.pid, signal.SIGKILL)  # what it started
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._reports.close()


def _begin(plugins: Sequence[Path], reports: Any) -> None:
    importlib.import_module(WORKER).begin(plugins, reports)


def _call(function: str, sent: bytes, memory: int | None) -> Any:
    return importlib.import_module(WORKER).call(function, sent, memory)


def wait(workers: Iterable[WorkerProcess], seconds: float = TICK) -> None:
    """Wait until one of these processes may have come to an end, but not longer than `seconds`."""
    pending = [future for worker in workers if (future := worker.pending) is not None]
    if pending:
        wait_for(pending, seconds, FIRST_COMPLETED)
