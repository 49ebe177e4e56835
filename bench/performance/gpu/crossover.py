"""From how many replicates a call a card is faster than the CPU.

The same kernel is timed at growing numbers of replicates: on the CPU with one thread by NumPy, JAX and eager PyTorch
(compiling PyTorch for each size would take minutes), on the card in every form.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from gradmeter.bench.measurement.kernel import TimedCall
from gradmeter.bench.measurement.timing import calibrate, elapsed
from gradmeter.bench.performance.gpu import forms
from gradmeter.bench.performance.gpu.record import Record
from gradmeter.estimators.errors import contained

#: Replicates a call, by dtype: each compiles anew, so float64 has half as many.
SIZES = {
    "float32": tuple(2**power for power in range(6, 21, 2)),
    "float64": tuple(2**power for power in (6, 10, 14, 20)),
}
WORKLOADS = (("square[k=2,dim=10]", "pathwise"), ("logistic-regression", "pathwise"))
#: Forms on the CPU, and on a card.
ON_CPU = {"numpy": ("eager",), "torch": ("eager",), "jax": ("compiled",)}
ON_DEVICE = {"torch": ("compiled", "graph", "eager"), "jax": ("compiled",)}
ROUNDS = 7
#: Seconds of a call beyond which larger ones are left out: the time of one estimate does not change any more.
LONGEST = 0.5


def run(
    record: Record,
    device: str,
    backends: Iterable[str],
    sizes: Mapping[str, tuple[int, ...]] = SIZES,
    workloads: tuple[tuple[str, str], ...] = WORKLOADS,
) -> None:
    """Time every form of the backends on a device, at every size; float32 first."""
    table = ON_CPU if device == "cpu" else ON_DEVICE
    for dtype, workload, backend in itertools.product(sizes, workloads, backends):
        slow: set[str] = set()
        for replicates, form in itertools.product(sizes[dtype], table[backend]):
            what = f"{workload[0]}, {dtype}, {backend} {form} on {device}, {replicates:,} replicates"
            if form in slow:
                record.left_out.append(f"{what}: a smaller call took over {LONGEST:g} s, or failed")
                continue
            if not record.may(what):
                continue
            found = point(workload, dtype, backend, form, device, replicates)
            record.add(**found)
            if "reason" in found or found["seconds"] > LONGEST:
                slow.add(form)


def point(
    workload: tuple[str, str], dtype: str, backend: str, form: str, device: str, replicates: int
) -> dict[str, Any]:
    """Return a line: wall time and device time of a call, its compilation, and its memory."""
    problem, estimator = workload
    line = {
        **{"problem": problem, "estimator": estimator, "dtype": dtype, "backend": backend, "form": form},
        **{"device": device, "replicates": replicates},
    }
    try:
        with contained():
            call = forms.call(form, forms.setting(problem, estimator, backend, device, dtype, replicates))
            timed = times(call)
            if form == "graph":
                timed |= {"fresh_noise": _differ(call), "peak_memory": None}  # the graph holds its memory all along
    except Exception as error:  # the line says what failed, such as a lack of memory
        return {**line, "reason": forms.why(error)}
    return {**line, **timed}


def times(call: TimedCall) -> dict[str, Any]:
    """Return medians over rounds of one call's seconds, the compilation apart, and the bytes that it takes."""
    first = elapsed(call.run, 1)
    repeats, _ = calibrate(call.run)
    wall = [elapsed(call.run, repeats) / repeats for _ in range(ROUNDS)]
    device = [call.device_seconds(repeats) for _ in range(ROUNDS)]
    seconds = statistics.median(wall)
    known = [each / repeats for each in device if each is not None]
    return {
        "seconds": seconds,
        "device_seconds": statistics.median(known) if known else None,
        "compile_seconds": max(0.0, first - seconds),
        "peak_memory": call.peak_memory(),
    }


def _differ(call: TimedCall) -> bool:
    """Return whether two replays of a graph give different estimates, so that each draws fresh noise."""
    backend = call.backend
    assert backend is not None
    first, second = ([backend.to_numpy(a).tolist() for a in call.run().values()] for _ in range(2))
    return bool(first != second)


def best(lines: Iterable[Mapping[str, Any]]) -> dict[int, float]:
    """Return the seconds of the fastest form by number of replicates; lines without a time do not count."""
    found: dict[int, float] = {}
    for line in lines:
        if line.get("seconds") is not None:
            size = int(line["replicates"])
            found[size] = min(found.get(size, float("inf")), float(line["seconds"]))
    return found


def overtakes(cpu: Mapping[int, float], card: Mapping[int, float]) -> int | None:
    """Return the smallest size from which the card is faster, at that and at every larger size of both; else None."""
    first = None
    for size in sorted(cpu.keys() & card.keys(), reverse=True):
        if card[size] >= cpu[size]:
            break
        first = size
    return first
