"""Integrate over the noise: exact mean and variance of an estimator whose noise is low-dimensional.

A pure function of noise can be integrated by tensor quadrature. Three grids are compared, each with randomly shifted
nodes that are fixed by the problem and the seed; each grid reaches farther than the previous one. Where they disagree
by more than rounding the result is refused, so a certificate is never better than it claims, not even for an estimate
that grows as fast as the noise's density falls.

Where the noise is uniform and the estimate declares its discontinuities, every number is integrated subinterval by
subinterval, however many numbers there are, as long as the grids stay small: an estimate that is constant between its
discontinuities is enumerated. Other noise is integrated by subintervals too where the estimate declares a corner or a
discontinuity.

Where data have discrete z of their own, every datum is integrated alone.

Any other estimate that may be discontinuous or have a corner is refused unseen (`declared.py`): no grid converges on
it, and every grid misses what happens on a small part of the noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from gradmeter.bench.forms.results import jumps_of
from gradmeter.bench.measurement.declared import all_of_the_catalogue, undeclared
from gradmeter.bench.measurement.evaluate import Arrays, estimates_of
from gradmeter.bench.measurement.kernel import Setting
from gradmeter.bench.measurement.rules import Rule, anywhere, rule, subintervals
from gradmeter.estimators import NotApplicable, draws
from gradmeter.estimators.amortised import ROWS, AmortisedExpectation
from gradmeter.estimators.backends import get
from gradmeter.estimators.noise import DrawnNoise, Noise, draw, stream_root

Axes = list[Rule]

GRIDS = 3
#: Factor on the largest disagreement of two grids in the reported error, to which is added the loss from the noise's
#: precision,
SAFETY = 10.0
#: and this many units in the last place of E |ĝ|, by which any average of such numbers may be off.
ROUNDING = 128.0
#: Conditions for accepting an integral: the grids disagree by at most this many units in the last place of the largest
#: E |ĝ| and by at most this part of it, and the noise's precision loses at most this part of it.
MOST_DISAGREEMENT, MOST_APART, MOST_LOST = 1e5, 1e-4, 1e-5
#: Relative differences of E |ĝ| and of the variance between grids above which these moments may not exist.
SETTLED_SIZE, SETTLED_VARIANCE = 0.1, 1e-3

MOST_DIMENSIONS = 4
#: Extent of each grid, in standard deviations.
REACH = (9.5, 10.2, 11.0)
#: Nodes per dimension on each grid, by number of dimensions.
NODES = {1: (256, 288, 320), 2: (136, 144, 156), 3: (50, 52, 54), 4: (24, 26, 28)}
MOST_NUMBERS = 64
#: Up to this many numbers of noise, integrate directly without asking whether integrating one sample suffices.
DIRECTLY = 2
UNIFORM = ("uniform", "stratum")
#: The most data that are integrated one after another.
MOST_DATA = 2**8
CHUNK = 2**14
#: Batches of points are padded to one of these sizes, since JAX compiles anew for every size.
SIZES = (2**6, 2**10, CHUNK)
#: Nodes in every subinterval, from the cheapest level on; and the most points of a grid.
PIECES = ((2, 2, 3), (4, 4, 6), (8, 8, 11), (12, 12, 15), (16, 17, 22), (40, 44, 56), (80, 88, 112))
MOST_POINTS = 2**20
#: From this level on the nodes reach the ends of subintervals, where undeclared events may be rare. For a user's own
#: parts only these levels are trusted.
TO_THE_ENDS = -2
#: Fewest points where a user's own estimate is taken to be constant in every subinterval.
FEWEST_DRAWN = 2**12


@dataclass(frozen=True)
class Integral:
    """Moments of one parameter block's estimate, from the finest grid.

    Attributes
    ----------
    mean
        E ĝ [P].
    variance
        Var ĝ [P]; infinite where the grids do not settle on it, since it may not exist.
    error
        Absolute bound on the error of the mean [P], which scales with ĝ: 10 times the largest disagreement of any two
        grids, plus the loss from the noise's finite precision at discontinuities and at the ends of uniform noise, plus
        128 units in the last place of E |ĝ|.
    """

    mean: np.ndarray
    variance: np.ndarray
    error: np.ndarray


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


@dataclass(frozen=True)
class _Given:
    """What is known of the noise of a part of an estimate.

    Attributes
    ----------
    discontinuities
        Of the noise that is integrated over, by name.
    fixed
        Noise that is held fixed, by name, without the axis of replicates.
    """

    discontinuities: Arrays
    fixed: Arrays


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # non-finite integrals are refused
def integrate(setting: Setting) -> dict[str, Integral] | None:
    """Return mean and variance of every parameter block, or None where integration is not possible.

    It is not possible where the noise has too many dimensions, the estimate is too rough, or something of a user's own
    does not declare its discontinuities (`declared.undeclared` says what).
    """
    if undeclared(setting) is not None:
        return None
    try:
        numbers = sum(math.prod(spec.shape) for spec in setting.specs.values())
        part = _of_each_datum(setting) or (_of_one_sample(setting) if numbers > DIRECTLY else None)
        return part or _all_blocks(setting)
    except NotApplicable:  # a discontinuity lies where no value of a single number locates it
        return None


def few_numbers(setting: Setting) -> bool:
    """Return whether the noise has few enough numbers to be integrated over if discontinuities are declared."""
    size = sum(math.prod(spec.shape) for spec in setting.specs.values())
    uniform = all(spec.kind in UNIFORM for spec in setting.specs.values())
    return size <= (MOST_NUMBERS if uniform else MOST_DIMENSIONS)


def _of_one_sample(setting: Setting) -> dict[str, Integral] | None:
    """Return the integrals from those of S = 1, where an estimate of S samples is an average of S one-sample estimates.

    Whether it is such an average is tested on random replicates. Return None where it is not, and for a user's own
    parts.
    """
    count = setting.num_samples
    if count == 1 or setting.estimator.smallest_num_samples() > 1 or not all_of_the_catalogue(setting):
        return None
    if setting.expectation.noise_specs():  # f's own noise, such as the rows of a minibatch, is not drawn S times
        return None
    one = replace(setting, num_samples=1)
    alike = {name: replace(spec, shape=(count, *spec.shape[1:])) for name, spec in one.specs.items()}
    if alike != dict(setting.specs):
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
    each = DrawnNoise({n: np.resize(a, (made, *one.specs[n].shape)) for n, a in drawn.items()}, made)
    for block, single in estimates_of(one, each).items():
        parts = single[: replicates * count].astype(np.float64).reshape(replicates, count, -1)
        apart, size = np.abs(whole[block] - parts.mean(axis=1)), np.abs(parts).mean(axis=1)
        if not np.all(apart <= _near(setting) * size):
            return None
    return {block: replace(integral, variance=integral.variance / count) for block, integral in found.items()}


def _of_each_datum(setting: Setting) -> dict[str, Integral] | None:
    """Return the integrals from those of every datum alone, where data have discrete z of their own.

    The estimate is then (N/B) Σ_{n ∈ batch} ĝ_n with independent ĝ_n, which is tested on random replicates. Let m_n and
    v_n be the mean and the variance of N ĝ_n; the batch is drawn without replacement, so that

        E ĝ = (1/N) Σ_n m_n,   Var ĝ = (1/B) [(1/N) Σ_n v_n + (N − B)/(N (N − 1)) Σ_n (m_n − E ĝ)²].

    Return None where it is no such sum, and for a user's own parts.
    """
    whole = setting.expectation
    if not isinstance(whole, AmortisedExpectation) or not whole.family.discrete or not all_of_the_catalogue(setting):
        return None
    population, batch = whole.population, whole.batch
    if not 1 < population <= MOST_DATA:
        return None
    everything = whole.bind({name: a for name, a in whole.data.items() if name != "batch"})
    nothing = setting.backend.asarray(np.zeros(1), setting.dtype)
    one = replace(setting, expectation=whole.bind({**whole.data, "batch": nothing}))
    jumps = replace(setting, expectation=everything).discontinuities()
    specs = {name: spec for name, spec in one.specs.items() if spec.kind != "rows"}
    each = []
    for n in range(population):
        own = {name: at[n : n + 1] for name, at in jumps.items()}
        found = _integrals(one, list(setting.blocks), specs, _Given(own, {ROWS: np.full(1, n)}))
        if found is None:
            return None
        each.append(found)
    if not _is_sum_over_data(setting, one):
        return None
    result = {}
    for block in setting.blocks:
        means, variances = (np.stack([getattr(found[block], name) for found in each]) for name in ("mean", "variance"))
        mean = means.mean(axis=0)
        apart = ((means - mean) ** 2).sum(axis=0) * (population - batch) / (population * (population - 1))
        error = np.mean([found[block].error for found in each], axis=0)
        result[block] = Integral(mean, (variances.mean(axis=0) + apart) / batch, error)
    return result


def _is_sum_over_data(setting: Setting, one: Setting) -> bool:
    """Return whether estimates are averages of estimates of one datum, on random replicates."""
    source, expectation = get("numpy"), setting.expectation
    assert isinstance(expectation, AmortisedExpectation)
    batch = expectation.batch
    replicates = max(8, min(64, CHUNK // batch))
    roots = {name: source.root(stream_root(*setting.path, "integration", name)) for name in setting.specs}
    drawn = draw(source, setting.specs, roots, 0, replicates, setting.dtype)
    rows = drawn.get(ROWS, np.broadcast_to(np.arange(batch), (replicates, batch)))
    made = next((size for size in SIZES if size >= replicates * batch), replicates * batch)
    arrays = {name: np.resize(a, (made, *one.specs[name].shape)) for name, a in {**drawn, ROWS: rows}.items()}
    singles = estimates_of(one, DrawnNoise(arrays, made))
    for block, found in estimates_of(setting, drawn).items():
        parts = singles[block][: replicates * batch].astype(np.float64).reshape(replicates, batch, -1)
        if not np.all(np.abs(found - parts.mean(axis=1)) <= _near(setting) * np.abs(parts).mean(axis=1)):
            return False
    return True


def _near(setting: Setting) -> float:
    """Return the disagreement, relative to E |ĝ|, that rounding may explain."""
    return min(MOST_DISAGREEMENT * float(np.finfo(setting.dtype).eps), MOST_APART)


def _all_blocks(setting: Setting) -> dict[str, Integral] | None:
    reads = setting.estimator.noise_by_block(setting.expectation, setting.num_samples, setting.dimension)
    sharing: dict[tuple[str, ...], list[str]] = {}  # noise names -> the parameter blocks that read them, on one grid
    for block in setting.blocks:
        sharing.setdefault(tuple(sorted(reads[block])), []).append(block)
    integrals: dict[str, Integral] = {}
    for names, blocks in sharing.items():
        found = _integrals(setting, blocks, {name: setting.specs[name] for name in names})
        if found is None:
            return None
        integrals |= found
    return {block: integrals[block] for block in setting.blocks}


def _integrals(
    setting: Setting, blocks: list[str], specs: dict[str, Noise], given: _Given | None = None
) -> dict[str, Integral] | None:
    """Integrate the parameter blocks that read the same noise.

    Each block takes the first level whose grids settle on its moments, or else the last level whose grids agree. A few
    nodes may agree by chance, for example where they miss a narrow peak; more nodes will not. So levels that agree must
    agree with each other, and a finer level that does not must come near. For a user's own parts, all levels from the
    first that agrees on must agree.
    """
    trusted = all_of_the_catalogue(setting)
    found: dict[str, Integral] = {}
    left, largest = blocks, 0.0
    for level in _levels(setting, specs, trusted, None if given is None else given.discontinuities):
        settled = set()
        made = _moments(setting, left, specs, level, {} if given is None else given.fixed)
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
    """Compare the grids on one block; return the integral and whether finer grids would change no moment.

    The integral is None where the grids disagree.

    Parameters
    ----------
    moments
        E ĝ, E ĝ² and E |ĝ| on each grid [grids, 3, P].
    lost
        Error of Σ |ĝ| from the weights at the ends of subintervals [grids, P].
    largest
        The largest E |ĝ| of all blocks that read this noise, as the scale of errors: a block that is nothing but
        rounding need not be known better.
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
    """Return whether grids that disagree too much, perhaps by rounding, still give about the same mean."""
    return bool(np.all(np.abs(moments[:, 0] - cheap.mean) <= MOST_APART * largest))


