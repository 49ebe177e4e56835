"""Injected changes: a slowdown of known size in the timed call, and noise of known variance in the estimate."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from gradmeter.bench.cells import Cell
from gradmeter.bench.measurement import cost
from gradmeter.bench.measurement.kernel import TimedCall
from gradmeter.bench.measurement.prepared import Prepared
from gradmeter.estimators import Estimator, Expectation, Noise
from gradmeter.estimators.backends.backend import Backend

SLOWER = 1.15
NOISIER = 1.05


@dataclass(frozen=True)
class ChangedCells:
    """The cells of a run that are changed, by number."""

    slower: frozenset[int] = frozenset()
    noisier: frozenset[int] = frozenset()


def plan(number: int, pairs: int, backends: int) -> ChangedCells:
    """Return the plan of one injected run.

    In turn, every pair is slowed and the next one made noisier, on all backends; every fourth run instead slows all
    cells of one backend.

    Parameters
    ----------
    number
        Number of the run, from 0.
    pairs
        Number of pairs of a problem and an estimator.
    backends
        Number of backends.
    """
    if number % 4 == 3:
        backend = number // 4 % backends
        return ChangedCells(slower=frozenset(range(backend * pairs, (backend + 1) * pairs)))
    first = number - number // 4
    return ChangedCells(
        frozenset(first % pairs + backend * pairs for backend in range(backends)),
        frozenset((first + 1) % pairs + backend * pairs for backend in range(backends)),
    )


def slowed(call: TimedCall) -> TimedCall:
    """Return a call that continues to occupy the processor until SLOWER times its own time has passed."""

    def run() -> Any:
        start = time.perf_counter()
        result = call.run()
        end = start + SLOWER * (time.perf_counter() - start)
        while time.perf_counter() < end:
            pass
        return result

    return dataclasses.replace(call, run=run)


@contextmanager
def slowing(chosen: Callable[[Prepared], bool]) -> Iterator[None]:
    """Slow the timed calls of the chosen cells within this context."""
    real = cost.timed_calls

    def timed_calls(ready: Prepared) -> tuple[TimedCall, TimedCall]:
        bulk, alone = real(ready)
        return (slowed(bulk), slowed(alone)) if chosen(ready) else (bulk, alone)

    cost.timed_calls = timed_calls
    try:
        yield
    finally:
        cost.timed_calls = real


def noisier(cell: Cell, variances: Mapping[str, float]) -> Cell:
    """Return the cell with independent zero-mean noise added to every coordinate, under the same name.

    Parameters
    ----------
    variances
        Variance of the real estimate by parameter block; noise of NOISIER − 1 times it is added, in equal parts to the
        coordinates.
    """
    kind: Any = type(cell.estimator)
    share = (NOISIER - 1.0) / cell.problem.dimension
    deviations = {name: (share * variance) ** 0.5 for name, variance in variances.items()}

    class Noisier(kind):
        def noise_specs(self, expectation: Expectation, num_samples: int, dimension: int) -> dict[str, Noise]:
            specs = super().noise_specs(expectation, num_samples, dimension)
            return {**specs, **{f"planted {name}": Noise("normal", (dimension,)) for name in deviations}}

        def estimate(self, backend: Backend, expectation: Any, parameters: Any, noise: Any, state: Any) -> Any:
            gradients = super().estimate(backend, expectation, parameters, noise, state)
            return {name: g + deviations[name] * noise[f"planted {name}"] for name, g in gradients.items()}

    tampered: Estimator = Noisier(**{f.name: getattr(cell.estimator, f.name) for f in dataclasses.fields(kind)})
    return dataclasses.replace(cell, estimator=tampered)
