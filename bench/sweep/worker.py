"""What runs in a worker process: the measurement of one cell, and the timing of several.

A worker process is expendable. It writes nothing but what it returns: the process that owns the store stays out of
reach of whatever a measured class does.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from gradmeter.bench.cells import Cell
from gradmeter.bench.identity.owner import brought, of_the_user
from gradmeter.bench.measurement import cell as _cell  # noqa: F401  imported once, before processes are forked
from gradmeter.bench.measurement.cost import Cost
from gradmeter.bench.measurement.kernel import StatisticsKernel
from gradmeter.bench.measurement.prepared import prepare
from gradmeter.bench.sweep import server
from gradmeter.bench.sweep.channel import BEGUN, FAILED, PROGRESS, RESULT, Channel, Garbled
from gradmeter.bench.sweep.measuring import Ended, Outcome, measure_cell, with_remark
from gradmeter.bench.sweep.processes import Limits
from gradmeter.bench.sweep.splitting import parts_of
from gradmeter.bench.sweep.timer import Timer
from gradmeter.estimators import backends
from gradmeter.estimators.errors import typed

#: Seconds between two messages about progress.
PAUSE = 0.2
_CHANNEL: Channel | None = None
_TIMER = Timer()
_PLUGINS: tuple[Path, ...] = ()
_LAST: dict[str, Any] = {}


def serve(end: socket.socket, token: bytes, plugins: Sequence[Path]) -> NoReturn:
    """Do one piece of work after another, until the process that started this one closes the connection."""
    global _CHANNEL
    channel = _CHANNEL = Channel(end, token, waiting=True)
    own = os.getpid()
    try:
        begin(plugins)
    except BaseException as error:
        channel.put(FAILED, typed(error).encode())
        os._exit(1)
    with suppress(OSError, Garbled):  # nobody is left to be told, and a traceback would be taken for a fault of ours
        for _, work in channel.messages():
            channel.put(BEGUN)
            result = _pickled(call(*pickle.loads(work)))
            if os.getpid() != own:  # a process that a cell forked, and that went on here
                break
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            channel.put(RESULT, result)
    os._exit(0)


def begin(plugins: Sequence[Path]) -> None:
    """Prepare this process: Ctrl-C is its parent's, it prints to standard error, and it ends with its parent."""
    global _PLUGINS
    _PLUGINS = tuple(plugins)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgid(0, 0)  # signals to a group of processes are not for this one, and what it starts can be ended with it
    server.leave()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)  # rows alone go to standard output
    except OSError:  # standard error is closed
        for stream in (1, 2):
            os.dup2(nothing, stream)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _killed_with_server()
    from gradmeter.bench import plugin_files

    plugin_files.add(plugins)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        with suppress(OSError):  # a cell closed what tells
            parent.join()
        os._exit(1)


def _killed_with_server() -> None:
    """On Linux, let the system kill this process with the server it was forked from: also while no thread can run."""
    if sys.platform == "linux" and server.context().get_start_method() == "forkserver":
        import ctypes

        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


def call(function: str, sent: bytes, memory: int | None) -> Any:
    """Call a function of this module with pickled arguments, in at most `memory` bytes beyond those in use."""
    try:
        return WORK[function](*pickle.loads(sent), memory)
    except MemoryError:
        return Ended("out-of-memory", "there is no memory to begin with")
    except KeyboardInterrupt:  # not Ctrl-C, which this process ignores
        return Ended("exception", "it raises KeyboardInterrupt")
    except BaseException as error:
        return _failed(error)


def _pickled(result: Any) -> bytes:
    try:
        return pickle.dumps(result)
    except Exception as error:
        return pickle.dumps(_failed(error))


def _failed(error: BaseException) -> Ended:
    return Ended("exception", f"it cannot be measured in a worker process: {typed(error)}")


def measured(cell: Cell, helpers: int, memory: int | None) -> Outcome:
    """Measure the statistics of a cell, if it is large with further processes; say if it leaves a thread running."""
    before = set(threading.enumerate())
    with _limited(cell, memory), _sharing(cell, helpers) as kernel:
        outcome = measure_cell(cell, _throttled(), **kernel)
    left = [thread for thread in threading.enumerate() if thread not in before and _of_the_user(thread)]
    remark = f"it left a thread running, {left[0].name}" if left else None
    rows = [with_remark(row, remark) for row in outcome.rows]
    return replace(outcome, rows=rows, prepared=None, spoilt=brought(cell.problem) or brought(cell.estimator))


def sums(cell: Cell, stream: str, firsts: list[int], centre: dict[str, np.ndarray], memory: int | None) -> Any:
    """Return the sums of the blocks from each of `firsts` on, for the process that measures the cell."""
    kernel, roots = _kernel_of(cell, stream)
    on_device = kernel.setting.to_device(centre)
    return [kernel(roots, first, on_device) for first in firsts]


def _kernel_of(cell: Cell, stream: str) -> tuple[StatisticsKernel, Any]:
    """Return the kernel of a cell and the roots of a stream; those of the last cell are remembered."""
    if _LAST.get("key") != cell.key:
        _LAST.update(key=cell.key, kernel=StatisticsKernel(prepare(cell).setting))
    return _LAST["kernel"], _LAST["kernel"].setting.roots(stream)


@contextmanager
def _sharing(cell: Cell, helpers: int) -> Iterator[dict[str, Any]]:
    if helpers == 0:
        yield {}
        return
    from gradmeter.bench.sweep.sharing import Helpers, SharedKernel

    processes = Helpers(cell, helpers, Limits(plugins=_PLUGINS))
    try:
        yield {"kernel": functools.partial(SharedKernel, helpers=processes)}
    finally:
        processes.close()


def parts(cell: Cell, memory: int | None) -> dict[str, np.ndarray] | None:
    """Return the parts of a minibatch's variance as series; None if there are none."""
    with _limited(cell, memory):
        return parts_of(cell)


def compiled(cell: Cell, memory: int | None) -> None:
    """Compile what timing a cell takes, ahead of `timed`."""
    _TIMER.add(cell)


def timed(cells: list[Cell], memory: int | None) -> tuple[dict[str, Cost | str], dict[str, np.ndarray]]:
    """Time cells together; see `gradmeter.bench.measurement.cost.time_calls`."""
    return _TIMER.time(cells, _report)


#: What a worker process does, by name.
WORK: dict[str, Callable[..., Any]] = {each.__name__: each for each in (measured, sums, parts, compiled, timed)}


def _report(number: int) -> None:
    if _CHANNEL is not None:
        _CHANNEL.put(PROGRESS, struct.pack("<q", number))


def _throttled() -> Callable[[int], None]:
    last = time.monotonic()

    def report(number: int) -> None:
        nonlocal last
        if time.monotonic() - last > PAUSE:
            last = time.monotonic()
            _report(number)

    return report


def _of_the_user(thread: threading.Thread) -> bool:
    """Return whether a thread would keep the process from ending, and is not one of a framework."""
    target = getattr(thread, "_target", None)
    return not thread.daemon and any(of_the_user(getattr(each, "__module__", None)) for each in (type(thread), target))


@contextmanager
def _limited(cell: Cell, memory: int | None) -> Iterator[None]:
    """Let the data of this process grow by at most `memory` bytes; beyond that an allocation fails."""
    if memory is None:
        yield
        return
    import resource

    backends.get(cell.backend, cell.device)  # a framework's own memory is not the cell's
    before = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + memory, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