def _both(cheap: Integral, dear: Integral) -> Integral:
    """Return the more expensive of two levels, with an infinite error where the two exclude each other."""
    apart = np.abs(cheap.mean - dear.mean) > cheap.error + dear.error
    return Integral(dear.mean, dear.variance, np.where(apart, np.inf, dear.error))


def _levels(
    setting: Setting, specs: dict[str, Noise], trusted: bool, discontinuities: Arrays | None = None
) -> Iterator[Level]:
    """Yield levels of grids to be compared, the cheapest first; none where the noise has too many numbers."""
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


def _moments(
    setting: Setting, blocks: list[str], specs: dict[str, Noise], level: Level, fixed: Arrays
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the moments of every block on every grid, and the error of their weights.

    The moments are E ĝ, E ĝ² and E |ĝ| [grids, 3, P]. The error is Σ |ĝ| with the weights of one axis after another
    replaced by their loss [grids, P]. The points of all grids are evaluated together.
    """
    ends = np.cumsum([0, *(grid.points for grid in level)])
    others = {name: spec for name, spec in setting.specs.items() if name not in specs and name not in fixed}
    result = {
        b: (np.zeros((len(level), 3, setting.sizes[b])), np.zeros((len(level), setting.sizes[b]))) for b in blocks
    }
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
        noise = _noise(setting, specs, others, columns, start)
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
    setting: Setting, specs: dict[str, Noise], others: dict[str, Noise], columns: np.ndarray, start: int
) -> DrawnNoise:
    """Return the noise.

    Noise that the estimates should not read is drawn anew for every point, so that reading it would show.
    """
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
    rounded = {n: a if setting.specs[n].kind == "rows" else a.astype(setting.dtype) for n, a in drawn.items()}
    return DrawnNoise(rounded, len(columns))
