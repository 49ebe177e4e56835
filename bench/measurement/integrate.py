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
from dataclasses import dataclass, replace

import numpy as np

from gradmeter.bench.measurement.declared import all_of_the_catalogue, undeclared
from gradmeter.bench.measurement.evaluate import Arrays, estimates_of
from gradmeter.bench.measurement.grids import CHUNK, MOST_AGAIN, SIZES, elements, levels, moments_of
from gradmeter.bench.measurement.kernel import Setting
from gradmeter.estimators import NotApplicable
from gradmeter.estimators.amortised import ROWS, AmortisedExpectation
from gradmeter.estimators.backends import get
from gradmeter.estimators.noise import DrawnNoise, Noise, draw, stream_root

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

#: Up to this many numbers of noise, integrate directly without asking whether integrating one sample suffices.
DIRECTLY = 2
#: The most data that are integrated one after another.
MOST_DATA = 2**8


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
class _Given:
    """What is known of the noise of a part of an estimate.

    Attributes
    ----------
    discontinuities
        Discontinuities of the noise that is integrated over, by name.
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
    for tried, level in enumerate(levels(setting, specs, trusted, None if given is None else given.discontinuities)):
        if tried and sum(grid.points for grid in level) * elements(setting) > MOST_AGAIN:
            break
        settled = set()
        made = moments_of(setting, left, specs, level, {} if given is None else given.fixed)
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
