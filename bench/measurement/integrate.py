"""Integration over the noise: mean and variance of an estimator as facts, where its noise is low-dimensional.

A pure function of noise can be integrated by tensor quadrature. Three grids are compared, whose nodes stand at places
of their own, drawn at random once for a problem and a seed; one of them reaches farther than the others. Where they
disagree by more than rounding the result is refused, so a certificate is never better than it says, not even for an
estimate that grows as fast as the noise's density falls.

Where the noise is uniform and the estimate says where it jumps, every number is integrated piece by piece, however
many numbers there are, as long as the grids stay small: an estimate that is constant between its jumps is enumerated.
Other noise is integrated in pieces too where the estimate says that it has a corner or jumps.

What else jumps or has a corner is refused without looking (`declared.py`): no grid converges on it, and what happens on
a small part of the noise no grid meets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from gradmeter.bench.forms import jumps_of
from gradmeter.bench.measurement.declared import all_of_the_catalogue, undeclared
from gradmeter.bench.measurement.evaluate import Arrays, estimates_of
from gradmeter.bench.measurement.kernel import Setting
from gradmeter.bench.measurement.rules import Rule, anywhere, pieces, rule
from gradmeter.estimators import NotApplicable, draws
from gradmeter.estimators.backends import get
from gradmeter.estimators.noise import Noise, draw, stream_root

Axes = list[Rule]

GRIDS = 3
#: The reported error is this many times the largest disagreement of two grids, and what the noise's precision loses.
SAFETY = 10.0
#: ... and this many units in the last place of E |ĝ|, by which any average of such numbers may be off.
ROUNDING = 128.0
#: What is believed: grids disagree by at most so many units in the last place of the largest E |ĝ|, and by this part of
#: it; and the noise's precision loses at most that part.
MOST_DISAGREEMENT, MOST_APART, MOST_LOST = 1e5, 1e-4, 1e-5
#: By how much of themselves E |ĝ| and the variance may differ between grids: more, and there may be none.
SETTLED_SIZE, SETTLED_VARIANCE = 0.1, 1e-3

MOST_DIMENSIONS = 4
#: How far each grid reaches, in standard deviations.
REACH = (9.5, 10.2, 11.0)
#: Nodes per dimension of each grid, by number of dimensions.
NODES = {1: (256, 288, 320), 2: (136, 144, 156), 3: (50, 52, 54), 4: (24, 26, 28)}
MOST_NUMBERS = 64
#: As many numbers of noise are integrated over at once before it is asked whether one sample would do.
DIRECTLY = 2
UNIFORM = ("uniform", "stratum")
CHUNK = 2**14
#: Points are made up to one of few numbers: JAX compiles for every number anew.
SIZES = (2**6, 2**10, CHUNK)
#: Nodes in every piece between jumps, from the cheapest; and as many points as a grid may have.
PIECES = ((2, 2, 3), (4, 4, 6), (8, 8, 11), (12, 12, 15), (16, 17, 22), (40, 44, 56), (80, 88, 112))
MOST_POINTS = 2**20
#: From here on they go down to the ends of pieces, where events that nobody declared may be rare: of a user's own, none
#: with fewer nodes are believed.
TO_THE_ENDS = -2
#: As many, at least, where an estimate of a user's own is taken to be constant in every piece.
FEWEST_DRAWN = 2**12


@dataclass(frozen=True)
class Integral:
    """Moments of one parameter block's estimate, from the finest grid.

    Attributes
    ----------
    mean : E ĝ [P].
    variance : Var ĝ [P]; infinite where the grids do not settle on it, for there may be none.
    error : what the mean is off by at most [P]: 10 times the largest disagreement of any two grids, what the noise's
        finite precision hides at jumps and at the ends of uniform noise, and 128 units in the last place of E |ĝ|. It
        is absolute, and scales with ĝ.
    """

    mean: np.ndarray
    variance: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Grid:
    """A tensor product of rules, gone through `times` times; if more than once, nodes with room stand near the ends of
    their pieces more often than not, at all distances: there an event that nobody declared may be rare."""

    axes: Axes
    times: int = 1

    @property
    def points(self) -> int:
        return self.times * math.prod(len(axis.x) for axis in self.axes)


Level = tuple[Grid, ...]


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # what is not finite is no certificate
def integrate(setting: Setting) -> dict[str, Integral] | None:
    """Mean and variance of every parameter block, or None where the noise is too high-dimensional or too rough, or
    something of a user's own does not say where it jumps (`declared.undeclared` says what)."""
    if undeclared(setting) is not None:
        return None
    try:
        numbers = sum(math.prod(spec.shape) for spec in setting.specs.values())
        return (_of_one_sample(setting) if numbers > DIRECTLY else None) or _all_blocks(setting)
    except NotApplicable:  # the estimate jumps where no value of a single number tells
        return None


