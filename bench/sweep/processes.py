"""Worker processes, one piece of work at a time each, that can be killed at a deadline and are missed when they die.

Each process has a socket of its own and inherits no other descriptor of its parent's. So a death costs no other work:
no lock or pipe is shared that a killed process could leave locked or half written. A process is dead when the system
says so; what it wrote last is read before that is believed.

Processes are forked from a server that has imported what measuring takes, the frameworks of the cells included, and
started no thread. User classes travel by value (cloudpickle), so that the user's script is not run again in a worker.
"""

from __future__ import annotations

import importlib
import math
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from multiprocessing import connection
from pathlib import Path
from typing import Any

import cloudpickle

from gradmeter.bench.identity.owner import brought
from gradmeter.bench.sweep.channel import BEGUN, FAILED, PROGRESS, RESULT, WORK, Channel, Garbled
from gradmeter.bench.sweep.measuring import Ended
from gradmeter.bench.sweep.server import WORKER, context, ctrl_c_ignored, start_server
from gradmeter.estimators.errors import typed

#: Longest wait for anything, in seconds, so that a request to stop is noticed.
TICK = 0.1
#: Seconds that a process may live on after it closed its socket.
GRACE = 0.5
#: Most seconds that pickling a user's objects may take; a cell's limit of time is another.
PICKLING = 60.0
#: multiprocessing keeps one table of processes and reads the status of each once, in whichever thread.
_TABLE = threading.RLock()


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


def packing(arguments: tuple[Any, ...]) -> Future[bytes]:
    """Return the future of `packed`; it is done unless pickling a user's object takes long, or never ends."""
    future: Future[bytes] = Future()

    def pack() -> None:
        try:
            future.set_result(packed(arguments))
        except BaseException as error:
            future.set_exception(error)

    if brought(arguments):
        thread = threading.Thread(target=pack, daemon=True)
        thread.start()
        thread.join(TICK)
    else:
        pack()
    return future


def most_pickling(seconds: float | None) -> float:
    """Return how long pickling may take where a cell may take so many seconds."""
    return min(PICKLING, math.inf if seconds is None else seconds)


def not_packed(seconds: float) -> Ended:
    """Return what becomes of a cell whose pickling has not ended."""
    return Ended("timeout", f"it cannot be sent to a worker process: pickling it did not end within {seconds:g} s")


#: Seconds in which a process imports what it needs and begins its work.
MOST_TO_BEGIN = 300.0


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


class _Launch:
    """The start of a process, in a thread of its own since it waits for all that the server imports.

    Attributes
    ----------
    process, channel
        What was started, and the connection to it; None before.
    error
        Why it could not be started.
    """

    def __init__(self, limits: Limits) -> None:
        self.process: Any = None
        self.channel: Channel | None = None
        self.error: Exception | None = None
        self._given_up, self._lock = False, threading.Lock()
        start_server()  # from here, where Ctrl-C can be kept from it
        self._thread = threading.Thread(target=self._run, args=(limits,), daemon=True)
        self._thread.start()
        self._thread.join(TICK)

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def _run(self, limits: Limits) -> None:
        channel, theirs, token = Channel.pair()
        try:
            process = context().Process(target=_serve, args=(theirs, token, limits.plugins))  # type: ignore[attr-defined]
            with _TABLE, main_left_out(), ctrl_c_ignored():
                process.start()
        except (OSError, EOFError, AssertionError) as error:  # a daemon may have no processes
            self.error = error
            channel.close()
            return
        finally:
            theirs.close()
        with self._lock:
            self.process, self.channel = process, channel
            if self._given_up:
                _end(process, channel)

    def give_up(self) -> None:
        """End the process, now or as soon as it is there."""
        with self._lock:
            self._given_up = True
            if self.process is not None:
                _end(self.process, self.channel)


def _end(process: Any, channel: Channel | None) -> None:
    with suppress(OSError, ValueError), _TABLE:
        process.kill()
    with suppress(OSError, AttributeError):
        os.killpg(process.pid, signal.SIGKILL)  # what it started
    if channel is not None:
        channel.close()


