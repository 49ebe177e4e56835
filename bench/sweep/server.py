"""The server that worker processes are forked from. This module imports little, so that the server starts early."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.context import BaseContext

#: The module that runs in worker processes, by name; the server imports it before it forks.
WORKER = "gradmeter.bench.sweep.worker"


def context() -> BaseContext:
    """Return how processes are started: forked from a server of their own where the system can."""
    methods = multiprocessing.get_all_start_methods()
    return multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")


#: What the server imports besides for cells of a backend. None of it starts a thread, which a fork would lose.
IMPORTED = {
    "numpy": (),
    "torch": ("gradmeter.estimators.backends.torch", "torch._inductor.compile_fx"),
    "jax": ("gradmeter.estimators.backends.jax",),
}
#: Options of `gradmeter run` with which no worker process is started, or with which that is uncertain.
NEEDING_NO_SERVER = frozenset({"--in-process", "--plan", "--help"})


def start_server(backends: Iterable[str] = ()) -> None:
    """Start the server that worker processes are forked from; a server that runs already stays as it is.

    Parameters
    ----------
    backends
        Backends that the server imports, so that its processes need not import them one by one.
    """
    how = context()
    if how.get_start_method() != "forkserver":
        return
    from multiprocessing import forkserver, resource_tracker

    how.set_forkserver_preload([WORKER, *(module for name in sorted(set(backends)) for module in IMPORTED[name])])
    with ctrl_c_ignored():
        with _environment("PYTHONWARNINGS", "ignore::UserWarning"):
            resource_tracker.ensure_running()  # it cleans up after a process that was killed; its user need not know
        with suppress(OSError):  # of a process that was forked from one with a server; starting work tells
            forkserver.ensure_running()


def start_early(arguments: Sequence[str]) -> None:
    """Start the server before the command line is imported, so that both import at the same time.

    A suite names the backends of its cells, and is read much later; the server is not started then.

    Parameters
    ----------
    arguments
        Those after `gradmeter run`, not checked yet.
    """
    named = [each.partition("=") for each in arguments]
    names = {name for name, _, _ in named}
    if "--problem" not in names or not arguments[0].startswith("-") or names.intersection(NEEDING_NO_SERVER):
        return
    if None in (sys.stdin, sys.stdout, sys.stderr):
        return  # a pipe to the server would get the number of a closed stream
    following = zip(named, [*arguments[1:], ""], strict=True)
    values = [value if equal else after for (name, equal, value), after in following if name == "--backend"]
    if set(values) <= IMPORTED.keys():
        start_server(values)


def leave() -> None:
    """Close what this process, forked from a server, inherited from it: what is written there would end the server.

    If this process starts processes, they get a server of their own.
    """
    from multiprocessing import forkserver, resource_tracker

    for holder, name in ((forkserver._forkserver, "_forkserver_alive_fd"), (resource_tracker._resource_tracker, "_fd")):
        inherited = getattr(holder, name, None)
        if inherited is not None:
            os.close(inherited)
            setattr(holder, name, None)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def ctrl_c_ignored() -> Iterator[None]:
    """Let processes that are started here, and those forked from them, ignore Ctrl-C from their first moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
