"""Defensive draws: replicates that visit the tails of their noise, weighted so that their expectations are unchanged.

Half of the draws are nominal. In the other half one name of noise is widened, along one of its numbers or along a
direction in which the estimate was seen to be largest. Let p be the density of the noise, q that of this mixture, and
w = p/q ≤ 2. Then E_q[w h] = E_p[h] for any h. So the weighted mean of ĝ − g is unbiased for E ĝ − g whatever the
estimator, and includes events that plain replicates never meet.

    normal, maxwell, rayleigh   ε becomes c ε, along a direction or in one number; c is 2 or 4
    exponential                 in one number e, exp(−e) or 1 − exp(−e) is raised to the power c; c is 3 or 8
    uniform, stratum            in one number u, u or 1 − u is raised to the power c; c is 3 or 8
    rademacher, rows, sobol     nominal: they have no tail

Source: Hesterberg 1995, Weighted average importance sampling and defensive mixture distributions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from gradmeter.bench.measurement.controls.frozen import Controls
from gradmeter.bench.measurement.evaluate import Arrays, blocks_together, estimates_of, in_double
from gradmeter.bench.measurement.kernel import Setting
from gradmeter.bench.measurement.moments import GROUPS, Moments, squared_distances
from gradmeter.bench.measurement.variance import SHARE_OF
from gradmeter.estimators.noise import DrawnNoise, Noise, stream_root

#: Factors that widen a normal number, and powers that widen a uniform one, each with equal probability.
WIDENED, POWERS = (2.0, 4.0), (3.0, 8.0)
#: Draws with the largest weighted Q that tell where an estimate grows; how many of them give a direction each; and how
#: many principal directions are used.
EXTREMES, OWN_DIRECTIONS, PRINCIPAL = 256, 16, 4
#: Noise is at an end if its distance from it is at most the generator's smallest number to this power.
AT_AN_END = 2.0 / 3.0
#: Draws of a round for each number of uniform noise that are needed to show a bias: with 1,000, 9 % of unbiased
#: rare-event Bernoulli cells were far off in a round, with 16,000 none.
LEAST_FOR_UNIFORM = 10_000
#: Exponents are capped here; the weights are then 0.
LARGEST_EXPONENT = 700.0


def widening(kind: str) -> type[Widening] | None:
    """Return how noise of a kind is widened; None where it stays nominal."""
    known: dict[str, type[Widening]] = {
        "normal": Directions,
        "rayleigh": Scales,
        "maxwell": Scales,
        "uniform": Powers,
        "stratum": Powers,
        "exponential": Tails,
    }
    return known.get(kind)


class Widening(Protocol):
    """A way to widen one name of noise, flat [R, m], with the density of the result relative to the nominal density."""

    def __init__(self, spec: Noise, directions: np.ndarray) -> None: ...
    def widen(self, noise: np.ndarray, generator: np.random.Generator) -> np.ndarray: ...
    def ratio(self, noise: np.ndarray) -> np.ndarray: ...


def _chosen(generator: np.random.Generator, rows: int, numbers: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose one of its numbers for each row."""
    return np.arange(rows), generator.integers(numbers, size=rows)


