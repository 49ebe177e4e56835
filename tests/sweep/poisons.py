"""Problems whose integrand does to its process what no estimator should."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradmeter.bench.problems.test_functions import Square, SquareIntegrand
from gradmeter.estimators import Integrand


def _raise() -> None:
    raise ValueError("poisoned")


def _raise_base() -> None:
    raise BaseException("poisoned")


def _interrupt() -> None:
    raise KeyboardInterrupt


def _eat() -> None:
    eaten = []
    while True:
        eaten.append(np.empty(2**24))


def _hang() -> None:
    while True:
        time.sleep(1.0)


def _leave_a_thread() -> None:
    if not any(thread.name == "stray" for thread in threading.enumerate()):
        threading.Thread(target=_hang, name="stray").start()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _write_everywhere() -> None:
    for descriptor in range(3, 64):
        with suppress(OSError):
            os.write(descriptor, b"garbage" * 10)


def _close_everything() -> None:
    os.closerange(3, 256)


def _fork() -> None:
    """Fork once, and go on in both processes."""
    if os.environ.setdefault("FORKED", str(os.getpid())) == str(os.getpid()):
        os.environ["FORKED"] = "0"
        os.fork()


#: By name: what is done, and the status and a part of the reason that its rows have.
POISONS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "nan": (lambda: np.nan, "exception", "gradient is nan"),
    "exception": (_raise, "exception", "ValueError: poisoned"),
    "base-exception": (_raise_base, "exception", "BaseException: poisoned"),
    "system-exit": (lambda: sys.exit(0), "exception", "it calls sys.exit"),
    "interrupt": (_interrupt, "exception", "it raises KeyboardInterrupt"),
    "memory": (_eat, "out-of-memory", "MemoryError"),
    "hang": (_hang, "timeout", "not finished after 2 s"),
    "segmentation-fault": (lambda: ctypes.string_at(0), "crashed", "ended by SIGSEGV"),
    "exit": (lambda: os._exit(0), "crashed", "ended with status 0"),
    "kill": (_kill, "crashed", "ended by SIGKILL"),
    "real-time-signal": (lambda: os.kill(os.getpid(), signal.SIGRTMIN + 1), "crashed", "was ended by signal"),
    "garbage": (_write_everywhere, "crashed", "it wrote into the socket of its process"),
    "closed-files": (_close_everything, "crashed", "its process"),
    "fork": (_fork, "ok", ""),
    "thread": (_leave_a_thread, "ok", "it left a thread running, stray"),
}


class Poisoned(SquareIntegrand):
    """The integrand of `square`, which does something first."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act

    def derivative(self, xp: Any, data: Any, z: Any) -> Any:
        return (self.act() or 1.0) * super().derivative(xp, data, z)


def problem(poison: str) -> Square:
    act = POISONS[poison][0]

    @dataclass(frozen=True)
    class Own(Square):
        name: ClassVar[str] = poison
        integrand: ClassVar[Integrand] = Poisoned(act)

    return Own()