def few_numbers(setting: Setting) -> bool:
    """Whether the noise is of so few numbers that integration is tried where jumps are declared."""
    size = sum(math.prod(spec.shape) for spec in setting.specs.values())
    uniform = all(spec.kind in UNIFORM for spec in setting.specs.values())
    return size <= (MOST_NUMBERS if uniform else MOST_DIMENSIONS)


def _of_one_sample(setting: Setting) -> dict[str, Integral] | None:
    """The integrals of S = 1, where an estimate of S samples is the average of S such on noise of their own: seen on
    replicates drawn at random. None where it is not, and of what a user brings."""
    count = setting.num_samples
    if count == 1 or setting.estimator.smallest_num_samples() > 1 or not all_of_the_catalogue(setting):
        return None
    one = replace(setting, num_samples=1)
    alike = {name: replace(spec, shape=(count, *spec.shape)) for name, spec in one.specs.items()}
    if alike != dict(setting.specs) or setting.expectation.noise_specs():
        return None
    found = _all_blocks(one)
    if found is None:
        return None
    replicates = max(8, min(64, CHUNK // count))
    source = get("numpy")
    roots = {name: source.root(stream_root(*setting.path, "integration", name)) for name in alike}
    drawn = draw(source, alike, roots, 0, replicates, setting.dtype)
    whole = estimates_of(setting, drawn)
    made = next((size for size in SIZES if size >= replicates * count), replicates * count)
    each = {n: np.resize(a, (made, *one.specs[n].shape)) for n, a in drawn.items()}
    for block, single in estimates_of(one, each).items():
        parts = single[: replicates * count].astype(np.float64).reshape(replicates, count, -1)
        apart, size = np.abs(whole[block] - parts.mean(axis=1)), np.abs(parts).mean(axis=1)
        if not np.all(apart <= _near(setting) * size):
            return None
    return {block: replace(integral, variance=integral.variance / count) for block, integral in found.items()}


def _near(setting: Setting) -> float:
    """Relative to E |ĝ|, what may be rounding."""
    return min(MOST_DISAGREEMENT * float(np.finfo(setting.dtype).eps), MOST_APART)


def _all_blocks(setting: Setting) -> dict[str, Integral] | None:
    reads = setting.estimator.noise_by_block(setting.expectation, setting.num_samples, setting.dimension)
    sharing: dict[tuple[str, ...], list[str]] = {}  # a grid, of blocks that read the same noise
    for block in setting.blocks:
        sharing.setdefault(tuple(sorted(reads[block])), []).append(block)
    integrals: dict[str, Integral] = {}
    for names, blocks in sharing.items():
        found = _integrals(setting, blocks, {name: setting.specs[name] for name in names})
        if found is None:
            return None
        integrals |= found
    return {block: integrals[block] for block in setting.blocks}


def _integrals(setting: Setting, blocks: list[str], specs: dict[str, Noise]) -> dict[str, Integral] | None:
    """Of blocks that read the same noise, each from the first level whose grids settle on its moments, or the last one
    that agrees. What a few nodes agreed on by chance, as where they miss a narrow peak, more do not: levels that agree
    must agree with each other, and one that does not must come near; of a user's own, all levels from then on agree."""
    trusted = all_of_the_catalogue(setting)
    found: dict[str, Integral] = {}
    left, largest = blocks, 0.0
    for level in _levels(setting, specs, trusted):
        settled = set()
        made = _moments(setting, left, specs, level)
        largest = max(largest, *(float(moments[-1, 2].max(initial=0.0)) for moments, _ in made.values()))
        for block, (moments, lost) in made.items():
            integral, settles = _compared(setting, moments, lost, largest)
            if integral is None:
                if block in found and not (trusted and _near_it(found[block], moments, largest)):
                    found.pop(block)
                continue
            if block in found:
                integral = _both(found[block], integral)
            found[block] = integral
            settled |= {block} if settles and trusted else set()
        left = [block for block in left if block not in settled]
        if not left:
            break
    believable = all(block in found and np.all(np.isfinite(found[block].error)) for block in blocks)
    return found if believable else None


def _compared(setting: Setting, moments: np.ndarray, lost: np.ndarray, largest: float) -> tuple[Integral | None, bool]:
    """What the grids make of a block, None where they disagree; and whether finer ones would change no moment.

    Parameters
    ----------
    moments : E ĝ, E ĝ² and E |ĝ| on each grid [grids, 3, P].
    lost : what the weights' ends may add or take [grids, P].
    largest : E |ĝ|, of all blocks that read this noise: what errors are compared with. A block that is rounding and
        nothing else need not be known better.
    """
    if not (np.all(np.isfinite(moments)) and np.all(np.isfinite(lost))):
        return None, False
    precision = np.finfo(setting.dtype).eps
    mean, square, size = moments[-1]
    apart, squares_apart, sizes_apart = np.ptp(moments, axis=0)
    missing = lost.max(axis=0)
    near = _near(setting)
    agrees = np.all(apart <= near * largest) and np.all(missing <= MOST_LOST * largest)
    if not (agrees and np.all(sizes_apart <= SETTLED_SIZE * largest)):
        return None, False
    error = SAFETY * apart + missing + ROUNDING * precision * size
    variance = np.maximum(square - mean**2, 0.0)
    unsettled = squares_apart > SETTLED_VARIANCE * variance + near * square
    settles = np.all(apart <= 1e2 * precision * size) and np.all(squares_apart <= 1e2 * precision * square)
    return Integral(mean, np.where(unsettled, np.inf, variance), error), bool(settles)


def _near_it(cheap: Integral, moments: np.ndarray, largest: float) -> bool:
    """Whether grids that do not agree well enough, such as those that are off by rounding, say about the same."""
    return bool(np.all(np.abs(moments[:, 0] - cheap.mean) <= MOST_APART * largest))


def _both(cheap: Integral, dear: Integral) -> Integral:
    """The dearer of two levels; of no finite error where they exclude each other."""
    apart = np.abs(cheap.mean - dear.mean) > cheap.error + dear.error
    return Integral(dear.mean, dear.variance, np.where(apart, np.inf, dear.error))


def _levels(setting: Setting, specs: dict[str, Noise], trusted: bool) -> Iterator[Level]:
    """Grids to be compared, the cheapest first; none where there are too many numbers of noise."""
    size = sum(math.prod(spec.shape) for spec in specs.values())
    # Rows, nets and the order of strata jump where no axis does.
    rough = any(spec.kind in ("rows", "sobol") or name.endswith(draws.ORDER) for name, spec in specs.items())
    if size > MOST_NUMBERS or rough:
        return
    expectation, estimator = setting.expectation, setting.estimator
    parameters = {k: setting.backend.to_numpy(a).astype(np.float64) for k, a in setting.parameters.items()}
    jumps_of(expectation.family, expectation.family.jumps(parameters, setting.dimension))
    jumps = jumps_of(estimator, estimator.jumps(expectation, parameters, setting.num_samples, setting.dimension))
    discrete = expectation.family.discrete
    between = not discrete or "relaxation" in estimator.requirements(expectation.entropy).family
    if "curvature" in expectation.integrand.lacks and between:  # f jumps, or turns, between states
        return
    generator = np.random.default_rng(stream_root(*setting.path, "integration"))
    precision = float(np.finfo(setting.dtype).eps)
    if size == 0 or (jumps and all(spec.kind in UNIFORM for spec in specs.values())):
        yield from _pieced(specs, jumps, discrete, trusted, precision, generator)
    elif size <= MOST_DIMENSIONS and not discrete:
        free = any(spec.kind == "uniform" and name not in jumps for name, spec in specs.items())
        for smooth in (True, False) if free else (False,):
            level = tuple(
                Grid([each for name, spec in specs.items() for each in _rules(spec, jumps.get(name), *how)])
                for how in (
                    (nodes, reach, precision, generator, smooth)
                    for nodes, reach in zip(NODES[size], REACH, strict=True)
                )
            )
            if max(grid.points for grid in level) <= MOST_POINTS:
                yield level


def _rules(
    spec: Noise,
    jumps: np.ndarray | None,
    nodes: int,
    reach: float,
    precision: float,
    generator: np.random.Generator,
    smooth: bool,
) -> Iterator[Rule]:
    """A rule for every number of one name; in pieces for those that jump."""
    if jumps is None:
        for shift in generator.random(math.prod(spec.shape)):
            yield rule(spec.kind, nodes, reach, shift, precision, smooth)
        return
    each = 40 + nodes // 2 if nodes > 100 else nodes - 8  # else there would be too many points
    for at in _spread(jumps, spec):
        yield pieces(spec.kind, at, each if at.size else nodes, reach, generator.random(), precision)


def _spread(jumps: np.ndarray, spec: Noise) -> np.ndarray:
    """Where every number of one name jumps [numbers, J]."""
    return np.broadcast_to(jumps, (*spec.shape, jumps.shape[-1])).reshape(math.prod(spec.shape), jumps.shape[-1])


def _pieced(
    specs: dict[str, Noise],
    jumps: dict[str, np.ndarray],
    constant: bool,
    trusted: bool,
    precision: float,
    generator: np.random.Generator,
) -> Iterator[Level]:
    """Grids between jumps, with more and more nodes as long as they stay small; first with one node in a piece where an
    estimate may be constant there."""
    at = [row for name, spec in specs.items() for row in _spread(jumps.get(name, np.zeros(0)), spec)]
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
                [pieces(kind, row, n, 0.0, generator.random(), precision) for kind, row in zip(kinds, at, strict=True)]
            )
            for n in counts
        )
        if max(grid.points for grid in level) > MOST_POINTS:
            return
        yield level


