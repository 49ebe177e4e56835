"""Fit control variates on a pilot: a model of f, then one coefficient for each feature and coordinate of the estimate.

The pilot is drawn like defensive draws, widened in one number at a time with density weights of at most 2, so that the
fit includes the tails; a nominal pilot would miss them. Coefficients are selected by cross-validation between the
pilot's halves and then frozen. Their values cause no bias, because the means of the features are known.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np

from gradmeter.bench.measurement.controls.basis import MIRRORED, Basis, stepped
from gradmeter.bench.measurement.controls.features import BELOW, HIGH, Arrays, Layout, powers
from gradmeter.bench.measurement.controls.frozen import Controls
from gradmeter.bench.measurement.controls.gamma import SMALLEST, gamma_source
from gradmeter.bench.measurement.controls.rows import Rows, row_model
from gradmeter.bench.measurement.controls.slopes import differences, objective, slopes
from gradmeter.bench.measurement.controls.source import Source
from gradmeter.bench.measurement.defensive import Mixture
from gradmeter.bench.measurement.evaluate import estimates_of, in_double
from gradmeter.bench.measurement.kernel import Setting
from gradmeter.estimators import NotApplicable
from gradmeter.estimators.families.capabilities import has
from gradmeter.estimators.noise import DrawnNoise, Noise, sample_axis, stream_root

#: Most replicates of the pilot.
PILOT = 4096
#: Functions of a number; with at most FEW_NUMBERS numbers, HIGHER_DEGREE of them.
DEGREE, FEW_NUMBERS, HIGHER_DEGREE = 4, 4, 8
#: Directions of Normal noise in which degrees 3 and 4 are modelled.
DIRECTIONS = 4
#: Most numbers whose pairwise products are modelled, and draws that a coefficient needs.
INTERACTING, DRAWS_A_COEFFICIENT = 48, 3
#: Most numbers whose pairwise products are modelled from ∇f; up to how many numbers all products are modelled, and the
#: rank used for more, so that features cost no more than an estimate.
MOST_SLOPES, FULL_RANK, RANK = 1024, 256, 64
#: Draws of the pilot at which ∇f is evaluated, per number and at least; and the share of the variance of ∇f that the
#: products have to explain.
SLOPES_A_NUMBER, LEAST_SLOPES, EXPLAINED = 4, 1024, 0.05
#: Numbers whose coefficients are fitted together.
FITTED_TOGETHER = 32
#: Most pairs of names of other noise whose products are features.
MOST_COUPLES = 3
#: Draws that each feature of all numbers needs, where coordinates have no number of their own; and the limits on
#: numbers and coordinates.
POOLED_SHARE, MOST_NUMBERS, MOST_POOLED = 8, 300, 4096
#: A feature is dropped if it is this many standard errors from its known mean, or cancels to this part of its size.
CONTRADICTED, CANCELLED = 8.0, 1e-6
#: Largest relative residual variance of a coordinate at which controls are used on it.
WORTH = 0.9
#: Added to the diagonal of scaled normal equations, for collinear columns.
RIDGE = 1e-10


def layout_of(setting: Setting) -> tuple[Layout, Arrays] | None:
    """Return the layout of a setting's features and the arrays of its step functions; None if no noise has features."""
    expectation, estimator = setting.expectation, setting.estimator
    one = expectation.sample_specs(setting.dimension)
    parameters = {k: setting.backend.to_numpy(a).astype(np.float64) for k, a in setting.parameters.items()}
    try:
        discontinuities = setting.discontinuities()
    except NotApplicable:
        discontinuities = {}
    steps: Arrays = {}

    def basis(name: str, spec: Noise, shape: tuple[int, ...], degree: int, axis: int | None) -> Basis | None:
        numbers = math.prod(shape)
        if spec.kind in ("uniform", "stratum") and name in discontinuities and discontinuities[name].shape[-1]:
            at = discontinuities[name]
            while at.ndim > 1 + len(shape):  # an axis over samples, with equal entries
                at = np.take(at, 0, axis=axis or 0)
            at = np.broadcast_to(at, (*shape, at.shape[-1])).reshape(numbers, -1)
            count, arrays = stepped(at, degree, setting.dtype)
            steps.update({f"{each} of {name}": values for each, values in arrays.items()})
            return Basis(spec.kind, count, arrays["at"].shape[0]) if count else None
        if spec.kind in ("rows", "sobol"):
            return None
        return Basis.smooth(spec.kind, degree)

    gammas = {prefix: a for prefix, a in _gammas(setting, parameters).items() if f"{prefix}boost" in one}
    made_again = {f"{prefix}{part}" for prefix in gammas for part in ("acceptance", "boost")}
    of_gammas = {f"{prefix}proposal": prefix for prefix in gammas}
    numbers_of = {
        name: gammas[of_gammas[name]].size if name in of_gammas else math.prod(spec.shape)
        for name, spec in one.items()
        if name not in made_again
    }
    total = sum(count for name, count in numbers_of.items() if name in setting.specs)
    degree = HIGHER_DEGREE if total <= FEW_NUMBERS else DEGREE
    own: list[Source] = []
    others: list[Source] = []
    crossed = True
    for name, spec in one.items():
        full = setting.specs.get(name)
        axis = -1 if full is None else sample_axis(full.shape, spec.shape)
        if full is None or axis == -1 or not math.prod(full.shape):
            return None  # f does not depend on the drawn noise sample by sample
        if name in made_again:
            continue
        there = 1 if axis is None else full.shape[axis]
        shape = spec.shape if axis is None else spec.shape[:axis] + spec.shape[axis + 1 :]
        source: Source
        if name in of_gammas:
            source, arrays = gamma_source(of_gammas[name], gammas[of_gammas[name]], axis, DEGREE)
            steps.update(arrays)
        else:
            reader = basis(name, spec, shape, degree, axis)
            if reader is None:
                continue
            pairs = there * 2 == setting.num_samples and spec.kind in MIRRORED
            source = Source(name, reader, axis, numbers_of[name], pairs)
        crossed &= there == setting.num_samples > 1
        own.append(source)
    if not own:
        return None
    numbers = sum(source.numbers for source in own)
    for name, spec in setting.specs.items():
        if name in one or spec.kind in ("rows", "sobol"):
            continue
        for axis in (None, *range(len(spec.shape))):
            shape = spec.shape if axis is None else spec.shape[:axis] + spec.shape[axis + 1 :]
            if math.prod(shape) == numbers and (axis is None or spec.shape[axis] == setting.num_samples):
                reader = basis(name, spec, shape, 2, axis)
                if reader is not None:
                    others.append(Source(name, reader, axis, numbers))
                break
    reads = estimator.noise_by_block(expectation, setting.num_samples, setting.dimension).values()
    couples = [
        (a, b)
        for a, b in itertools.combinations(range(len(others)), 2)
        if any({others[a].name, others[b].name} <= set(names) for names in reads)
    ][:MOST_COUPLES]
    interacting = 1 < numbers <= INTERACTING
    normal = interacting and numbers > FEW_NUMBERS and all(source.basis.kind == "normal" for source in own)
    directions = min(DIRECTIONS, numbers) if normal else 0
    high, below = (powers(directions, degrees) if directions else () for degrees in (HIGH, BELOW))
    made = Layout(
        tuple(own),
        tuple(others),
        setting.num_samples,
        interacting,
        directions,
        crossed,
        high=high,
        below=below,
        couples=tuple(couples),
    )
    return made, steps


