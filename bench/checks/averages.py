"""Tests of identities that hold in expectation, by means over the noise.

A mean is taken over sets of points, each an independent randomisation: a shifted Kronecker sequence (Richtmyer 1951)
for the first numbers of the noise, independent draws for the others. Half of a set's points are drawn from wider
distributions: either one number of the noise is widened, or normal noise along one direction. Each point is weighted by
the nominal density over the mixture density (the balance heuristic of Veach & Guibas 1995), at most 2. So behaviour
far out in one number, or along the directions in which f was largest, is sampled however rare it is.

The means of the sets are independent and unbiased, so they give a t statistic. A mean is called different from 0 if t
is beyond the quantile of `LEVEL` in two rounds with the same sign, and if the mean exceeds the contribution of the
`TOP` largest terms. If so few terms make up most of the variance, the mean proves nothing.

Functions of the noise with mean 0 serve as control variates, with coefficients fitted on the other half of the sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.checks.findings import About, Finding, number
from gradmeter.bench.checks.lab import Lab, Vectors
from gradmeter.estimators import Noise
from gradmeter.estimators.noise import DrawnNoise

SETS = 32
#: Probability that t exceeds its quantile for any entry of a check, in each of two rounds.
LEVEL = 1e-5
#: Number of largest terms whose sum a difference must exceed, and the largest share of the variance that they may have.
TOP, MOST_OF_VARIANCE = 10, 0.5
#: Differences below this, relative to the size of the terms, are rounding or unimportant.
NEGLIGIBLE = 1e-6
#: Differences below this, relative to the size of the numbers subtracted, are rounding.
ROUNDING = 1e-11
#: The square roots of primes generate the Kronecker sequence, one per number of noise.
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
#: Largest number of normal numbers whose pairwise products are control variates; points per control variate, so that
#: its coefficient is worth its error.
MOST_PAIRED, POINTS_A_CONTROL = 6, 32
#: Largest number of noise numbers widened in one set; how they are widened, by a power of a uniform number and factors
#: of others; number of points whose directions are widened too.
MOST_WIDENED, POWER, FACTORS = 8, 4.0, (2.0, 4.0)
EXTREMES = 4
WIDENED = ("normal", "uniform", "exponential")


@dataclass(frozen=True)
class Cloud:
    """Noise [N, *shape] by name in `SETS` consecutive sets, with weights [N] and control variates.

    The control variates are weighted functions of mean 0 [N, controls].
    """

    noise: DrawnNoise
    weights: np.ndarray
    controls: np.ndarray


def _polynomials(kind: str, x: np.ndarray) -> list[np.ndarray]:
    """Return four functions of one number of noise with mean 0: orthogonal polynomials."""
    from numpy.polynomial import hermite_e, laguerre, legendre

    evaluate, at = {
        "normal": (hermite_e.hermeval, x),
        "uniform": (legendre.legval, 2.0 * x - 1.0),
        "exponential": (laguerre.lagval, x),
    }[kind]
    return [evaluate(at, [0.0] * n + [1.0]) for n in range(1, 5)]


def _controls(columns: Sequence[tuple[str, np.ndarray, int]], weights: np.ndarray) -> np.ndarray:
    """Return weighted functions of mean 0 [N, controls]: of single numbers, of normal pairs, and the weights."""
    first = columns[: len(PRIMES)]
    each = [_polynomials(kind, a[:, i]) for kind, a, i in first]
    normal = [a[:, i] for kind, a, i in columns if kind == "normal"][:MOST_PAIRED]
    found = [np.ones_like(weights), *(h[0] for h in each), *(h[1] for h in each)]
    found += [normal[i] * normal[j] for i in range(len(normal)) for j in range(i)]
    found += [*(h[2] for h in each), *(h[3] for h in each)]
    found = found[: len(weights) // POINTS_A_CONTROL]
    controls = weights[:, None] * np.stack(found, axis=1)
    controls[:, 0] -= 1.0
    return controls


def _component(kind: str, base: np.ndarray, option: int) -> np.ndarray:
    """Return wider noise, as a transformation of noise of the nominal distribution."""
    if kind != "uniform":
        return FACTORS[option] * base
    return base**POWER if option == 0 else 1.0 - (1.0 - base) ** POWER


def _ratios(kind: str, x: np.ndarray) -> np.ndarray:
    """Return the ratio of the wider density to the nominal one, averaged over both options."""
    if kind == "normal":
        each = [np.exp(0.5 * x * x * (1.0 - c**-2)) / c for c in FACTORS]
    elif kind == "exponential":
        each = [np.exp(x * (1.0 - 1.0 / c)) / c for c in FACTORS]
    else:
        exponent = 1.0 / POWER - 1.0
        each = [np.maximum(side, 1e-300) ** exponent / POWER for side in (x, 1.0 - x)]
    return 0.5 * (each[0] + each[1])


def _quantile(kind: str, u: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri

    if kind == "normal":
        return np.asarray(ndtri(u))
    return -np.log1p(-u) if kind == "exponential" else u


def cloud(lab: Lab, specs: Mapping[str, Noise], points: int, *path: object, along: np.ndarray | None = None) -> Cloud:
    """Draw `SETS` sets of points; the same path gives the same noise.

    Parameters
    ----------
    lab
        Where the check computes.
    specs
        Declared noise, {name: Noise}.
    points
        Points in a set, an even number.
    *path
        Parts of the name of the random stream.
    along
        Unit vectors [directions, normal numbers] along which normal noise is widened too.
    """
    generator, rows = lab.generator("cloud", *path), SETS * points
    noise = lab.draw(specs, rows, *path).each(lambda a: np.array(a, order="C"))
    flat = {n: a.reshape(rows, -1) for n, a in noise.items() if specs[n].kind in WIDENED}  # views
    columns = [(specs[name].kind, a, i) for name, a in flat.items() for i in range(a.shape[1])]
    if not columns:
        return Cloud(noise, np.ones(rows), np.zeros((rows, 0)))
    order = np.arange(points)
    for (kind, a, i), prime in zip(columns, PRIMES, strict=False):
        shift = generator.random((SETS, 1))
        u = (shift + order * math.sqrt(prime)) % 1.0
        a[:, i] = _quantile(kind, np.clip(u, 2.0**-53, 1.0 - 2.0**-53)).ravel()
    normal = [(a, i) for kind, a, i in columns if kind == "normal"]
    extra = np.zeros((0, len(normal))) if along is None else along
    weights, half = np.ones(rows), points // 2
    for s in range(SETS):
        rows_of = slice(s * points, (s + 1) * points)
        some = generator.permutation(len(columns))[:MOST_WIDENED]
        count = len(some) + len(extra)
        chosen = np.arange(half) % (2 * count)
        x = np.stack([a[rows_of, i] for a, i in normal], axis=1) if len(extra) else np.zeros((points, 0))
        for j, direction in enumerate(extra, start=len(some)):
            for option in (0, 1):
                wide = np.flatnonzero(chosen == 2 * j + option)
                x[wide] += (FACTORS[option] - 1.0) * (x[wide] @ direction)[:, None] * direction
        for (a, i), column in zip(normal, x.T, strict=False) if len(extra) else ():
            a[rows_of, i] = column
        for j, place in enumerate(some):
            kind, a, i = columns[place]
            for option in (0, 1):
                wide = rows_of.start + np.flatnonzero(chosen == 2 * j + option)
                a[wide, i] = _component(kind, a[wide, i], option)
        density = np.full(points, 1.0 - half / points)
        for j in range(count):
            if j < len(some):
                kind, a, i = columns[some[j]]
                ratio = _ratios(kind, a[rows_of, i])
            else:
                final = np.stack([a[rows_of, i] for a, i in normal], axis=1)
                ratio = _ratios("normal", final @ extra[j - len(some)])
            density += np.sum(chosen // 2 == j) / points * ratio
        weights[rows_of] = 1.0 / density
    return Cloud(noise, weights, _controls(columns, weights))


def extremes(specs: Mapping[str, Noise], noise: Vectors, size: np.ndarray) -> np.ndarray:
    """Return unit vectors towards the normal noise at which `size` [N] is largest.

    They point to the `EXTREMES` largest points and to the mean of the 16 × `EXTREMES` largest. Use them with fresh
    noise.

    Parameters
    ----------
    specs
        Declared noise, {name: Noise}.
    noise
        Drawn noise, {name: [N, ...]}.
    size
        Size of every point [N].
    """
    normal = [noise[n].reshape(len(size), -1) for n, spec in specs.items() if spec.kind == "normal"]
    if not normal:
        return np.zeros((0, 0))
    x = np.concatenate(normal, axis=1)
    order = np.argsort(np.where(np.isfinite(size), size, 0.0))[::-1]
    found = np.concatenate([x[order[:EXTREMES]], x[order[: 16 * EXTREMES]].mean(axis=0, keepdims=True)])
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-300)


@dataclass(frozen=True)
class Mean:
    """Means minus their claimed values [entries], with what the test needs.

    This is the standard errors from the sets, the quantile of t, the contribution of the largest terms, a bound on
    rounding, and whether a few terms have most of the variance.
    """

    value: np.ndarray
    error: np.ndarray
    quantile: float
    top: np.ndarray
    negligible: np.ndarray
    fragile: np.ndarray

    def precision(self, claimed: np.ndarray) -> str:
        """Return the precision of the comparison with the claimed values, as text."""
        error, size = self.quantile * float(np.linalg.norm(self.error)), float(np.linalg.norm(claimed))
        return f"{100.0 * error / size:.2g} %" if size > 0.0 else f"±{error:.2g}"

    @property
    def away(self) -> np.ndarray:
        """The sign of each mean that differs from 0, else 0."""
        beyond = np.abs(self.value) > np.maximum(self.quantile * self.error, self.negligible)
        sure = np.isfinite(self.value) & (np.abs(self.value) > self.top) & ~self.fragile
        return np.where(sure & beyond, np.sign(self.value), 0.0)


def mean_of(values: np.ndarray, claimed: np.ndarray, made: Cloud, scale: float = 1.0, floor: Any = 0.0) -> Mean:
    """Return the mean of values [N, entries] on a cloud, minus its claimed value [entries].

    Parameters
    ----------
    values
        [N, entries].
    claimed
        [entries].
    made
        The cloud on which the values were computed.
    scale : float
        Size of the numbers of which the values are differences.
    floor : float or [entries]
        Bound on the error of the values' mean.
    """
    from scipy.special import stdtrit

    weights = made.weights[:, None]
    centre = (weights * values).mean(axis=0)
    rows = weights * (values - centre)
    spread = np.abs(rows).mean(axis=0)
    if finite(rows):
        rows = _without(rows, made.controls)
    sets = rows.reshape(SETS, len(rows) // SETS, -1).mean(axis=1)
    top = np.partition(np.abs(rows), len(rows) - TOP, axis=0)[-TOP:].sum(axis=0) / len(rows)
    squares = (rows - rows.mean(axis=0)) ** 2
    largest = np.partition(squares, len(rows) - TOP, axis=0)[-TOP:].sum(axis=0)
    fragile = (largest > MOST_OF_VARIANCE * squares.sum(axis=0)) & (squares.mean(axis=0) > (NEGLIGIBLE * spread) ** 2)
    negligible = NEGLIGIBLE * spread + ROUNDING * (scale + np.abs(centre)) + floor
    quantile = float(stdtrit(SETS - 1, 1.0 - 0.5 * LEVEL / max(1, rows.shape[1])))
    error = sets.std(axis=0, ddof=1) / math.sqrt(SETS) + negligible / quantile
    return Mean(sets.mean(axis=0) + centre - claimed, error, quantile, top, negligible, fragile)


def _without(rows: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Subtract control variates from the terms, with coefficients fitted on the other half of the sets."""
    half = len(rows) // 2
    parts = []
    for own, other in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        x, y = (a[other] - a[other].mean(axis=0) for a in (controls, rows))
        gram = x.T @ x
        ridge = 1e-10 * np.diag(gram).max() if len(gram) else 0.0
        fitted = np.linalg.solve(gram + ridge * np.eye(len(gram)), x.T @ y) if len(gram) else np.zeros((0, y.shape[1]))
        parts.append(rows[own] - controls[own] @ fitted)
    return np.concatenate(parts)


