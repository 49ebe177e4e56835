"""The cost of an estimate: throughput in bulk and latency alone, with all cells of a run timed together."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradmeter.bench.cells import Cell
from gradmeter.bench.measurement.kernel import TimedCall, in_bulk, timed_call
from gradmeter.bench.measurement.prepared import Prepared, prepare
from gradmeter.bench.measurement.timing import calibrate, elapsed, interleave, median_interval, reference_parts
from gradmeter.estimators import UsageError
from gradmeter.estimators.errors import contained, one_line, typed

#: Copies of a cell's arrays that are used in turn, and the most bytes of a copy.
PLACES = 4
MOST_COPIED = 2**26


@dataclass(frozen=True)
class Cost:
    """Timing rounds of one cell, in seconds per estimate.

    Attributes
    ----------
    compile_seconds
        Compilation time in the first process that timed the cell.
    series
        One number per round, by name: `seconds` in bulk, `latency` alone, `reference` (the reference workload in the
        same round), `process` (0, 1, ...: which of the processes timed this cell), and `device_seconds` in bulk where
        the device has a clock of its own.
    peak_memory
        Bytes that one bulk call takes on a device of its own; None if unknown.
    """

    compile_seconds: float
    series: dict[str, np.ndarray]
    peak_memory: int | None = None

    def after(self, earlier: dict[str, np.ndarray], compile_seconds: float | None) -> Cost:
        """Return the cost with the rounds of earlier processes put first; the same object if there are none."""
        size = len(earlier.get("seconds", ()))
        if not size:
            return self
        before = {"process": np.zeros(size), **earlier}
        own = {**self.series, "process": self.series["process"] + before["process"].max() + 1.0}
        rounds = {name: np.concatenate([before[name], own[name]]) for name in own if name in before}
        return replace(
            self, compile_seconds=self.compile_seconds if compile_seconds is None else compile_seconds, series=rounds
        )

    def columns(self, variance: float | None) -> dict[str, float | None]:
        """Return the timing columns of a row with the given variance."""
        seconds, latency = median_interval(self.series["seconds"]), median_interval(self.series["latency"])
        device = self.series.get("device_seconds")
        return {
            **dict(zip(("seconds", "seconds_low", "seconds_high"), seconds, strict=True)),
            **dict(zip(("latency", "latency_low", "latency_high"), latency, strict=True)),
            "compile_seconds": self.compile_seconds,
            "device_seconds": None if device is None else float(np.median(device)),
            "peak_memory": self.peak_memory,
            "work_normalised_variance": None if variance is None else variance * seconds[0],
        }


@dataclass(frozen=True)
class Contender:
    """A contestant in the timing rounds.

    Attributes
    ----------
    make
        () -> its calls, (bulk, alone) for each copy of its arrays.
    backend
        The backend it runs on; None for a contender from other software.
    """

    make: Callable[[], list[tuple[TimedCall, TimedCall]]]
    backend: str | None = None


def contender(cell: Cell, prepared: Prepared | None = None) -> Contender:
    """Return the contender of a cell, with copies of its arrays elsewhere in memory.

    Parameters
    ----------
    prepared
        The prepared cell; if absent, the cell is prepared when the contender is compiled.
    """

    def make() -> list[tuple[TimedCall, TimedCall]]:
        ready = prepared or prepare(cell)
        return [timed_calls(each) for each in (ready, *_moved(ready))]

    return Contender(make, cell.backend)


class _Call:
    """One call in all rounds, on another copy of its arrays every round; if it fails, only this call is lost.

    In some cells the place of the arrays in memory costs a process some 10 % that the next process is spared. Taking
    turns, a bad place affects only a few rounds, and not their median.
    """

    def __init__(self, copies: list[TimedCall]) -> None:
        self.copies, self.turn = copies, 0
        self.failure: str | None = None

    def elapsed(self, repeats: int) -> float:
        if self.failure is None:
            try:
                with contained():
                    return elapsed(self.copies[self.turn % len(self.copies)].run, repeats)
            except Exception as error:
                self.failure = _not_timed(error)
        return math.nan

    def __call__(self) -> None:
        self.elapsed(1)


@dataclass(frozen=True)
class _OnDevice:
    """A bulk call whose stopwatch is that of its device."""

    call: _Call

    def elapsed(self, repeats: int) -> float:
        copy = self.call.copies[self.call.turn % len(self.call.copies)]
        found = None if self.call.failure else copy.device_seconds(repeats)
        return math.nan if found is None else found

    def __call__(self) -> None:
        self.elapsed(1)


@dataclass(frozen=True)
class _Ready:
    """A contender whose functions are compiled.

    Attributes
    ----------
    bulk, alone
        Its calls.
    replicates
        Estimates in a bulk call.
    first
        Seconds of the first bulk call.
    device
        The bulk call by the clock of its device, if there is one.
    peak_memory
        Bytes that a bulk call takes on a device of its own.
    """

    bulk: _Call
    alone: _Call
    replicates: int
    first: float
    device: _OnDevice | None = None
    peak_memory: int | None = None


class Contenders:
    """Contenders that were built, compiled and called once, by key; they are ready to be timed together."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Contender, _Ready | str]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._made

    def __len__(self) -> int:
        return len(self._made)

    def add(self, key: str, contender: Contender) -> None:
        """Compile a contender; if it fails, only this contender is not timed."""
        try:
            with contained():
                places = contender.make()
                first = elapsed(places[0][0].run, 1)
                elapsed(places[0][1].run, 1)
                memory = places[0][0].peak_memory()
                timed_there = places[0][0].device_seconds(1) is not None
        except Exception as error:  # a contender that fails must not prevent the timing of others
            self._made[key] = contender, _not_timed(error)
            return
        bulk, alone = (_Call(list(calls)) for calls in zip(*places, strict=True))
        on_device = _OnDevice(bulk) if timed_there else None
        self._made[key] = contender, _Ready(bulk, alone, places[0][0].replicates, first, on_device, memory)

    def keep(self, keys: Collection[str]) -> None:
        """Forget all contenders but these."""
        self._made = {key: made for key, made in self._made.items() if key in keys}

    def items(self) -> Iterator[tuple[str, Contender, _Ready | str]]:
        """Yield (key, contender, compiled contender or message) in the order of adding."""
        for key, (contender, ready) in self._made.items():
            yield key, contender, ready


