"""CAVI against stochastic VI at equal seconds: `python -m gradmeter.bench.fit.race --size 1e6`.

Both start from the same state and run alone, one after the other, on one thread; the time for the ELBO is not counted.
CAVI runs until a sweep gains less than a millionth of the total gain; SVI gets the same seconds. The program prints
both curves, and the time from which CAVI is ahead.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradmeter.bench.fit.svi import StochasticVariational
from gradmeter.bench.optimisation.method import Vectors
from gradmeter.bench.problems.mixtures.cavi import CoordinateAscent, MeanFieldMixture
from gradmeter.bench.problems.mixtures.points import synthetic
from gradmeter.estimators.options import number


@dataclass
class Curve:
    """The ELBO, and the number of iterations, against seconds spent in steps."""

    seconds: list[float] = field(default_factory=list)
    elbo: list[float] = field(default_factory=list)
    iterations: list[int] = field(default_factory=list)

    def at(self, seconds: float) -> float:
        """Return the last ELBO reached by that time."""
        return self.elbo[int(np.searchsorted(self.seconds, seconds, side="right")) - 1]


def follow(method: MeanFieldMixture, due: Callable[[float], bool], done: Callable[[Curve, float], bool]) -> Curve:
    """Step until `done(curve, seconds)`, recording the ELBO whenever `due(seconds)`."""
    state: Vectors = method.initial()
    curve = Curve([0.0], [method.objective(state).value], [0])
    seconds, t = 0.0, 0
    while not done(curve, seconds):
        begin = time.perf_counter()
        state = method.step(state, t := t + 1)
        seconds += time.perf_counter() - begin
        if due(seconds):
            curve.seconds.append(seconds)
            curve.elbo.append(method.objective(state).value)
            curve.iterations.append(t)
    return curve


def settled(curve: Curve, seconds: float) -> bool:
    gains = np.diff(curve.elbo)
    return len(gains) > 1 and gains[-1] < 1e-6 * (curve.elbo[-1] - curve.elbo[0])


def race(size: int, dimension: int, components: int, batch: int, seed: int) -> tuple[Curve, Curve]:
    """Return the curves of CAVI and SVI on synthetic points."""
    points, truth = synthetic(size, dimension, components)
    settings: dict[str, Any] = {"sigma": truth.scale, "seed": seed}
    cavi = follow(CoordinateAscent(points, components, **settings), lambda _: True, settled)
    ladder = iter(np.geomspace(1e-3 * cavi.seconds[-1], cavi.seconds[-1], 25))
    rung = [next(ladder)]

    def due(seconds: float) -> bool:
        reached = seconds >= rung[0]
        while seconds >= rung[0]:
            rung[0] = next(ladder, np.inf)
        return reached

    svi = StochasticVariational(points, components, batch=batch, **settings)
    return cavi, follow(svi, due, lambda curve, seconds: seconds >= cavi.seconds[-1])


def crossing(cavi: Curve, svi: Curve) -> float | None:
    """Return the time from which CAVI stays ahead, or None if there is none."""
    times = sorted({*cavi.seconds[1:], *svi.seconds[1:]})
    behind = [t for t in times if cavi.at(t) <= svi.at(t)]
    later = [t for t in times if not behind or t > behind[-1]]
    return later[0] if later else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("size", "1e6"), ("dim", "2"), ("components", "10"), ("batch", "1000"), ("seed", "0")):
        parser.add_argument(f"--{name}", default=default)
    given = vars(parser.parse_args())
    size, dimension, components, batch, seed = (number(n, v, int, minimum=0) for n, v in given.items())
    cavi, svi = race(size, dimension, components, batch, seed)
    for name, curve in (("CAVI", cavi), (f"SVI, {batch} rows a step", svi)):
        print(f"{name}\n  iteration    seconds   ELBO a point   below CAVI's last")
        for t, seconds, elbo in zip(curve.iterations, curve.seconds, curve.elbo, strict=True):
            print(f"  {t:>9} {seconds:>10.4f} {elbo / size:>14.6f} {(cavi.elbo[-1] - elbo) / size:>19.2e}")
    when = crossing(cavi, svi)
    if when is None:
        print(f"SVI is ahead, or level, all the {cavi.seconds[-1]:.2f} s that CAVI took")
    else:
        gap = (cavi.elbo[-1] - cavi.at(when)) / (cavi.elbo[-1] - cavi.elbo[0])
        print(f"CAVI is ahead from {when:.2f} s of its {cavi.seconds[-1]:.2f} on, {gap:.1e} of its gain from its end")


if __name__ == "__main__":
    main()