def _moments(
    setting: Setting, blocks: list[str], specs: dict[str, Noise], level: Level
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of every block E ĝ, E ĝ² and E |ĝ| on every grid [grids, 3, P], and Σ |ĝ| with one axis after another weighted by
    what its weights lose [grids, P]. The points of all grids are evaluated together."""
    ends = np.cumsum([0, *(grid.points for grid in level)])
    others = {name: spec for name, spec in setting.specs.items() if name not in specs}
    result = {b: (np.zeros((len(level), 3, p)), np.zeros((len(level), p))) for b, p in _sizes(setting, blocks).items()}
    for start in range(0, ends[-1], CHUNK):
        stop = min(start + CHUNK, ends[-1])
        size = next(size for size in SIZES if size >= stop - start)
        columns = np.full((size, len(level[0].axes)), 0.5)
        parts = []
        for which, grid in enumerate(level):
            first, last = max(start, ends[which]), min(stop, ends[which + 1])
            if first < last:
                rows = slice(first - start, last - start)
                columns[rows], weights, loss = _points(setting, grid, which, first - ends[which], last - ends[which])
                parts.append((which, rows, weights, loss))
        found = estimates_of(setting, _noise(setting, specs, others, columns, start))
        for block, (moments, lost) in result.items():
            g = found[block].astype(np.float64)
            for which, rows, weights, loss in parts:
                part = g[rows]
                size_of = np.abs(part)
                moments[which] += np.stack([weights @ part, weights @ (part * part), weights @ size_of])
                if loss is not None:
                    lost[which] += loss @ size_of
    return result


def _sizes(setting: Setting, blocks: list[str]) -> dict[str, int]:
    return {block: setting.sizes[block] for block in blocks}


def _points(
    setting: Setting, grid: Grid, which: int, start: int, stop: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Points `start` to `stop` of a grid: numbers of noise [n, axes], weights [n], and what they may lose [n]."""
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
    """Places in (0, 1): uniform; or half of them, and the others down to 1e-16 from either end, their logarithms
    uniform."""
    uniform = generator.random(count)
    if not near_ends:
        return uniform
    near, which = 10.0 ** (-16.0 * uniform), generator.random(count)
    return np.where(which < 0.5, uniform, np.where(which < 0.75, near, 1.0 - near))


def _noise(
    setting: Setting, specs: dict[str, Noise], others: dict[str, Noise], columns: np.ndarray, start: int
) -> Arrays:
    """Numbers of noise by name; of names that are not read, other ones for every point, which would show that they
    are."""
    drawn: Arrays = {}
    if others:
        source = get("numpy")
        roots = {name: source.root(stream_root(*setting.path, "integration", name)) for name in others}
        drawn = draw(source, others, roots, start // CHUNK, len(columns), setting.dtype)
    used = 0
    for name, spec in specs.items():
        size = math.prod(spec.shape)
        drawn[name] = columns[:, used : used + size].reshape(len(columns), *spec.shape)
        used += size
    return {n: a if setting.specs[n].kind == "rows" else a.astype(setting.dtype) for n, a in drawn.items()}
