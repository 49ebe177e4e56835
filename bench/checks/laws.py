"""Samples against the density: counts in cells against the cells' probabilities.

Cells lie between quantiles of a pilot sample, so they need no knowledge of where the support ends; the probability of a
cell is the integral of exp(log_density) over it, by Gauss-Legendre rules of two sizes. Counts of n independent samples
in the cells and outside of all are multinomial: Pearson's statistic is compared with χ². A mismatch is called where
its probability is below `LEVEL` for one sample and below `AGAIN` for a second one: in 1 right family out of 10⁹.

Also a density that is not normalised shows: its cells together have not the share of the samples that they should.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.checks.findings import About, Finding, number
from gradmeter.bench.checks.places import Place
from gradmeter.estimators import NotApplicable

CHECK = "samples against log_density"
LEVEL, AGAIN = 1e-6, 1e-3
#: Cells of one coordinate, and of each of two; nodes of the coarse rule in each direction, the fine one has twice as
#: many.
CELLS, CELLS_OF_TWO, NODES, NODES_OF_TWO = 32, 8, 12, 6
#: Expected counts below this are added to what is outside of all cells.
LEAST_COUNT = 12.0
#: Of the sum of probabilities: what rounding may add to 1.
ROUNDING = 1e-9
#: Samples that are moved by more than this share of their spread from a plane are not on it.
FLAT = 1e-9


@dataclass(frozen=True)
class Cells:
    """Probabilities of cells, and how samples are counted in them.

    Attributes
    ----------
    probabilities : [cells], with their numerical `error`; the rest is outside.
    count : samples -> counts [cells].
    name : cell -> what a message calls it.
    """

    probabilities: np.ndarray
    error: np.ndarray
    count: Callable[[np.ndarray], np.ndarray]
    name: Callable[[int], str]

    def some(self, kept: np.ndarray) -> Cells:
        """The cells that are kept; the others count as outside."""
        places = np.flatnonzero(kept)
        return Cells(
            self.probabilities[kept],
            self.error[kept],
            lambda samples: self.count(samples)[kept],
            lambda cell: self.name(int(places[cell])),
        )


def against_counts(
    about: About, check: str, cells: Cells, draw: Callable[[int], np.ndarray], up_to_a_factor: bool = False
) -> Finding:
    """Compare counts with probabilities.

    Parameters
    ----------
    draw : round -> independent samples.
    up_to_a_factor : whether only ratios of probabilities count, where the density's reference measure is free.
    """
    samples = draw(0)
    n = len(samples)
    sharp = cells.error * n <= 0.1 * np.sqrt(cells.probabilities * n + 1.0)  # False of what is not finite
    if sharp.sum() <= 0.5 * len(sharp):
        return about.not_checked(check, "the density is too rough for quadrature between its samples")
    cells = cells.some(sharp)
    p, total = cells.probabilities, float(cells.probabilities.sum())
    factor = 1.0
    if up_to_a_factor:
        factor = float(cells.count(draw(2)).sum()) / (n * total)
    elif total > 1.0 + ROUNDING + float(cells.error.sum()):
        return about.wrong(
            check, f"exp(log_density) has integral {number(total)} over the middle of the samples alone, which is "
            "above 1; normalise log_density"
        )  # fmt: skip
    first = _compare(cells.count(samples), p * factor, n)
    if first.probability >= LEVEL or _compare(cells.count(draw(1)), p * factor, n).probability >= AGAIN:
        return about.ok(check, "up to a constant factor of the density" if up_to_a_factor else "")
    if first.shape_fits and not up_to_a_factor:
        inside = first.inside / n
        return about.wrong(
            check, f"exp(log_density) has integral {number(total)} where {number(inside)} of the samples are; "
            "normalise log_density"
        )  # fmt: skip
    cell = first.worst
    return about.wrong(
        check, f"{cells.name(cell)} has probability {number(p[cell] * factor)} by log_density, but "
        f"{number(first.counts[cell] / n)} of {n} samples; mend sample or log_density"
    )  # fmt: skip


@dataclass(frozen=True)
class _Comparison:
    counts: np.ndarray
    probability: float
    inside: int
    worst: int
    shape_fits: bool


def _compare(counts: np.ndarray, p: np.ndarray, n: int) -> _Comparison:
    kept = p * n >= LEAST_COUNT
    outside, rest = n - int(counts[kept].sum()), max(0.0, 1.0 - float(p[kept].sum()))
    expected = np.append(p[kept] * n, rest * n)
    seen = np.append(counts[kept], outside).astype(np.float64)
    if expected[-1] < LEAST_COUNT:  # then a few samples more there are no surprise
        expected[-1] = max(expected[-1], 1.0)
        seen[-1] = max(expected[-1], seen[-1] - LEAST_COUNT)
    terms = (seen - expected) ** 2 / expected
    scaled = expected[:-1] * seen[:-1].sum() / max(expected[:-1].sum(), 1e-300)
    fits = bool(_beyond(float(((seen[:-1] - scaled) ** 2 / np.maximum(scaled, 1e-300)).sum()), len(scaled) - 1) > AGAIN)
    every = np.flatnonzero(kept)
    worst = int(every[terms[:-1].argmax()]) if len(every) else 0
    return _Comparison(counts, _beyond(float(terms.sum()), len(terms) - 1), int(seen[:-1].sum()), worst, fits)


def _beyond(statistic: float, degrees: int) -> float:
    """P(χ² > statistic)."""
    from scipy.special import chdtrc

    return float(chdtrc(max(1, degrees), statistic))


def continuous(place: Place, mirrored: bool = False) -> Iterator[Finding]:
    """Samples of a continuous family: coordinate by coordinate where it has densities of these, and in the plane."""
    family, n = place.family, place.lab.effort.samples
    check = "samples of mirrored noise" if mirrored else CHECK

    def draw(round: int) -> np.ndarray:
        return _samples(place, n, mirrored, "law", round)

    pilot = _samples(place, 4096, mirrored, "pilot")
    if not np.all(np.isfinite(pilot)):
        yield place.about.not_checked(check, "some samples are not finite")
        return
    if "log_densities" not in family.lacks:
        for i in range(min(place.dimension, 3)):

            def density(x: np.ndarray, i: int = i) -> np.ndarray:
                z = np.broadcast_to(pilot[0], (len(x), place.dimension)).copy()
                z[:, i] = x
                found: np.ndarray = np.exp(place.of_z("log_densities")(place.parameters, z)[:, i])
                return found

            cells = line(density, pilot[:, i], f"z[{i}]" if place.dimension > 1 else "z")
            yield against_counts(place.about, check, cells, lambda round, i=i: draw(round)[:, i])  # type: ignore[misc]
        if place.dimension != 2:
            return
    flat = plane_of(pilot)
    if flat is None or len(flat.free) > 2 or not len(flat.free):
        yield place.about.not_checked(check, "its density is integrated over one or two coordinates only")
        return

    def joint(x: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.exp(place.log_density(place.parameters, flat.whole(x)))
        return found

    singular = len(flat.free) < place.dimension
    if len(flat.free) == 1:
        (i,) = flat.free
        cells = line(lambda x: joint(x[:, None]), pilot[:, i], f"z[{i}]" if place.dimension > 1 else "z")
        yield against_counts(place.about, check, cells, lambda round: draw(round)[:, i], singular)
    else:
        cells = squares(joint, pilot[:, flat.free])
        yield against_counts(place.about, check, cells, lambda round: draw(round)[:, flat.free], singular)


def _samples(place: Place, rows: int, mirrored: bool, *path: object) -> np.ndarray:
    noise = place.draw(rows, *path, mirrored)
    if mirrored:
        family, backend = place.family, place.lab.backend
        noise = place.lab.function(lambda noise: family.mirrored(backend, noise))(noise)
    z: np.ndarray = place.sample(place.parameters, noise)
    return z


@dataclass(frozen=True)
class Plane:
    """The plane that samples lie in: `free` coordinates, of which the others are affine functions."""

    free: list[int]
    matrix: np.ndarray
    constant: np.ndarray

    def whole(self, x: np.ndarray) -> np.ndarray:
        return x @ self.matrix + self.constant


def plane_of(z: np.ndarray) -> Plane | None:
    """The least plane that holds all samples; None where numbers are not finite."""
    mean, scale = z.mean(axis=0), z.std(axis=0)
    free: list[int] = []
    for i in range(z.shape[1]):
        basis = np.column_stack([np.ones(len(z)), z[:, free]])
        fitted = basis @ np.linalg.lstsq(basis, z[:, i], rcond=None)[0]
        if np.abs(z[:, i] - fitted).max() > FLAT * max(scale[i], abs(mean[i]), 1e-300):
            free.append(i)
    basis = np.column_stack([np.ones(len(z)), z[:, free]])
    found = np.linalg.lstsq(basis, z, rcond=None)[0]
    matrix, constant = found[1:], found[0]
    matrix[:, free], constant[free] = np.eye(len(free)), 0.0
    return Plane(free, matrix, constant)


def _rule(edges: np.ndarray, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights [cells, nodes]."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    half, middle = 0.5 * np.diff(edges)[:, None], 0.5 * (edges[1:] + edges[:-1])[:, None]
    return middle + half * x, half * w


def _edges(pilot: np.ndarray, cells: int) -> np.ndarray:
    return np.unique(np.quantile(pilot, np.linspace(0.02, 0.98, cells)))


def line(density: Callable[[np.ndarray], np.ndarray], pilot: np.ndarray, name: str) -> Cells:
    """Cells of one coordinate, between quantiles."""
    edges = _edges(pilot, CELLS)

    def integrals(nodes: int) -> np.ndarray:
        x, w = _rule(edges, nodes)
        return np.asarray((density(x.ravel()).reshape(x.shape) * w).sum(axis=1))

    coarse, fine = integrals(NODES), integrals(2 * NODES)

    def count(x: np.ndarray) -> np.ndarray:
        return np.histogram(x, edges)[0]

    def named(cell: int) -> str:
        return f"{edges[cell]:.4g} < {name} < {edges[cell + 1]:.4g}"

    return Cells(fine, np.abs(fine - coarse), count, named)


def squares(density: Callable[[np.ndarray], np.ndarray], pilot: np.ndarray) -> Cells:
    """Cells of two coordinates."""
    edges = [_edges(pilot[:, i], CELLS_OF_TWO) for i in (0, 1)]

    def integrals(nodes: int) -> np.ndarray:
        (x, u), (y, v) = (_rule(e, nodes) for e in edges)
        points = np.stack(np.broadcast_arrays(x[:, None, :, None], y[None, :, None, :]), axis=-1)
        weights = u[:, None, :, None] * v[None, :, None, :]
        values = density(points.reshape(-1, 2)).reshape(weights.shape)
        return np.asarray((values * weights).sum(axis=(2, 3)).ravel())

    coarse, fine = integrals(NODES_OF_TWO), integrals(2 * NODES_OF_TWO)

    def count(z: np.ndarray) -> np.ndarray:
        return np.histogram2d(z[:, 0], z[:, 1], edges)[0].ravel()

    def named(cell: int) -> str:
        i, j = divmod(cell, len(edges[1]) - 1)
        (a, b), (c, d) = edges[0][i : i + 2], edges[1][j : j + 2]
        return f"{a:.4g} < z[0] < {b:.4g}, {c:.4g} < z[1] < {d:.4g}"

    return Cells(fine, np.abs(fine - coarse), count, named)


def discrete(place: Place) -> Iterator[Finding]:
    """Samples of a discrete family: the states that a pilot sample met often, and the rest."""
    check, n = CHECK, place.lab.effort.samples
    pilot = place.samples(n, "pilot")
    states, counts = np.unique(pilot, axis=0, return_counts=True)
    states = states[counts >= LEAST_COUNT]
    if not len(states):
        yield place.about.not_checked(check, "no state comes often enough: it is not discrete, or has too many states")
        return
    probabilities = np.exp(place.log_density(place.parameters, states))

    def count(z: np.ndarray) -> np.ndarray:
        found, number = np.unique(z, axis=0, return_counts=True)
        table: dict[bytes, int] = {row.tobytes(): int(c) for row, c in zip(found, number, strict=True)}
        return np.asarray([table.get(row.tobytes(), 0) for row in states])

    def named(cell: int) -> str:
        return f"z = {', '.join(f'{v:g}' for v in states[cell])}"

    cells = Cells(probabilities, 0.0 * probabilities, count, named)
    yield against_counts(place.about, check, cells, lambda round: place.samples(n, "law", round))


def states(place: Place) -> Iterator[Finding]:
    """All states: their probabilities sum to 1, the score has mean 0, the entropy its gradient, samples are states."""
    found = listed(place)
    if found is None:
        return
    z, about = found, place.about
    log_density = place.log_density(place.parameters, z)
    q = np.exp(log_density)
    total = float(q.sum())
    if abs(total - 1.0) > ROUNDING:
        yield about.wrong(
            "states",
            f"exp(log_density) sums to {number(total)} over the states and not to 1; mend log_density or states",
        )
        return
    known = {row.tobytes() for row in np.ascontiguousarray(z + 0.0)}
    strange = [row for row in place.samples(256, "states") if (row + 0.0).tobytes() not in known]
    if strange:
        yield about.wrong("states", f"the sample z = {strange[0].tolist()} is no state; mend states or sample")
        return
    yield about.ok("states")


def listed(place: Place) -> np.ndarray | None:
    """Every state [N, D] where they can be listed."""
    try:
        states = place.family.states(place.dimension)
        states.check("a check", 2**12)
    except NotApplicable:
        return None
    return np.asarray(place.lab.backend.to_numpy(states.listed(place.lab.backend, "float64")))
