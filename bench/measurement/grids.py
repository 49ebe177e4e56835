"""Grids over the noise of an estimate: which are tried, and the moments of estimates on them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradmeter.bench.forms.results import jumps_of
from gradmeter.bench.measurement.evaluate import Arrays, estimates_of
from gradmeter.bench.measurement.kernel import Setting
from gradmeter.bench.measurement.rules import Rule, anywhere, rule, subintervals
from gradmeter.estimators import draws
from gradmeter.estimators.amortised import AmortisedExpectation
from gradmeter.estimators.backends import get
from gradmeter.estimators.noise import DrawnNoise, Noise, draw, stream_root

Axes = list[Rule]

GRIDS = 3
MOST_DIMENSIONS = 4
#: Extent of each grid, in standard deviations.
REACH = (9.5, 10.2, 11.0)
#: Nodes per dimension on each grid, by number of dimensions.
NODES = {1: (256, 288, 320), 2: (136, 144, 156), 3: (50, 52, 54), 4: (24, 26, 28)}
MOST_NUMBERS = 64
UNIFORM = ("uniform", "stratum")
CHUNK = 2**14
#: Batches of points are padded to one of these sizes, since JAX compiles anew for every size.
SIZES = (2**6, 2**10, CHUNK)
#: The most array elements of f in a batch of points, unless the smallest batch has more; and in all points of a level
#: of grids that is tried because a cheaper one did not settle.
MOST_AT_ONCE, MOST_AGAIN = 2**25, 2**27
#: Nodes in every subinterval, from the cheapest level on; and the most points of a grid.
PIECES = ((2, 2, 3), (4, 4, 6), (8, 8, 11), (12, 12, 15), (16, 17, 22), (40, 44, 56), (80, 88, 112))
MOST_POINTS = 2**20
#: From this level on the nodes reach the ends of subintervals, where undeclared events may be rare. For a user's own
#: parts only these levels are trusted.
TO_THE_ENDS = -2
#: Fewest points where a user's own estimate is taken to be constant in every subinterval.
FEWEST_DRAWN = 2**12


@dataclass(frozen=True)
class Grid:
    """A tensor product of rules, traversed `times` times.

    If traversed more than once, nodes with room are placed near the ends of their subintervals more often, at distances
    on a logarithmic scale: an event that nobody declared may be rare there.
    """

    axes: Axes
    times: int = 1

    @property
    def points(self) -> int:
        return self.times * math.prod(len(axis.x) for axis in self.axes)


Level = tuple[Grid, ...]


def elements(setting: Setting) -> int:
    """Return the number of array elements of f in one estimate."""
    return setting.expectation.width(setting.dimension) * setting.num_samples


def few_numbers(setting: Setting) -> bool:
    """Return whether the noise has few enough numbers to be integrated over if discontinuities are declared."""
    size = sum(math.prod(spec.shape) for spec in setting.specs.values())
    uniform = all(spec.kind in UNIFORM for spec in setting.specs.values())
    return size <= (MOST_NUMBERS if uniform else MOST_DIMENSIONS)


def levels(
    setting: Setting, specs: dict[str, Noise], trusted: bool, discontinuities: Arrays | None = None
) -> Iterator[Level]:
    """Yield levels of grids to be compared, the cheapest first; none where the noise has too many numbers.

    Parameters
    ----------
    setting
        The cell that is measured.
    specs
        The noise to be integrated over, {name: Noise}.
    trusted
        Whether everything is from the catalogue, so that estimates have no events that are not declared.
    discontinuities
        Discontinuities of this noise, by name; those of the setting if absent.
    """
    size = sum(math.prod(spec.shape) for spec in specs.values())
    # Row numbers, nets and the order of strata have discontinuities off the axes.
    rough = any(spec.kind in ("rows", "sobol") or name.endswith(draws.ORDER) for name, spec in specs.items())
    if size > MOST_NUMBERS or rough:
        return
    expectation, estimator = setting.expectation, setting.estimator
    if not isinstance(expectation, AmortisedExpectation):
        parameters = {k: setting.backend.to_numpy(a).astype(np.float64) for k, a in setting.parameters.items()}
        jumps_of(expectation.family, expectation.family.discontinuities(parameters, setting.dimension))
    discontinuities = setting.discontinuities() if discontinuities is None else discontinuities
    discrete = expectation.family.discrete
    between = not discrete or "relaxation" in estimator.requirements(expectation.entropy).family
    if "curvature" in expectation.integrand.unsupported and between:  # f has discontinuities or corners between states
        return
    generator = np.random.default_rng(stream_root(*setting.path, "integration"))
    precision = float(np.finfo(setting.dtype).eps)
    if size == 0 or (discontinuities and all(spec.kind in UNIFORM for spec in specs.values())):
        yield from _pieced(specs, discontinuities, discrete, trusted, precision, generator)
    elif size <= MOST_DIMENSIONS and not discrete:
        free = any(spec.kind == "uniform" and name not in discontinuities for name, spec in specs.items())
        for smooth in (True, False) if free else (False,):
            level = tuple(
                Grid([each for name, spec in specs.items() for each in _rules(spec, discontinuities.get(name), *how)])
                for how in (
                    (nodes, reach, precision, generator, smooth)
                    for nodes, reach in zip(NODES[size], REACH, strict=True)
                )
            )
            if max(grid.points for grid in level) <= MOST_POINTS:
                yield level


def _rules(
    spec: Noise,
    discontinuities: np.ndarray | None,
    nodes: int,
    reach: float,
    precision: float,
    generator: np.random.Generator,
    smooth: bool,
) -> Iterator[Rule]:
    """Yield a rule for every number of one name, on subintervals for numbers with discontinuities."""
    if discontinuities is None:
        for shift in generator.random(math.prod(spec.shape)):
            yield rule(spec.kind, nodes, reach, shift, precision, smooth)
        return
    each = 40 + nodes // 2 if nodes > 100 else nodes - 8  # more would make too many points
    for at in _spread(discontinuities, spec):
        yield subintervals(spec.kind, at, each if at.size else nodes, reach, generator.random(), precision)


def _spread(discontinuities: np.ndarray, spec: Noise) -> np.ndarray:
    """Return the discontinuities of every number of one name [numbers, J]."""
    return np.broadcast_to(discontinuities, (*spec.shape, discontinuities.shape[-1])).reshape(
        math.prod(spec.shape), discontinuities.shape[-1]
    )


def _pieced(
    specs: dict[str, Noise],
    discontinuities: dict[str, np.ndarray],
    constant: bool,
    trusted: bool,
    precision: float,
    generator: np.random.Generator,
) -> Iterator[Level]:
    """Yield grids on the subintervals between discontinuities, with more and more nodes as long as they stay small.

    The first grid has one node per subinterval, if an estimate may be constant there.
    """
    at = [row for name, spec in specs.items() for row in _spread(discontinuities.get(name, np.zeros(0)), spec)]
    if constant:
        grid = Grid([anywhere(row, precision) for row in at])
        if grid.points > MOST_POINTS:
            return
        yield (Grid(grid.axes, 1 if trusted else -(-FEWEST_DRAWN // grid.points)),) * GRIDS
        if not at:
            return
    kinds = [spec.kind for spec in specs.values() for _ in range(math.prod(spec.shape))]
    for counts in PIECES if trusted else PIECES[TO_THE_ENDS:]:
        level = tuple(
            Grid(
                [
                    subintervals(kind, row, n, 0.0, generator.random(), precision)
                    for kind, row in zip(kinds, at, strict=True)
                ]
            )
            for n in counts
        )
        if max(grid.points for grid in level) > MOST_POINTS:
            return
        yield level


def moments_of(
    setting: Setting, blocks: list[str], specs: dict[str, Noise], level: Level, fixed: Arrays
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the moments of every block on every grid, and the error of their weights.

    The moments are E ĝ, E ĝ² and E |ĝ| [grids, 3, P]. The error is Σ |ĝ| with the weights of one axis after another
    replaced by their loss [grids, P]. The points of all grids are evaluated together.

    Parameters
    ----------
    setting
        The cell that is measured.
    blocks
        Names of the parameter blocks.
    specs
        The noise that is integrated over, {name: Noise}.
    level
        The grids.
    fixed
        Noise that is held fixed, by name, without the axis of replicates.
    """
    ends = np.cumsum([0, *(grid.points for grid in level)])
    others = {name: spec for name, spec in setting.specs.items() if name not in specs and name not in fixed}
    result = {
        b: (np.zeros((len(level), 3, setting.sizes[b])), np.zeros((len(level), setting.sizes[b]))) for b in blocks
    }
    chunk = max(size for size in SIZES if size == SIZES[0] or size * elements(setting) <= MOST_AT_ONCE)
    for start in range(0, ends[-1], chunk):
        stop = min(start + chunk, ends[-1])
        size = next(size for size in SIZES if size >= stop - start)
        columns = np.full((size, len(level[0].axes)), 0.5)
        parts = []
        for which, grid in enumerate(level):
            first, last = max(start, ends[which]), min(stop, ends[which + 1])
            if first < last:
                rows = slice(first - start, last - start)
                columns[rows], weights, loss = _points(setting, grid, which, first - ends[which], last - ends[which])
                parts.append((which, rows, weights, loss))
        noise = _noise(setting, specs, others, columns, start // chunk)
        known = {name: np.broadcast_to(a, (size, *a.shape)) for name, a in fixed.items()}
        found = estimates_of(setting, DrawnNoise({**noise, **known}, size))
        for block, (moments, lost) in result.items():
            g = found[block].astype(np.float64)
            for which, rows, weights, loss in parts:
                part = g[rows]
                size_of = np.abs(part)
                moments[which] += np.stack([weights @ part, weights @ (part * part), weights @ size_of])
                if loss is not None:
                    lost[which] += loss @ size_of
    return result


def _points(
    setting: Setting, grid: Grid, which: int, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return points `start` to `stop` of a grid: numbers of noise [n, axes], weights [n], and their loss [n]."""
    counts = [len(axis.x) for axis in grid.axes]
    index = np.unravel_index(np.arange(start, stop) % math.prod(counts), counts) if counts else ()
    weights, columns = np.full(stop - start, 1.0 / grid.times), np.empty((stop - start, len(counts)))
    generator = np.random.default_rng(stream_root(*setting.path, "integration", which, start))
    loss = np.zeros(stop - start) if any(axis.lost.any() for axis in grid.axes) else None
    for axis, (each, i) in enumerate(zip(grid.axes, index, strict=True)):
        columns[:, axis] = each.x[i]
        if each.room.any():
            columns[:, axis] += each.room[i] * _fractions(generator, stop - start, near_ends=grid.times > 1)
        if loss is not None:
            loss = loss * each.w[i] + weights * each.lost[i]
        weights = weights * each.w[i]
    return columns, weights, loss


def _fractions(generator: np.random.Generator, count: int, near_ends: bool) -> np.ndarray:
    """Return random places in (0, 1).

    They are uniform; or half of them are, and the others have log-uniform distances down to 1e-16 from either end.
    """
    uniform = generator.random(count)
    if not near_ends:
        return uniform
    near, which = 10.0 ** (-16.0 * uniform), generator.random(count)
    return np.where(which < 0.5, uniform, np.where(which < 0.75, near, 1.0 - near))


def _noise(
    setting: Setting, specs: dict[str, Noise], others: dict[str, Noise], columns: np.ndarray, block: int
) -> DrawnNoise:
    """Return the noise.

    Noise that the estimates should not read is drawn anew for every point, so that reading it would show.
    """
    drawn: Arrays = {}
    if others:
        source = get("numpy")
        roots = {name: source.root(stream_root(*setting.path, "integration", name)) for name in others}
        drawn = draw(source, others, roots, block, len(columns), setting.dtype)
    used = 0
    for name, spec in specs.items():
        size = math.prod(spec.shape)
        drawn[name] = columns[:, used : used + size].reshape(len(columns), *spec.shape)
        used += size
    rounded = {n: a if setting.specs[n].kind == "rows" else a.astype(setting.dtype) for n, a in drawn.items()}
    return DrawnNoise(rounded, len(columns))
