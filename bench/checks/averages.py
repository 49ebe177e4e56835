"""Means over the noise, for identities that hold in expectation.

A mean is taken over sets of points, each set an independent randomisation: of the first numbers of noise a shifted
Kronecker sequence (Richtmyer 1951), of the others independent draws. In half of a set's points one number is drawn from
a wider distribution than its own, and every point has the weight of its density among all (the balance heuristic of
Veach & Guibas 1995), at most 2: what happens far out in one number is seen, however rare it is.

The means of the sets are independent and of the right expectation, so they give a t statistic. A mean is called
different from 0 where its t is beyond the quantile of `LEVEL` in two rounds, with the same sign, and where it is larger
than what the `TOP` largest of all terms add: a mean that rests on few of its terms proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from bench.checks.findings import About, Finding, number
from bench.checks.lab import Lab, Vectors
from estimators import Noise

SETS = 32
#: Probability that t is beyond its quantile for any number of a check, in each of two rounds.
LEVEL = 1e-5
#: Share of the terms whose sum must be smaller than a difference.
TOP = 1e-3
#: Of the size of the terms, below which a difference is rounding, or of no importance.
NEGLIGIBLE = 1e-6
#: Of what the terms are differences of, below which a difference is rounding.
ROUNDING = 1e-11
#: Square roots of primes generate the sequence, a number of noise each.
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
#: The most numbers that are widened in one set, and by what: powers of a uniform number, factors of others.
MOST_WIDENED, POWER, FACTORS = 8, 4.0, (2.0, 4.0)
WIDENED = ("normal", "uniform", "exponential")


@dataclass(frozen=True)
class Cloud:
    """Noise [N, *shape] by name with its weights [N]: `SETS` sets, one after another."""

    noise: Vectors
    weights: np.ndarray


def _component(kind: str, base: np.ndarray, option: int) -> np.ndarray:
    """Wider noise, made of noise of its own distribution."""
    if kind != "uniform":
        return FACTORS[option] * base
    return base**POWER if option == 0 else 1.0 - (1.0 - base) ** POWER


def _ratios(kind: str, x: np.ndarray) -> np.ndarray:
    """The mean over both options of the wider density over the nominal one."""
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


def cloud(lab: Lab, specs: Mapping[str, Noise], points: int, *path: object) -> Cloud:
    """`SETS` sets of `points` points, an even number; the same path gives the same noise."""
    generator, rows = lab.generator("cloud", *path), SETS * points
    noise = {name: np.array(a, order="C") for name, a in lab.draw(specs, rows, *path).items()}
    flat = {n: a.reshape(rows, -1) for n, a in noise.items() if specs[n].kind in WIDENED}  # views
    columns = [(specs[name].kind, a, i) for name, a in flat.items() for i in range(a.shape[1])]
    if not columns:
        return Cloud(noise, np.ones(rows))
    order = np.arange(points)
    for (kind, a, i), prime in zip(columns, PRIMES, strict=False):
        shift = generator.random((SETS, 1))
        u = (shift + order * math.sqrt(prime)) % 1.0
        a[:, i] = _quantile(kind, np.clip(u, 2.0**-53, 1.0 - 2.0**-53)).ravel()
    weights, half = np.ones(rows), points // 2
    for s in range(SETS):
        rows_of = slice(s * points, (s + 1) * points)
        some = generator.permutation(len(columns))[:MOST_WIDENED]
        chosen = np.arange(half) % (2 * len(some))
        density = np.full(points, 1.0 - half / points)
        for j, column in enumerate(some):
            kind, a, i = columns[column]
            part, share = a[rows_of, i], 0.0
            for option in (0, 1):
                wide = np.flatnonzero(chosen == 2 * j + option)
                part[wide] = _component(kind, part[wide], option)
            a[rows_of, i] = part
            share = np.sum(chosen // 2 == j) / points
            density += share * _ratios(kind, part)
        weights[rows_of] = 1.0 / density
    return Cloud(noise, weights)


@dataclass(frozen=True)
class Mean:
    """Means [entries] with the standard errors of the sets, the quantile of t, what the largest terms add, and what may
    be rounding."""

    value: np.ndarray
    error: np.ndarray
    quantile: float
    top: np.ndarray
    negligible: np.ndarray

    @property
    def away(self) -> np.ndarray:
        """The sign of means that are not 0, else 0."""
        beyond = np.abs(self.value) > np.maximum(self.quantile * self.error, self.negligible)
        return np.where(np.isfinite(self.value) & beyond & (np.abs(self.value) > self.top), np.sign(self.value), 0.0)


def mean_of(terms: np.ndarray, scale: float = 1.0) -> Mean:
    """The mean of weighted terms [N, ...], a set after another; `scale` is the size of what they are differences of."""
    from scipy.special import stdtrit

    rows = terms.reshape(len(terms), -1)
    sets = rows.reshape(SETS, len(rows) // SETS, -1).mean(axis=1)
    size = np.abs(rows)
    most = max(1, round(TOP * len(rows)))
    top = np.partition(size, len(rows) - most, axis=0)[len(rows) - most :].sum(axis=0) / len(rows)
    negligible = NEGLIGIBLE * size.mean(axis=0) + ROUNDING * scale
    quantile = float(stdtrit(SETS - 1, 1.0 - 0.5 * LEVEL / max(1, rows.shape[1])))
    return Mean(sets.mean(axis=0), sets.std(axis=0, ddof=1) / math.sqrt(SETS), quantile, top, negligible)


def finite(terms: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(terms)))


def verify_mean(
    about: About,
    check: str,
    claimed: np.ndarray,
    labels: list[str],
    reference: str,
    remedy: str,
    terms: Callable[[int], np.ndarray],
    what: str | None = None,
    scale: float = 1.0,
) -> Finding:
    """Check that the terms, weighted and less what is claimed, have mean 0.

    Parameters
    ----------
    claimed : the numbers that the class gives [entries], with `labels`; `what` is how messages call them.
    reference : what these numbers must be, empty where that is 0; remedy : what to do.
    terms : round -> weights × (terms − claimed) [N, entries], on noise of that round; `scale` is the size of what they
        are differences of.
    """
    values = terms(0)
    if not finite(values):
        return about.not_checked(check, f"{reference or what} is not finite at some of the samples")
    first = mean_of(values, scale)
    precision = number(np.max(first.quantile * first.error))
    if not first.away.any():
        return about.ok(check, f"to ±{precision}, by an average")
    second = mean_of(terms(1), scale)
    confirmed = (first.away != 0.0) & (first.away == second.away)
    if not confirmed.any():
        return about.ok(check, f"to ±{precision}, by an average")
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