def _gammas(setting: Setting, parameters: Arrays) -> dict[str, np.ndarray]:
    """Return the concentrations [m] of the gamma numbers that a sample is made from, by the prefix of their noise."""
    family = setting.expectation.family
    numbers = family.gamma_numbers(parameters) if has(family, "gamma_numbers") else {}
    return {prefix: np.reshape(a, -1) for prefix, a in numbers.items() if np.all(a >= SMALLEST)}


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # non-finite controls are dropped
def fit(setting: Setting, centre: dict[str, np.ndarray], widened: list[str]) -> Controls | None:
    """Fit controls on a pilot with its own noise; return None where there is nothing to gain.

    Parameters
    ----------
    setting
        The cell that is measured.
    centre
        A rough mean of the estimates [P], by block.
    widened
        Names of the noise that is drawn wider.
    """
    made = layout_of(setting)
    if made is None:
        return None
    layout, steps = made
    layout, of_rows = _with_rows(setting, layout)
    few = layout.numbers <= max(MOST_NUMBERS, MOST_SLOPES) and sum(setting.sizes.values()) <= 4 * MOST_POOLED
    if not (few and any(_usable(layout, size) for size in setting.sizes.values())):
        return None
    noise, weight, estimates, values = _pilot(setting, widened, layout)
    if not all(np.all(np.isfinite(a)) for a in (values, *estimates.values())):
        return None
    noise = DrawnNoise(in_double(noise), noise.replicates)
    interactions = _interactions(setting, layout, noise, weight, steps)
    if interactions is not None:
        layout = replace(layout, interacting=True)
    elif layout.numbers > MOST_NUMBERS:
        return None
    found_model = _model(layout, noise, weight, values, steps) if interactions is None else interactions
    model: Arrays = {**steps, **of_rows, **found_model}
    averages, whole = layout(np, noise, model)
    means = layout.means(model)
    mirrored = any(source.pairs for source in layout.own)
    alone, whole_alone = _without_images(layout)(np, noise, model) if mirrored else (averages, whole)
    averages = [_believed(*each, weight) for each in zip(averages, means, alone, strict=True)]
    whole = _believed(whole[:, None], np.zeros(1), whole_alone[:, None], weight)[:, 0]
    halves = np.arange(len(weight)) % 2 == 0
    coefficients, constant, spread, pooled, blocks = {}, {}, {}, [], []
    before = after = 0.0
    for name, estimate in estimates.items():
        y = estimate - centre[name]
        found = None
        if not _usable(layout, y.shape[1]):
            pass
        elif y.shape[1] == layout.numbers:
            found = _own([*averages, np.broadcast_to(whole[:, None], y.shape)], y, weight, halves)
        else:
            h = np.concatenate([*averages, whole[:, None]], axis=1)  # [n, K]
            found = _pooled(h, y, weight, halves)
            pooled.append(name)
        plain = _variance(y, weight)
        before += float(plain.sum())
        if found is None:
            after += float(plain.sum())
            continue
        c, left = found
        after += float(left.sum())
        blocks.append(name)
        coefficients[f"C of {name}"] = c
        if name in pooled:
            mean = np.concatenate([*means, np.zeros(1)])
            constant[name] = mean @ c
            spread[name] = np.sqrt(_variance(h @ c, weight))
        else:
            constant[name] = sum((m * c[k] for k, m in enumerate(means)), np.zeros(layout.numbers))
            value = whole[:, None] * c[-1] + sum(each * c[k] for k, each in enumerate(averages))
            spread[name] = np.sqrt(_variance(value, weight))
    if not (blocks and all(np.all(np.isfinite(a)) for a in (*constant.values(), *coefficients.values()))):
        return None
    gain = before / after if after > 0.0 else math.inf
    arrays = {**model, **coefficients}
    return Controls(layout, tuple(pooled), arrays, constant, spread, gain, len(weight), tuple(blocks))