FRAGILE = "the average rests on a few rare samples"


def finite(terms: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(terms)))


def verify_mean(
    about: About,
    check: str,
    claimed: np.ndarray,
    labels: list[str],
    reference: str,
    remedy: str,
    terms: Callable[[int], tuple[np.ndarray, Cloud]],
    what: str | None = None,
    scale: float = 1.0,
) -> Finding:
    """Check that values have their claimed mean.

    Parameters
    ----------
    about
        What the finding is about.
    check
        The method that is checked.
    claimed : [entries]
        The values that the class returns, with `labels`; messages call them `what`.
    labels
        Names of the entries.
    reference : str
        Description of the correct values, empty if these are 0.
    remedy : str
        What the user should do.
    terms : callable
        Round -> values [N, entries] and their cloud.
    what
        What messages call the values; the check's name if absent.
    scale : float
        Size of the numbers of which the values are differences.
    """

    def mean(round: int) -> Mean:
        values, made = terms(round)
        return mean_of(values, np.ravel(claimed), made, scale)

    first = mean(0)
    if not finite(first.value):
        return about.not_checked(check, f"{reference or what} is not finite at some of the samples")
    second = mean(1) if first.away.any() else first
    confirmed = (first.away != 0.0) & (first.away == second.away)
    if not confirmed.any():
        if first.fragile.any():
            return about.not_checked(check, FRAGILE)
        return about.ok(check, f"to {first.precision(claimed)}, by an average")
    entry = int(np.argmax(confirmed * np.abs(first.value) / np.maximum(first.error, 1e-300)))
    flat = np.ravel(claimed)
    found, error = flat[entry] + first.value[entry], first.quantile * first.error[entry]
    if not reference:
        return about.wrong(
            check, f"{what or check}{labels[entry]} is {number(found)} ± {number(error)} and not 0; {remedy}"
        )
    return about.wrong(
        check,
        f"{what or check}{labels[entry]} is {number(flat[entry])}, but {reference} is {number(found)} ± "
        f"{number(error)}; {remedy}",
    )
