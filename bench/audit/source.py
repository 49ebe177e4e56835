"""Replicates of a user's gradient as a source that the measurement can draw from."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradmeter.bench.audit.calls import STREAMS, Caller, Watch, quiet, raised
from gradmeter.bench.measurement.kernel import BlockSums
from gradmeter.bench.measurement.stream import NonFinite
from gradmeter.estimators import UsageError


@dataclass(frozen=True)
class Described:
    """What the statistics need to know about the replicates."""

    sizes: dict[str, int]
    replicates: int
    dtype: str

    @property
    def blocks(self) -> tuple[str, ...]:
        return tuple(self.sizes)

    def roots(self, stream: str) -> int:
        return STREAMS.index(stream)

    def zeros(self) -> dict[str, np.ndarray]:
        return {name: np.zeros(size) for name, size in self.sizes.items()}

    def to_device(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return arrays


@dataclass
class Replicates:
    """Makes replicates on time, and counts them.

    Attributes
    ----------
    caller
        Makes them.
    watch
        The deadline.
    minus
        Another gradient, whose replicates are subtracted, and the constant that is then added; absent if none is.
    spent
        Replicates made so far, and single calls before.
    seconds
        The time of each call, and its number of replicates.
    """

    caller: Caller
    watch: Watch
    minus: tuple[Replicates, dict[str, np.ndarray]] | None = None
    spent: int = 0
    seconds: list[tuple[float, int]] = field(default_factory=list)

    def __call__(self, stream: int, first: int, count: int) -> dict[str, np.ndarray]:
        """Return replicates [count, P] by part, in float64.

        Raises
        ------
        UsageError
            The gradient raised an exception, did not return, or returned another form.
        NonFinite
            A gradient is NaN or infinite; the message says which one and how to make it again.
        """
        called = self.caller.called
        start = time.perf_counter()
        try:
            with self.watch.call(called.name), quiet():
                found = self.caller(stream, first, count)
        except (UsageError, KeyboardInterrupt):
            raise
        except BaseException as error:  # SystemExit and the like too: they are the gradient's, not the caller's
            raise raised(called.name, error) from error
        self.seconds.append((time.perf_counter() - start, count))
        self.spent += count
        for name, a in found.items():
            bad = ~np.isfinite(a)
            if bad.any():
                place, j = (int(i) for i in np.argwhere(bad)[0])
                where = f" (seed {called.seed(stream, first + place)})" if called.kind in ("seed", "global") else ""
                raise NonFinite(f"{called.name} returned {a[place, j]} for {name}[{j}] in one of {self.spent}{where}")
        doubled = {name: a.astype(np.float64) for name, a in found.items()}
        if self.minus is None:
            return doubled
        other, constant = self.minus
        less = other(stream, first, count)
        return {name: a - less[name] + constant[name] for name, a in doubled.items()}

    @property
    def rate(self) -> float:
        """Replicates a second, from the latest large calls; the first one, which may compile, does not count."""
        most = max(count for _, count in self.seconds)
        large = [(seconds, count) for seconds, count in self.seconds if 2 * count >= most]
        latest = large[len(large) // 2 :]
        own = sum(count for _, count in latest) / max(sum(seconds for seconds, _ in latest), 1e-9)
        return own if self.minus is None else 1.0 / (1.0 / own + 1.0 / self.minus[0].rate)

    def affords(self) -> float:
        """Return how many more replicates fit into the time that is left."""
        return max(0.0, self.watch.left) * self.rate


class Blocks:
    """A `Source` of block sums of replicates."""

    chunk = 1

    def __init__(self, replicates: Replicates, setting: Described) -> None:
        self.replicates, self.setting = replicates, setting
        self.cubed = setting.replicates

    def __call__(self, roots: Any, first: int, centre: dict[str, np.ndarray]) -> BlockSums:
        count = self.setting.replicates
        found = self.replicates(roots, first * count, count)
        sums: BlockSums = {}
        for name, a in found.items():
            d = a - centre[name]
            square = d * d
            powers = d.sum(axis=0), square.sum(axis=0), (square * d).sum(axis=0), square.sum(axis=1)
            sums[name] = tuple(each[None] for each in powers)
        return sums