def _with_rows(setting: Setting, layout: Layout) -> tuple[Layout, Arrays]:
    """Add the rows of minibatches to the layout, and return it with their model, where there is one."""
    drawn = [(n, spec) for n, spec in setting.expectation.noise_specs().items() if spec.kind == "rows"]
    normal = len(layout.own) == 1 and layout.own[0].basis.kind == "normal"
    if len(drawn) != 1 or not normal or setting.expectation.population > 1:  # each datum has its own z
        return layout, {}
    rows = Rows(drawn[0][0], drawn[0][1].population)
    found = row_model(setting, rows, layout.own[0].name, layout.numbers)
    return (layout, {}) if found is None else (replace(layout, rows=rows), found)


def _usable(layout: Layout, coordinates: int) -> bool:
    """Return whether a block of this many coordinates can have controls: by number, or from all numbers."""
    pooled = 1 + layout.features * layout.numbers
    return coordinates == layout.numbers or (pooled * POOLED_SHARE <= PILOT and coordinates <= MOST_POOLED)


def _pilot(setting: Setting, widened: list[str], layout: Layout) -> tuple[DrawnNoise, np.ndarray, Arrays, np.ndarray]:
    """Return noise as NumPy arrays, its weights [n], estimates [n, P] by block, and f at every sample [n, S]."""
    s, block = setting, min(setting.replicates, PILOT)
    generator = np.random.default_rng(stream_root(*s.path, "controls", "mixture"))
    count = PILOT // block * block
    noise, weight = Mixture(s.specs, s.dtype, widened, {}).draw(s.host_noise("controls", 0, count), generator)
    values = objective(s, _samples(s, layout, noise)).reshape(count, -1)
    return noise, weight, in_double(estimates_of(s, noise, block)), values


