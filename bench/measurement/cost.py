"""What an estimate costs: throughput in bulk and latency alone, all cells of a run timed together."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.measurement.cell import Prepared
from bench.measurement.kernel import TimedCall, in_bulk, timed_call
from bench.measurement.timing import calibrate, elapsed, interleave, median_interval, reference_parts

#: Copies of a cell's arrays that take turns, and the most bytes a copy may have.
PLACES = 4
MOST_COPIED = 2**26
#: Backends that compile at the same time: most of it is another process (PyTorch) or without the interpreter (JAX).
COMPILING_TOGETHER = 2


@dataclass(frozen=True)
class Cost:
    """Timing rounds of one cell, in seconds per estimate."""

    compile_seconds: float
    series: dict[str, np.ndarray]

    def columns(self, variance: float | None) -> dict[str, float | None]:
        """The timing columns of a row whose variance is given."""
        seconds, latency = median_interval(self.series["seconds"]), median_interval(self.series["latency"])
        return {
            **dict(zip(("seconds", "seconds_low", "seconds_high"), seconds, strict=True)),
            **dict(zip(("latency", "latency_low", "latency_high"), latency, strict=True)),
            "compile_seconds": self.compile_seconds,
            "work_normalised_variance": None if variance is None else variance * seconds[0],
        }


@dataclass(frozen=True)
class Contender:
    """What is timed.

    Attributes
    ----------
    make : () -> its calls, in bulk and alone; a pair for each copy of its arrays.
    backend : which of ours it runs on; None for what comes from elsewhere.
    """

    make: Callable[[], list[tuple[TimedCall, TimedCall]]]
    backend: str | None = None


def time_cells(
    prepared: Mapping[str, Prepared],
    each_round: Callable[[int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, Cost | str], dict[str, np.ndarray]]:
    """`time_calls`, of prepared cells."""
    return time_calls({key: cell(ready) for key, ready in prepared.items()}, each_round, stop)


def cell(ready: Prepared) -> Contender:
    """A prepared cell, with copies of its arrays elsewhere in memory."""
    return Contender(lambda: [timed_calls(each) for each in (ready, *_moved(ready))], ready.setting.backend.name)


class _Call:
    """One call through all rounds: on another copy of its arrays every round, and if it fails it costs only itself.

    Where arrays happen to lie costs one process some 10 % that the next one is spared, in some cells; the median over
    rounds does not see a place that only a few of them had.
    """

    def __init__(self, copies: list[TimedCall]) -> None:
        self.copies, self.turn = copies, 0
        self.failure: str | None = None

    def elapsed(self, repeats: int) -> float:
        if self.failure is None:
            try:
                return elapsed(self.copies[self.turn % len(self.copies)].run, repeats)
            except Exception as error:
                self.failure = _not_timed(error)
        return math.nan

    def __call__(self) -> None:
        self.elapsed(1)


@dataclass(frozen=True)
class _Ready:
    """A contender whose functions are compiled: its calls, estimates a bulk call, and seconds of the first ones."""

    bulk: _Call
    alone: _Call
    replicates: int
    first: float


def _compile(contenders: Mapping[str, Contender], stop: Callable[[], bool]) -> dict[str, _Ready | str]:
    """Call everything once. Contenders of one backend one after another, backends side by side; others in turn."""
    ready: dict[str, _Ready | str] = {}
    interrupted = threading.Event()

    def compile(keys: Iterable[str]) -> None:
        for key in keys:
            if stop() or interrupted.is_set():
                return
            try:
                places = contenders[key].make()
                first = elapsed(places[0][0].run, 1)
                elapsed(places[0][1].run, 1)
                bulk, alone = (_Call(list(calls)) for calls in zip(*places, strict=True))
                ready[key] = _Ready(bulk, alone, places[0][0].replicates, first)
            except Exception as error:  # one that cannot be timed must not cost the others their times
                ready[key] = _not_timed(error)

    backends = sorted({c.backend for c in contenders.values() if c.backend is not None})
    with ThreadPoolExecutor(COMPILING_TOGETHER) as threads:
        try:
            work = [threads.submit(compile, [k for k, c in contenders.items() if c.backend == b]) for b in backends]
            for each in work:
                each.result()
        except BaseException:
            interrupted.set()
            raise
    compile([key for key, contender in contenders.items() if contender.backend is None])
    return ready


def _not_timed(error: Exception) -> str:
    return f"not timed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def time_calls(
    contenders: Mapping[str, Contender],
    each_round: Callable[[int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, Cost | str], dict[str, np.ndarray]]:
    """Time every cell in the same interleaved rounds.

    Returns
    -------
    costs by key, a message in place of one that cannot be timed; and the rounds of the reference workload (the
    geometric mean of its parts, and each part) and of an A/A pair a backend (`a:numpy` and `again:numpy` are one
    cell timed as two), which tell what differences mean nothing. Both are empty if `stop` came true before the
    rounds began.
    """
    found = _compile(contenders, stop)
    calls: dict[Any, tuple[Callable[[], Any], int]] = {}
    made: dict[str, _Ready] = {}
    costs: dict[str, Cost | str] = {}
    compiling = {}
    for key in contenders:
        if stop():
            return {}, {}
        ready = found[key]
        if isinstance(ready, str):
            costs[key] = ready
            continue
        try:
            repeats, singles = calibrate(ready.bulk)[0], calibrate(ready.alone)[0]
        except Exception as error:
            costs[key] = ready.bulk.failure or ready.alone.failure or _not_timed(error)
            continue
        calls[key, "seconds"], calls[key, "latency"] = (ready.bulk, repeats), (ready.alone, singles)
        compiling[key] = max(0.0, ready.first - ready.bulk.elapsed(1))
        made[key] = ready
    if not made:
        return costs, {}
    parts = reference_parts()
    calls |= {("reference", name): (part, calibrate(part)[0]) for name, part in parts.items()}
    firsts = {backend: key for key in reversed(made) if (backend := contenders[key].backend) is not None}
    calls |= {("again", backend): calls[key, "seconds"] for backend, key in firsts.items()}

    def next_round(number: int) -> None:
        for ready in made.values():
            ready.bulk.turn = ready.alone.turn = number
        if each_round is not None:
            each_round(number)

    rounds = interleave(calls, each_round=next_round)
    references = {f"reference:{name}": np.asarray(rounds["reference", name]) for name in parts}
    reference = np.exp(np.mean(np.log(list(references.values())), axis=0))
    for key, ready in made.items():
        series = {
            "seconds": np.asarray(rounds[key, "seconds"]) / ready.replicates,
            "latency": np.asarray(rounds[key, "latency"]),
            "reference": reference,
        }
        costs[key] = ready.bulk.failure or ready.alone.failure or Cost(compiling[key], series)
    shared = {"reference": reference, **references}
    for backend, key in firsts.items():
        shared[f"a:{backend}"] = np.asarray(rounds[key, "seconds"])
        shared[f"again:{backend}"] = np.asarray(rounds["again", backend])
    return costs, shared


def _moved(ready: Prepared) -> list[Prepared]:
    """The same cell with its arrays elsewhere in memory, unless they are huge."""
    setting = ready.setting
    backend, data = setting.backend, setting.expectation.data
    host = [{k: backend.to_numpy(a) for k, a in arrays.items()} for arrays in (data, setting.parameters)]
    if sum(a.nbytes for arrays in host for a in arrays.values()) > MOST_COPIED:
        return []

    def elsewhere() -> Prepared:
        copied, parameters = ({k: backend.asarray(a.copy(), None) for k, a in arrays.items()} for arrays in host)
        moved = replace(setting, expectation=setting.expectation.bind(copied), parameters=parameters)
        return replace(ready, setting=moved)

    return [elsewhere() for _ in range(PLACES - 1)]


def timed_calls(ready: Prepared) -> tuple[TimedCall, TimedCall]:
    """Estimates in bulk, and one alone."""
    setting = ready.setting
    bulk = in_bulk(setting)
    return timed_call(bulk, bulk.replicates), timed_call(setting, 1)
