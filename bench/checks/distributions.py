"""Tests of samples against the density: counts in cells against the probabilities of the cells.

Cells lie between quantiles of a pilot sample, so that the ends of the support need not be known. The probability of a
cell is the integral of exp(log_density) over it, by Gauss-Legendre rules of two sizes. Counts of n independent samples
in the cells and outside all cells are multinomial, so Pearson's statistic is compared with χ². A mismatch is reported
if its p-value is below `LEVEL` for one sample and below `AGAIN` for a second one: for 1 correct family in 10⁹.

The test also detects a density that is not normalised, from the share of samples in all cells together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.checks.findings import About, Finding, number
from gradmeter.bench.checks.places import Place
from gradmeter.estimators import NotApplicable
from gradmeter.estimators.families.capabilities import has, require

CHECK = "samples against log_density"
LEVEL, AGAIN = 1e-6, 1e-3
#: Cell edges for one coordinate, and for each of two; nodes per direction of the coarse rule. The fine rule has twice
#: as many nodes.
CELLS, CELLS_OF_TWO, NODES, NODES_OF_TWO = 32, 8, 12, 6
#: Cells with smaller expected counts are counted as outside.
LEAST_COUNT = 12.0
#: Tolerance on the sum of probabilities.
ROUNDING = 1e-9
#: Relative deviation from a plane beyond which a sample is not in it.
FLAT = 1e-9


@dataclass(frozen=True)
class Cells:
    """Probabilities of cells, and the function that counts samples in them.

    Attributes
    ----------
    probabilities, error : [cells]
        Probabilities and their numerical errors; the remaining probability is outside.
    count : callable
        Samples -> counts [cells].
    name : callable
        Cell -> its description in messages.
    """

    probabilities: np.ndarray
    error: np.ndarray
    count: Callable[[np.ndarray], np.ndarray]
    name: Callable[[int], str]

    def some(self, kept: np.ndarray) -> Cells:
        """Return the cells where `kept` is true; the others count as outside."""
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
    draw : callable
        Round -> independent samples.
    up_to_a_factor : bool
        Whether to compare only ratios of probabilities, for a density whose reference measure is arbitrary.
    """
    samples = draw(0)
    n = len(samples)
    sharp = cells.error * n <= 0.1 * np.sqrt(cells.probabilities * n + 1.0)  # false if not finite
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
    if expected[-1] < LEAST_COUNT:  # then a few more samples there are not significant
        expected[-1] = max(expected[-1], 1.0)
        seen[-1] = max(expected[-1], seen[-1] - LEAST_COUNT)
    terms = (seen - expected) ** 2 / expected
    scaled = expected[:-1] * seen[:-1].sum() / max(expected[:-1].sum(), 1e-300)
    fits = bool(_beyond(float(((seen[:-1] - scaled) ** 2 / np.maximum(scaled, 1e-300)).sum()), len(scaled) - 1) > AGAIN)
    every = np.flatnonzero(kept)
    worst = int(every[terms[:-1].argmax()]) if len(every) else 0
    return _Comparison(counts, _beyond(float(terms.sum()), len(terms) - 1), int(seen[:-1].sum()), worst, fits)


def _beyond(statistic: float, degrees: int) -> float:
    """Return P(χ² > statistic)."""
    from scipy.special import chdtrc

    return float(chdtrc(max(1, degrees), statistic))


def continuous(place: Place, mirrored: bool = False) -> Iterator[Finding]:
    """Test samples of a continuous family, per coordinate if it has such densities, and jointly in up to two."""
    family, n = place.family, place.lab.effort.samples
    check = "samples of mirrored noise" if mirrored else CHECK

    def draw(round: int) -> np.ndarray:
        return _samples(place, n, mirrored, "law", round)

    pilot = _samples(place, 4096, mirrored, "pilot")
    if not np.all(np.isfinite(pilot)):
        yield place.about.not_checked(check, "some samples are not finite")
        return
    if has(family, "log_densities"):
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
    """The affine subspace of the samples: other coordinates are affine functions of those in `free`."""

    free: list[int]
    matrix: np.ndarray
    constant: np.ndarray

    def whole(self, x: np.ndarray) -> np.ndarray:
        return x @ self.matrix + self.constant


def plane_of(z: np.ndarray) -> Plane | None:
    """Return the smallest affine subspace that contains all samples."""
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
    """Return nodes and weights [cells, nodes]."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    half, middle = 0.5 * np.diff(edges)[:, None], 0.5 * (edges[1:] + edges[:-1])[:, None]
    return middle + half * x, half * w


def _edges(pilot: np.ndarray, cells: int) -> np.ndarray:
    return np.unique(np.quantile(pilot, np.linspace(0.02, 0.98, cells)))


def line(density: Callable[[np.ndarray], np.ndarray], pilot: np.ndarray, name: str) -> Cells:
    """Return the cells of one coordinate, between quantiles."""
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
    """Return the cells of two coordinates."""
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
    """Test samples of a discrete family on the states that are frequent in a pilot sample."""
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
    """Check that the probabilities of all states sum to 1, and that samples are states."""
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
    """Return every state [N, D] if they can be listed, else None."""
    try:
        states = require(place.family, "states").states(place.dimension)
        states.check("a check", 2**12)
    except NotApplicable:
        return None
    return np.asarray(place.lab.backend.to_numpy(states.listed(place.lab.backend, "float64")))
