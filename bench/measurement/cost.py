"""What an estimate costs: throughput in bulk and latency alone, all cells of a run timed together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bench.measurement.cell import Prepared
from bench.measurement.kernel import TimedCall, timed_call
from bench.measurement.timing import calibrate, interleave, median_interval, reference_parts

#: Copies of a cell's arrays that take turns, and the most bytes a copy may have.
PLACES = 4
MOST_COPIED = 2**26


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


def time_cells(
    prepared: Mapping[str, Prepared],
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
    calls: dict[Any, tuple[Callable[[], Any], int]] = {}
    turns: list[_Turns] = []
    compiling, made, failed = {}, {}, {}
    for key, ready in prepared.items():
        if stop():
            return {}, {}
        try:
            first = timed_calls(ready)
            repeats, compiling[key] = calibrate(first[0].run)
            singles, _ = calibrate(first[1].run)
            placed = [first, *(timed_calls(moved) for moved in _moved(ready))]
            bulk, alone = (_Turns([call.run for call in each]) for each in zip(*placed, strict=True))
        except Exception as error:  # one cell that cannot be timed must not cost the others their times
            failed[key] = f"not timed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            continue
        calls[key, "seconds"], calls[key, "latency"] = (bulk, repeats), (alone, singles)
        turns += [bulk, alone]
        made[key] = first[0].replicates
    if not made:
        return dict(failed), {}
    parts = reference_parts()
    calls |= {("reference", name): (part, calibrate(part)[0]) for name, part in parts.items()}
    firsts = {prepared[key].setting.backend.name: key for key in reversed(made)}
    calls |= {("again", backend): calls[key, "seconds"] for backend, key in firsts.items()}

    def next_round(number: int) -> None:
        for each in turns:
            each.turn = number
        if each_round is not None:
            each_round(number)

    rounds = interleave(calls, each_round=next_round)
    references = {f"reference:{name}": np.asarray(rounds["reference", name]) for name in parts}
    reference = np.exp(np.mean(np.log(list(references.values())), axis=0))
    costs = {
        key: Cost(
            compiling[key],
            {
                "seconds": np.asarray(rounds[key, "seconds"]) / made[key],
                "latency": np.asarray(rounds[key, "latency"]),
                "reference": reference,
            },
        )
        for key in made
    }
    shared = {"reference": reference, **references}
    for backend, key in firsts.items():
        shared[f"a:{backend}"] = np.asarray(rounds[key, "seconds"])
        shared[f"again:{backend}"] = np.asarray(rounds["again", backend])
    return {**costs, **failed}, shared


class _Turns:
    """The same call on copies of its arrays, another copy every round.

    Where arrays happen to lie costs one process some 10 % that the next one is spared, in some cells; the median over
    rounds does not see a place that only a few of them had.
    """

    def __init__(self, calls: list[Callable[[], Any]]) -> None:
        self.calls, self.turn = calls, 0

    def __call__(self) -> Any:
        return self.calls[self.turn % len(self.calls)]()


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
    # PyTorch's single estimate is timed eagerly, as a training step written in it mostly runs.
    alone = timed_call(setting, 1, compiled=setting.backend.name != "torch")
    return timed_call(setting, setting.replicates), alone