def _samples(setting: Setting, layout: Layout, noise: DrawnNoise) -> DrawnNoise:
    """Return the noise of every single sample, as `sample_specs` declares, with the noise of f repeated for each."""
    one = setting.expectation.sample_specs(setting.dimension)
    axes = {name: source for source in layout.own for name in source.names}
    there = 1
    for source in layout.own:
        if source.axis is not None:
            there = setting.specs[source.name].shape[source.axis]
    found = {}
    for name, spec in one.items():
        a = noise[name]
        axis = axes[name].axis if name in axes else None
        a = np.stack([a] * there, axis=1) if axis is None else np.moveaxis(a, 1 + axis, 1)
        found[name] = a.reshape(noise.replicates * there, *spec.shape)
    return DrawnNoise(found, noise.replicates * there)


def _model(layout: Layout, noise: Arrays, weight: np.ndarray, values: np.ndarray, steps: Arrays) -> Arrays:
    """Fit h [degree, m] and M [m, m] of q, with the products of degree 3 and 4, by weighted least squares."""
    plain = _without_images(Layout(layout.own, (), layout.samples))
    phi = [each.reshape(-1, layout.numbers) for each in plain.functions(np, noise, steps)]
    n, m = phi[0].shape
    f, w = values.reshape(-1), np.repeat(weight, n // len(weight))
    i, j = np.triu_indices(m, 1)
    degree = len(phi)

    def draws_suffice(coefficients: int) -> bool:
        return (1 + coefficients) * DRAWS_A_COEFFICIENT <= n

    pairs = len(i) if layout.interacting and draws_suffice(2 * m + len(i)) else 0
    while degree > 2 and not draws_suffice(degree * m + pairs):
        degree -= 1
    columns = [np.ones((n, 1)), *phi[:degree]]
    if pairs:
        columns.append(phi[0][:, i] * phi[0][:, j])
    c = _solve(np.concatenate(columns, axis=1), f[:, None], w)[:, 0]
    M = np.zeros((m, m))
    if pairs:
        M[i, j] = c[1 + degree * m :]
        M = M + M.T
    model: Arrays = {"M": M}
    high = 0
    if layout.directions:
        curvature = M + np.diag(math.sqrt(2.0) * c[1 + m : 1 + 2 * m])
        values, vectors = np.linalg.eigh(curvature)
        model["V"] = np.ascontiguousarray(vectors[:, np.argsort(-np.abs(values))[: layout.directions]])
        products = layout.products(np, phi[0], model, layout.high)
        high = products.shape[1]
        columns[3:] = [products, *columns[1 + degree :]]  # in place of powers of single numbers
        degree = 2
        c = _solve(np.concatenate(columns, axis=1), f[:, None], w)[:, 0]
        model["c"] = c[1 + 2 * m : 1 + 2 * m + high]
        model["slope"] = _slopes(layout, model["c"])
        if pairs:
            M[i, j] = M[j, i] = c[1 + 2 * m + high :]
    h = np.zeros((len(phi), m))
    h[:degree] = c[1 : 1 + degree * m].reshape(degree, m)
    h *= [np.any(each != 0.0, axis=0) for each in phi]  # some numbers have fewer functions
    return {**model, "h": h}


def _interactions(
    setting: Setting, layout: Layout, noise: DrawnNoise, weight: np.ndarray, steps: Arrays
) -> Arrays | None:
    """Fit h [degree, m] and M by least squares of ∇f on φ_1, for more numbers than `_model` has products for.

    For a two-valued number, ∂f is the change of f between its values. Return None where ∇f is not available, or the fit
    explains too little of it.
    """
    if not INTERACTING < layout.numbers <= MOST_SLOPES or len(layout.own) != 1:
        return None
    source, m = layout.own[0], layout.numbers
    basis = source.basis
    if basis.kind == "gamma":
        return None
    count = min(
        len(weight), -(-max(LEAST_SLOPES, SLOPES_A_NUMBER * m) // (1 if source.axis is None else layout.samples))
    )
    given = _samples(setting, layout, noise.at(np.arange(count)))
    one = replace(source, axis=None, pairs=False)
    x = given[source.name].reshape(-1, m)
    phi = [each[:, 0] for each in one.functions(np, given, steps)]
    if basis.discontinuities == 1:
        at = steps[f"at of {source.name}"][0]
        moved = np.where(x >= at, 0.5 * at, 0.5 * (1.0 + at))
        step = one.functions(np, {source.name: moved}, steps)[0][:, 0] - phi[0]
        found = differences(setting, source.name, given, moved.reshape(given[source.name].shape))
        g = None if found is None else found.reshape(x.shape) / np.where(step != 0.0, step, np.inf)
    elif basis.discontinuities:
        g = None
    else:
        g = slopes(setting, source.name, given)
        g = None if g is None else g.reshape(x.shape) / basis.coefficients[0][1]
    if g is None or g.shape != x.shape or not np.all(np.isfinite(g)):
        return None
    w = np.repeat(weight[:count], len(x) // count)
    columns = np.concatenate([np.ones((len(x), 1)), phi[0]], axis=1)
    halves = np.arange(len(x)) < len(x) // 2
    c = _solve(columns[halves], g[halves], w[halves])
    rest = _variance(g[~halves] - columns[~halves] @ _symmetric(c), w[~halves]).sum()
    if rest > (1.0 - EXPLAINED) * _variance(g[~halves], w[~halves]).sum():
        return None
    c = _symmetric(_solve(columns, g, w))
    curvature = c[1:]
    h = np.zeros((layout.degree, m))
    h[0] = c[0] * np.any(phi[0] != 0.0, axis=0)
    if layout.degree > 1:
        h[1] = np.diag(curvature) / math.sqrt(2.0)
    if m <= FULL_RANK:
        return {"h": h, "M": curvature - np.diag(np.diag(curvature))}
    values, vectors = np.linalg.eigh(curvature)
    values = values - np.median(values)  # a multiple of the identity affects only the diagonal, which M lacks
    kept = np.argsort(-np.abs(values))[:RANK]
    return {"h": h, "F": vectors[:, kept] * np.sqrt(np.abs(values[kept])), "signs": np.sign(values[kept])}


def _symmetric(c: np.ndarray) -> np.ndarray:
    """Symmetrise the matrix in a constant row on top of a matrix [1 + m, m]."""
    return np.concatenate([c[:1], 0.5 * (c[1:] + c[1:].T)])


def _slopes(layout: Layout, c: np.ndarray) -> np.ndarray:
    """Return ∂/∂u_r of Σ_α c_α He_α(u), in orthonormal products of one degree less [B, directions]."""
    found = np.zeros((len(layout.below), layout.directions))
    for exponents, coefficient in zip(layout.high, c, strict=True):
        for r, n in enumerate(exponents):
            if n:  # He_n' = √n He_{n−1} for orthonormal polynomials
                one_less = tuple(k - (s == r) for s, k in enumerate(exponents))
                found[layout.below.index(one_less), r] += math.sqrt(n) * coefficient
    return found


def _solve(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Solve weighted least squares by normal equations with a small ridge for collinear columns, refined once."""
    a = x.T @ (w[:, None] * x)
    scale = np.sqrt(np.maximum(np.diag(a), 1e-300))
    a = a / scale[:, None] / scale[None, :] + RIDGE * np.eye(len(a))
    c = np.zeros((x.shape[1], y.shape[1]))
    for _ in range(2):
        c += np.linalg.solve(a, (x.T @ (w[:, None] * (y - x @ c))) / scale[:, None]) / scale[:, None]
    return c


def _without_images(layout: Layout) -> Layout:
    """Return the layout of mirrored noise without its mirror images."""
    return replace(layout, own=tuple(replace(source, pairs=False) for source in layout.own))


def _believed(feature: np.ndarray, mean: np.ndarray, size: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Set a feature [n, m] to 0 for the numbers where it is rounding or contradicts its known mean.

    Odd functions of mirrored noise cancel. What is left is a constant, whose coefficient would change the mean of the
    estimates.
    """
    off = w[:, None] * (feature - mean)
    far = np.abs(off.mean(axis=0)) > CONTRADICTED * off.std(axis=0) / math.sqrt(len(w))
    far |= np.mean(feature**2, axis=0) < CANCELLED**2 * np.mean(size**2, axis=0)
    return np.where(far, 0.0, feature) if np.any(far) else feature


def _variance(y: np.ndarray, w: np.ndarray) -> np.ndarray:
    total = w.sum()
    mean = (w @ y) / total
    return np.maximum((w @ (y * y)) / total - mean**2, 0.0)


def _own(features: list[np.ndarray], y: np.ndarray, w: np.ndarray, halves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit coefficients [k, m] of every number's own features, each [n, m]; also return the residual variance [m]."""
    parts = []
    for start in range(0, y.shape[1], FITTED_TOGETHER):
        some = slice(start, start + FITTED_TOGETHER)
        parts.append(_own_of_some(np.stack([each[:, some] for each in features], axis=2), y[:, some], w, halves))
    return np.concatenate([c for c, _ in parts], axis=1), np.concatenate([left for _, left in parts])


def _own_of_some(h: np.ndarray, y: np.ndarray, w: np.ndarray, halves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit the coefficients of `_own` for features [n, m, k]."""

    def solve(some: np.ndarray) -> np.ndarray:
        x = np.concatenate([np.ones((*h[some].shape[:2], 1)), h[some]], axis=2)
        wx = w[some][:, None, None] * x
        a = np.einsum("njk,njl->jkl", wx, x, optimize=True)
        b = np.einsum("njk,nj->jk", wx, y[some], optimize=True)
        scale = np.sqrt(np.maximum(np.einsum("jkk->jk", a), 1e-300))
        a = a / scale[:, :, None] / scale[:, None, :] + 1e-10 * np.eye(a.shape[1])
        return (np.linalg.solve(a, (b / scale)[..., None])[..., 0] / scale)[:, 1:]  # [m, k]

    left = np.zeros(y.shape[1])
    for some in (halves, ~halves):
        c = solve(some)
        left += 0.5 * _variance(y[~some] - np.einsum("njk,jk->nj", h[~some], c), w[~some])
    plain = _variance(y, w)
    good = left < WORTH * plain
    return np.where(good[None, :], solve(np.ones(len(w), dtype=bool)).T, 0.0), np.where(good, left, plain)


def _pooled(h: np.ndarray, y: np.ndarray, w: np.ndarray, halves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit coefficients [K, P] of the features of all numbers; also return the residual variance [P]."""

    def solve(some: np.ndarray) -> np.ndarray:
        return _solve(np.concatenate([np.ones((int(some.sum()), 1)), h[some]], axis=1), y[some], w[some])[1:]

    left = np.zeros(y.shape[1])
    for some in (halves, ~halves):
        left += 0.5 * _variance(y[~some] - h[~some] @ solve(some), w[~some])
    plain = _variance(y, w)
    good = left < WORTH * plain
    return np.where(good[None, :], solve(np.ones(len(w), dtype=bool)), 0.0), np.where(good, left, plain)