class WorkerProcess:
    """One process, started with its first work."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._process: Any = None
        self._channel: Channel | None = None
        self._launch: _Launch | None = None
        self._message = b""  # its work, while it is being launched
        self._packing: tuple[str, Future[bytes]] | None = None
        self._found: list[Any] = []  # what the work came to, once it is there
        self._seconds: float | None = None
        self._began: float | None = None
        self._closed: float | None = None
        self._sent = 0.0
        self.progress: int | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else int(self._process.pid)

    def start(self, function: str, *arguments: Any, seconds: float | None = None) -> None:
        """Start work.

        Parameters
        ----------
        function
            Name of one of `gradmeter.bench.sweep.worker`, which gets the arguments and the limit of memory.
        seconds
            Time after which the process is killed; None for no limit.
        """
        self._found, self.progress, self._seconds = [], None, seconds
        self._began = time.monotonic()
        self._packing = function, packing(arguments)
        self._send_packed()

    def _send_packed(self) -> None:
        """Send what start was given as soon as it is pickled."""
        assert self._packing is not None
        function, future = self._packing
        assert self._began is not None
        most = most_pickling(self._seconds)
        if future.done():
            self._packing = None
            try:
                self.send(function, future.result(), self._seconds)
            except UnableToSend as error:
                self._found = [Ended("exception", str(error))]
        elif time.monotonic() - self._began > most:
            self._packing, self._found = None, [not_packed(most)]

    def send(self, function: str, sent: bytes, seconds: float | None) -> None:
        """Start work whose arguments are pickled."""
        self._found, self.progress, self._seconds = [], None, seconds
        self._began = self._closed = None
        self._message = pickle.dumps((function, sent, self.limits.memory))
        if self._channel is None:
            self._launch = _Launch(self.limits)
        self._send_message()

    def _send_message(self) -> None:
        """Send the work as soon as the process is there."""
        if self._launch is not None:
            if not self._launch.over:
                return
            launched, self._launch = self._launch, None
            self._process, self._channel = launched.process, launched.channel
            if launched.error is not None:
                self._found = [NotBegun(typed(launched.error))]
                return
        assert self._channel is not None
        message, self._message = self._message, b""
        try:
            self._channel.put(WORK, message)
            self._sent = time.monotonic()
        except OSError as error:  # it died while it was idle
            self._found = [NotBegun(typed(error))]

    @property
    def handles(self) -> list[Any]:
        """What has something to read as soon as `done` may have another answer."""
        if self._channel is None or self._packing is not None:
            return []
        return [self._process.sentinel] if self._channel.closed else [self._process.sentinel, self._channel]

    @property
    def pause(self) -> float:
        """Seconds after which `done` may have another answer anyway."""
        if self._found:
            return 0.0
        return 0.002 if self._channel is not None and self._channel.unsent else TICK

    def done(self) -> bool:
        """Return whether `result` has something to return."""
        if self._packing is not None:
            self._send_packed()
        if self._launch is not None:
            self._send_message()
        if not self._found and self._packing is None and self._channel is not None:
            with _TABLE:
                alive = self._process.is_alive()  # before its messages, the last of which it may have sent by then
            try:
                self._hear(self._channel)
            except Garbled:
                self._found = [Ended("crashed", "it wrote into the socket of its process")]
            if not self._found:
                self._look(alive, self._channel)
        return bool(self._found)

    def _hear(self, channel: Channel) -> None:
        """Read what the process sent."""
        for kind, data in channel.messages():
            if kind == BEGUN:
                self._began = time.monotonic()
            elif kind == PROGRESS:
                (self.progress,) = struct.unpack("<q", data)
            elif kind == FAILED:
                self._found = [NotBegun(data.decode(errors="replace"))]
            elif kind == RESULT:
                self._found = [_result(data)]

    def _look(self, alive: bool, channel: Channel) -> None:
        """Take note of the end of the process, of its connection or of its time."""
        now = time.monotonic()
        if not alive:
            dead = f"its process {_ending(self._process.exitcode)}"
            self._found = [NotBegun(dead) if self._began is None else Ended("crashed", dead)]
            return
        if channel.closed:
            self._closed = self._closed or now
            if now - self._closed > GRACE:
                self._found = [Ended("crashed", "it closed the socket of its process")]
        elif self._began is None and now - self._sent > MOST_TO_BEGIN:
            self._found = [NotBegun(f"it did not begin within {MOST_TO_BEGIN:g} s; a plug-in may hang when imported")]
        elif self._began is not None and self._seconds is not None and now - self._began > self._seconds:
            self._found = [Ended("timeout", f"not finished after {self._seconds:g} s")]

    def result(self) -> Any:
        """Return what the work returned, or an `Ended`, after which the process is gone.

        Raises
        ------
        NotBegun
            The process died before it began, or could not be started.
        """
        (found,) = self._found
        if isinstance(found, NotBegun | Ended):
            self.kill()
        if isinstance(found, NotBegun):
            raise found
        return found

    def kill(self) -> None:
        """End the process now, whatever it does."""
        if self._launch is not None:
            self._launch.give_up()
            self._launch = None
        if self._process is not None:
            _end(self._process, self._channel)
            self._process = self._channel = None


def _ending(status: int) -> str:
    """Return how a process of this exit status ended, in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"was ended by signal {-status}"


def _result(data: bytes) -> Any:
    try:
        return pickle.loads(data)
    except Exception as error:
        return Ended("crashed", f"its result cannot be read: {typed(error)}")


def _serve(end: socket.socket, token: bytes, plugins: Sequence[Path]) -> None:
    importlib.import_module(WORKER).serve(end, token, plugins)


def wait(workers: Iterable[WorkerProcess], seconds: float = TICK) -> None:
    """Wait until one of these processes may have come to an end, but not longer than `seconds`."""
    workers = list(workers)
    if workers:
        handles = [handle for worker in workers for handle in worker.handles]
        connection.wait(handles, min(seconds, *(worker.pause for worker in workers)))