class Directions:
    """Widening of normal noise, half of the draws along an axis and half along a direction in which estimates grow."""

    def __init__(self, spec: Noise, directions: np.ndarray) -> None:
        self.directions = directions

    def widen(self, noise: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        factor = generator.choice(WIDENED, size=len(noise))
        rows, j = _chosen(generator, len(noise), noise.shape[1])
        widened = noise.copy()
        widened[rows, j] *= factor
        if len(self.directions):
            unit = self.directions[generator.integers(len(self.directions), size=len(noise))]
            along = noise + ((factor - 1.0) * np.sum(noise * unit, axis=1))[:, None] * unit
            widened = np.where((generator.random(len(noise)) < 0.5)[:, None], along, widened)
        return widened

    def ratio(self, noise: np.ndarray) -> np.ndarray:
        axes = _normal_ratio(noise, 1).mean(axis=1)
        if not len(self.directions):
            return axes
        return 0.5 * axes + 0.5 * _normal_ratio(noise @ self.directions.T, 1).mean(axis=1)


class Scales:
    """Widening of Rayleigh and double-sided Maxwell noise: one number is multiplied by c."""

    def __init__(self, spec: Noise, directions: np.ndarray) -> None:
        self.power = 2 if spec.kind == "rayleigh" else 3

    def widen(self, noise: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        rows, j = _chosen(generator, len(noise), noise.shape[1])
        widened = noise.copy()
        widened[rows, j] *= generator.choice(WIDENED, size=len(noise))
        return widened

    def ratio(self, noise: np.ndarray) -> np.ndarray:
        return _normal_ratio(noise, self.power).mean(axis=1)


def _normal_ratio(t: np.ndarray, power: int) -> np.ndarray:
    """Return the density of c t over that of t, averaged over c, for a density with the tail exp(−t²/2).

    Parameters
    ----------
    power
        1 plus the power of t that the density has as a factor.
    """
    total = np.zeros_like(t)
    for c in WIDENED:
        total += np.exp(np.minimum(0.5 * (1.0 - c**-2) * t * t, LARGEST_EXPONENT)) / c**power
    return total / len(WIDENED)


class Powers:
    """Widening of uniform noise: one number, or its complement, is raised to the power c."""

    def __init__(self, spec: Noise, directions: np.ndarray) -> None:
        pass

    def widen(self, noise: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        rows, j = _chosen(generator, len(noise), noise.shape[1])
        near = noise[rows, j] ** generator.choice(POWERS, size=len(noise))
        widened = noise.copy()
        widened[rows, j] = np.where(generator.random(len(noise)) < 0.5, near, np.minimum(1.0 - near, 1.0 - 2.0**-53))
        return widened

    def ratio(self, noise: np.ndarray) -> np.ndarray:
        return _power_ratio(noise, 1.0 - noise).mean(axis=1)


class Tails:
    """Widening of exponential noise e: exp(−e) is uniform and widened as such."""

    def __init__(self, spec: Noise, directions: np.ndarray) -> None:
        pass

    def widen(self, noise: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        rows, j = _chosen(generator, len(noise), noise.shape[1])
        power = generator.choice(POWERS, size=len(noise))
        value = noise[rows, j]
        near_zero = -np.log1p(-((-np.expm1(-value)) ** power))
        widened = noise.copy()
        widened[rows, j] = np.where(generator.random(len(noise)) < 0.5, power * value, near_zero)
        return widened

    def ratio(self, noise: np.ndarray) -> np.ndarray:
        return _power_ratio(np.exp(-noise), -np.expm1(-noise), noise).mean(axis=1)


def _power_ratio(low: np.ndarray, high: np.ndarray, minus_log_low: np.ndarray | None = None) -> np.ndarray:
    """Return the density of u^c or 1 − u^c over that of uniform u, averaged over both and over c; high = 1 − low."""
    total = np.zeros_like(low)
    tiny = np.finfo(np.float64).tiny
    logs = (
        -np.log(np.maximum(low, tiny)) if minus_log_low is None else minus_log_low,
        -np.log(np.maximum(high, tiny)),
    )
    for c in POWERS:
        for log in logs:
            total += np.exp(np.minimum((1.0 - 1.0 / c) * log, LARGEST_EXPONENT)) / c
    return total / (2 * len(POWERS))


@dataclass
class Weighted:
    """One round of weighted draws.

    Attributes
    ----------
    moments
        Moments of y = w (ĝ − g) by parameter block, with w ‖ĝ − c‖² as squared norm. c is a rough mean, used because
        ĝ − g shows no tail where g rests on events that were not met.
    total
        Moments of the squared norms of all blocks together.
    offset
        g − c by parameter block [P].
    held_by_few
        Share of Σ w ‖ĝ − c‖ in the 16 largest, by parameter block; large where the tails were not sampled.
    relieved
        Whether control variates were subtracted from ĝ.
    at_the_ends
        Shares of Σ w ‖ĝ − c‖ and of Σ w ‖ĝ − c‖² from noise at the ends of the generator's range, by parameter block;
        large where these sums would grow without limit if noise had more digits.
    numbers, uniform
        How many numbers of noise are widened, one at a time, and how many of these are uniform.
    met
        Largest ‖ĝ − c‖² of the estimates themselves by parameter block, neither weighted nor controlled, about the
        centre of plain replicates.
    """

    moments: dict[str, Moments]
    total: Moments
    offset: Mapping[str, np.ndarray]
    held_by_few: dict[str, float] = field(default_factory=dict)
    relieved: bool = False
    at_the_ends: dict[str, tuple[float, float]] = field(default_factory=dict)
    numbers: int = 0
    uniform: int = 0
    met: dict[str, float] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return self.total.count

    @np.errstate(over="ignore", invalid="ignore")
    def variance(self, names: tuple[str, ...]) -> float:
        """Return tr Var ĝ of these blocks: E w ‖ĝ − c‖² − ‖E ĝ − c‖²."""
        raw = sum(float(self.moments[n].norms[:, 0].sum()) for n in names) / self.count
        means = [self.moments[n].shift() + self.offset[n] for n in names]
        return max(0.0, raw - float(sum(m @ m for m in means)))


@dataclass
class DefensiveDraws:
    """Defensive draws of a cell's replicates; their directions are learnt from all earlier rounds.

    Parameters
    ----------
    setting
        The cell.
    """

    setting: Setting
    rounds: int = 0
    _top: list[tuple[np.ndarray, dict[str, np.ndarray]]] = field(default_factory=list)

    @property
    def widened(self) -> list[str]:
        """Names of noise that have tails to visit."""
        return [n for n, spec in self.setting.specs.items() if math.prod(spec.shape) and widening(spec.kind)]

    def _numbers(self, *kinds: str) -> int:
        """Return how many numbers of noise are widened, of all kinds or of these."""
        specs = [self.setting.specs[name] for name in self.widened]
        return sum(math.prod(spec.shape) for spec in specs if not kinds or spec.kind in kinds)

    @np.errstate(over="ignore", invalid="ignore")  # the caller that accumulates the sums checks them
    def draw(
        self,
        replicates: int,
        exact: Mapping[str, np.ndarray],
        centre: Mapping[str, np.ndarray],
        controls: Controls | None = None,
        about: Mapping[str, np.ndarray] | None = None,
    ) -> Weighted:
        """Draw a round of at most this many fresh replicates, but at least 64.

        Parameters
        ----------
        exact
            The gradient that their mean is compared with, by parameter block [P].
        centre
            A rough mean by parameter block [P].
        controls
            Control variates to subtract from the estimates before they are weighted.
        about
            The centre of plain replicates by parameter block [P]; `centre` if absent.
        """
        about = centre if about is None else about
        s, block = self.setting, max(1, min(self.setting.replicates, replicates // GROUPS))
        doublings = max(0, int(math.log2(max(1, replicates // (GROUPS * block)))))
        offset = {name: exact[name] - centre[name] for name in s.sizes}
        found = Weighted({name: Moments(size, block) for name, size in s.sizes.items()}, Moments(0, block), offset)
        found.relieved, found.numbers = controls is not None, self._numbers()
        found.uniform = self._numbers("uniform", "stratum")
        stream = f"defensive {self.rounds}"
        mixture = Mixture(s.specs, s.dtype, self.widened, self._directions())
        root = stream_root(*s.path, stream, "mixture")
        top: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        every, sizes = {**found.moments, "": found.total}, {name: _Share() for name in s.sizes}
        ends = {name: np.zeros((2, 2)) for name in s.sizes}  # first and second power: total, and part at the ends
        for _ in range(doublings):
            for moments in every.values():
                moments.double()
        together = blocks_together(s, block)
        for i in range((GROUPS << doublings) // together):
            generator = np.random.default_rng(np.random.SeedSequence(root, spawn_key=(i,)))
            noise, weight = mixture.draw(s.host_noise(stream, i, together * block), generator)
            made = in_double(estimates_of(s, noise, s.replicates if together * block % s.replicates == 0 else block))
            whole, at_an_end = np.zeros(together * block), mixture.at_an_end(noise)
            for name, estimate in made.items():
                met = float(squared_distances(estimate, about[name]).max())
                found.met[name] = max(found.met.get(name, 0.0), met)
            if controls is not None:
                made = controls.relieved(noise, made)
            for name, moments in found.moments.items():
                estimate = made[name]
                d = estimate - centre[name]
                q = np.einsum("ij,ij->i", d, d)
                first = weight * np.sqrt(q)
                sizes[name].add(first)
                q *= weight
                ends[name] += [[each.sum(), each[at_an_end].sum()] for each in (first, q)]
                whole += q
                _add(moments, weight[:, None] * (estimate - exact[name]), q)
            _add(found.total, np.zeros((len(whole), 0)), whole)
            top.append(mixture.largest(noise, weight * whole))
            if len(top) >= GROUPS:
                top = [_largest(top)]
        found.held_by_few = {name: each.of_largest() for name, each in sizes.items()}
        for name, (first, second) in ends.items():
            found.at_the_ends[name] = _part(*first), _part(*second)
        self._top = [_largest([*self._top, *top])]
        self.rounds += 1
        return found

    def _directions(self) -> dict[str, np.ndarray]:
        """Return unit vectors [k, m] along which estimates were large, by name of normal noise."""
        if not self._top:
            return {}
        q, noise = self._top[0]
        order, found = np.argsort(q)[::-1], {}
        for name, values in noise.items():
            sorted_by_size = values[order]
            few = sorted_by_size[:OWN_DIRECTIONS]
            principal = np.linalg.svd(sorted_by_size, full_matrices=False)[2][:PRINCIPAL]
            candidates = np.concatenate([few, [few.mean(axis=0), sorted_by_size.mean(axis=0)], principal])
            norms = np.linalg.norm(candidates, axis=1, keepdims=True)
            found[name] = (candidates / np.where(norms > 0.0, norms, 1.0))[norms[:, 0] > 0.0]
        return found


def _part(total: float, part: float) -> float:
    """Return part / total; 0 of a zero total, 1 where the total overflows."""
    return float(part / total) if 0.0 < total < math.inf else float(total > 0.0)


class _Share:
    """The share of a sum that its largest terms hold."""

    def __init__(self) -> None:
        self.total, self.largest = 0.0, np.zeros(0)

    def add(self, values: np.ndarray) -> None:
        self.total += float(values.sum())
        self.largest = np.sort(np.concatenate([self.largest, values]))[-SHARE_OF:]

    def of_largest(self) -> float:
        return _part(self.total, self.largest.sum())


def _add(moments: Moments, y: np.ndarray, q: np.ndarray) -> None:
    """Add some blocks of weighted values [R, P] and their squared norms [R] to the moments."""
    q = q.reshape(-1, moments.block_replicates)
    y = y.reshape(*q.shape, -1)
    square = y * y
    norms = np.stack([q.sum(axis=1), np.einsum("bi,bi->b", q, q)], axis=1)
    moments.add(y.sum(axis=1), square.sum(axis=1), np.einsum("bij,bij->bj", square, y), norms)
    moments.keep_largest(q)


def _largest(parts: list[tuple[np.ndarray, dict[str, np.ndarray]]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the largest Q of several parts, with their noise."""
    q = np.concatenate([part[0] for part in parts])
    keep = np.argsort(q)[-EXTREMES:]
    names = parts[0][1]
    return q[keep], {name: np.concatenate([part[1][name] for part in parts])[keep] for name in names}


class Mixture:
    """The defensive mixture: maps nominal noise to noise of the mixture, with weights."""

    def __init__(
        self, specs: Mapping[str, Noise], dtype: str, names: list[str], directions: dict[str, np.ndarray]
    ) -> None:
        self.specs, self.dtype, self.names = specs, dtype, names
        self.widenings: dict[str, Widening] = {}
        for name in names:
            kind = widening(specs[name].kind)
            assert kind is not None
            m = math.prod(specs[name].shape)
            self.widenings[name] = kind(specs[name], directions.get(name, np.zeros((0, m))))

    def draw(self, nominal: DrawnNoise, generator: np.random.Generator) -> tuple[DrawnNoise, np.ndarray]:
        """Return noise of the mixture and its weights w [R], computed after rounding to the cell's dtype."""
        replicates = nominal.replicates
        if not self.names:
            return nominal, np.ones(replicates)
        which = generator.integers(len(self.names), size=replicates)
        which[generator.random(replicates) < 0.5] = -1
        noise, total = DrawnNoise(nominal, replicates), np.zeros(replicates)
        for place, (name, widening) in enumerate(self.widenings.items()):
            given = nominal[name]
            flat = given.reshape(replicates, -1).astype(np.float64)
            rows = which == place
            flat[rows] = widening.widen(flat[rows], generator)
            kept = flat.astype(self.dtype)
            if self.specs[name].kind in ("uniform", "stratum"):  # stay within the generator's range
                least = np.finfo(self.dtype).epsneg
                kept = np.clip(kept, least, 1.0 - least)
            total += widening.ratio(kept.astype(np.float64))
            noise[name] = kept.reshape(given.shape)
        return noise, 1.0 / (0.5 + 0.5 * total / len(self.names))

    def at_an_end(self, noise: DrawnNoise) -> np.ndarray:
        """Return where a number of uniform or exponential noise is at an end of the generator's range [R]."""
        near = float(np.finfo(self.dtype).epsneg) ** AT_AN_END
        found = np.zeros(noise.replicates, dtype=bool)
        for name in self.names:
            flat = noise[name].reshape(len(found), -1)
            if self.specs[name].kind in ("uniform", "stratum"):
                found |= np.any((flat <= near) | (1.0 - flat <= near), axis=1)
            elif self.specs[name].kind == "exponential":
                found |= np.any((flat <= near) | (np.exp(-flat) <= near), axis=1)
        return found

    def largest(self, noise: Arrays, q: np.ndarray) -> tuple[np.ndarray, Arrays]:
        """Return the largest Q of a block, with their normal noise, flat."""
        keep = np.argsort(q)[-EXTREMES:]
        found = {}
        for name in self.names:
            if self.specs[name].kind == "normal":
                found[name] = noise[name].reshape(len(q), -1)[keep].astype(np.float64)
        return q[keep], found