def _not_timed(error: Exception) -> str:
    return f"not timed: {one_line(error) if isinstance(error, UsageError) else typed(error)}"


def time_calls(
    contenders: Contenders, each_round: Callable[[int], None] | None = None
) -> tuple[dict[str, Cost | str], dict[str, np.ndarray]]:
    """Time contenders in the same interleaved rounds.

    Parameters
    ----------
    each_round
        Callback that receives the number of each finished round.

    Returns
    -------
    Costs by key, with a message in place of a contender that cannot be timed; and the series of the shared rounds, in
    seconds. These are the reference workload (the geometric mean of its parts, and each part) and an A/A pair per
    backend (`a:numpy` and `again:numpy` are one cell timed as two), whose difference is the noise floor. The second
    dict is empty if nothing can be timed.
    """
    calls: dict[Any, tuple[Callable[[], Any], int]] = {}
    made: dict[str, _Ready] = {}
    costs: dict[str, Cost | str] = {}
    compiling: dict[str, float] = {}
    firsts: dict[str, str] = {}
    for key, made_by, ready in contenders.items():
        if isinstance(ready, str):
            costs[key] = ready
            continue
        try:
            # Latencies are not compared closely, so a quarter of the time suffices for them.
            repeats, singles = calibrate(ready.bulk)[0], max(1, calibrate(ready.alone)[0] // 4)
        except Exception as error:
            costs[key] = ready.bulk.failure or ready.alone.failure or _not_timed(error)
            continue
        calls[key, "seconds"], calls[key, "latency"] = (ready.bulk, repeats), (ready.alone, singles)
        if ready.device is not None:
            calls[key, "device_seconds"] = ready.device, repeats
        compiling[key] = max(0.0, ready.first - ready.bulk.elapsed(1))
        made[key] = ready
        if made_by.backend is not None:
            firsts.setdefault(made_by.backend, key)
    if not made:
        return costs, {}
    parts = reference_parts()
    # The parts of the reference workload together are timed as long as one cell.
    calls |= {("reference", name): (part, max(1, calibrate(part)[0] // len(parts))) for name, part in parts.items()}
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
            "process": np.zeros(len(reference)),
        }
        if ready.device is not None:
            series["device_seconds"] = np.asarray(rounds[key, "device_seconds"]) / ready.replicates
        failure = ready.bulk.failure or ready.alone.failure
        costs[key] = failure or Cost(compiling[key], series, ready.peak_memory)
    shared = {"reference": reference, **references}
    for backend, key in firsts.items():
        shared[f"a:{backend}"] = np.asarray(rounds[key, "seconds"])
        shared[f"again:{backend}"] = np.asarray(rounds["again", backend])
    return costs, shared


def _moved(ready: Prepared) -> list[Prepared]:
    """Return copies of a prepared cell with its arrays elsewhere in memory; none if the arrays are huge."""
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
    """Return two calls to be timed: estimates in bulk, and one estimate alone."""
    setting = ready.setting
    bulk = in_bulk(setting)
    return timed_call(bulk, bulk.replicates), timed_call(setting, 1)
