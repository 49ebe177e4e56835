"""Defensive draws: replicates that visit the tails of their noise, weighted so that their mean is that of plain ones.

Half of the draws are nominal. In the other half one name of noise is widened: a number of it, or the direction in
which the estimate was seen to be largest. With w = p/q, p the density of the noise and q that of this whole mixture,
E_q[w h] = E_p[h] for any h, and w ≤ 2. So the weighted mean of ĝ − g is unbiased for E ĝ − g whatever the estimator,
and rests on events that plain replicates never meet.

    normal, maxwell, rayleigh   ε to c ε along a direction, or of one number; c is 2 or 4
    exponential                 of one number, exp(−e) or 1 − exp(−e) to its power c; c is 3 or 8
    uniform, stratum            of one number, u or 1 − u to its power c; c is 3 or 8
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
from gradmeter.bench.measurement.moments import GROUPS, Moments
from gradmeter.bench.measurement.variance import SHARE_OF
from gradmeter.estimators.noise import Noise, stream_root

#: How far a normal number, and by which power a uniform one, is widened: each as often as the other.
WIDENED, POWERS = (2.0, 4.0), (3.0, 8.0)
#: Draws of the largest weighted Q that tell where an estimate grows, and how many are directions of their own.
EXTREMES, OWN_DIRECTIONS, PRINCIPAL = 256, 16, 4
#: How near to an end of uniform noise is at the end of what a generator draws: its least number to this power.
AT_AN_END = 2.0 / 3.0
#: Draws of a round for each number of uniform noise, below which it may not show a bias: with 1,000, 9 % of right
#: means of rare Bernoulli events were far off in a round, with 16,000 none.
LEAST_FOR_UNIFORM = 10_000
#: Exponents beyond this stand for weights of 0.
LARGEST_EXPONENT = 700.0


def widening(kind: str) -> type[Widening] | None:
    """How noise of a kind is widened; None where it is left alone."""
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
    """Widens one name of noise, flat [R, m], and knows the density of what it makes relative to the nominal one."""

    def __init__(self, spec: Noise, directions: np.ndarray) -> None: ...
    def widen(self, noise: np.ndarray, generator: np.random.Generator) -> np.ndarray: ...
    def ratio(self, noise: np.ndarray) -> np.ndarray: ...


def _chosen(generator: np.random.Generator, rows: int, numbers: int) -> tuple[np.ndarray, np.ndarray]:
    """For each row, one of its numbers."""
    return np.arange(rows), generator.integers(numbers, size=rows)


class Directions:
    """Normal noise: along an axis, or along a direction in which the estimate grows, half of the draws each."""

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
    """Rayleigh and double-sided Maxwell noise: one number times c."""

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
    """Density of c t over that of t, where it falls as exp(−t²/2), in the mean over c."""
    total = np.zeros_like(t)
    for c in WIDENED:
        total += np.exp(np.minimum(0.5 * (1.0 - c**-2) * t * t, LARGEST_EXPONENT)) / c**power
    return total / len(WIDENED)


class Powers:
    """Uniform noise: one number, or its complement, to its power c."""

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
    """Exponential noise e: exp(−e) is uniform, and so treated."""

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
    """Density of u^c or 1 − u^c, either as often, over that of uniform u, in the mean over c; high = 1 − low."""
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
    moments : of y = w (ĝ − g) by parameter block, with w ‖ĝ − c‖² as squared norm; c is a rough mean, for where g rests
        on what was not met, ĝ − g shows no tail.
    total : the same of the squared norms of all blocks together.
    offset : g − c by parameter block [P].
    held_by_few : how much of Σ w ‖ĝ − c‖ the 16 largest hold, by parameter block: much where the tails were not met.
    relieved : whether ĝ is less controls of known mean.
    at_the_ends : how much of Σ w ‖ĝ − c‖ and of Σ w ‖ĝ − c‖² noise holds that lies at the ends of what generators draw,
        by parameter block: much where they would grow without limit if noise had more digits.
    """

    moments: dict[str, Moments]
    total: Moments
    offset: Mapping[str, np.ndarray]
    held_by_few: dict[str, float] = field(default_factory=dict)
    relieved: bool = False
    at_the_ends: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return self.total.count

    @np.errstate(over="ignore", invalid="ignore")
    def variance(self, names: tuple[str, ...]) -> float:
        """tr Var ĝ of those blocks: E w ‖ĝ − c‖² − ‖E ĝ − c‖²."""
        raw = sum(float(self.moments[n].norms[:, 0].sum()) for n in names) / self.count
        means = [self.moments[n].shift() + self.offset[n] for n in names]
        return max(0.0, raw - float(sum(m @ m for m in means)))


@dataclass
class DefensiveDraws:
    """Draws a cell's replicates again, defensively; its directions are learnt from every round so far.

    Parameters
    ----------
    setting : the cell.
    """

    setting: Setting
    rounds: int = 0
    _top: list[tuple[np.ndarray, dict[str, np.ndarray]]] = field(default_factory=list)

    @property
    def widened(self) -> list[str]:
        """The names of noise that have tails to visit."""
        return [n for n, spec in self.setting.specs.items() if math.prod(spec.shape) and widening(spec.kind)]

    @property
    def uniform(self) -> int:
        """How many numbers of uniform noise are widened one at a time."""
        specs = [self.setting.specs[name] for name in self.widened]
        return sum(math.prod(spec.shape) for spec in specs if spec.kind in ("uniform", "stratum"))

    @np.errstate(over="ignore", invalid="ignore")  # whoever adds the sums up looks
    def draw(
        self,
        replicates: int,
        exact: Mapping[str, np.ndarray],
        centre: Mapping[str, np.ndarray],
        controls: Controls | None = None,
    ) -> Weighted:
        """A round of at most that many fresh replicates, at least 64.

        Parameters
        ----------
        exact : what their mean is compared with, by parameter block [P].
        centre : a rough mean, likewise.
        controls : what is taken off the estimates before they are weighted.
        """
        s, block = self.setting, max(1, min(self.setting.replicates, replicates // GROUPS))
        doublings = max(0, int(math.log2(max(1, replicates // (GROUPS * block)))))
        offset = {name: exact[name] - centre[name] for name in s.sizes}
        found = Weighted({name: Moments(size, block) for name, size in s.sizes.items()}, Moments(0, block), offset)
        found.relieved = controls is not None
        stream = f"defensive {self.rounds}"
        mixture = Mixture(s, self.widened, self._directions())
        root = stream_root(*s.path, stream, "mixture")
        top: list[tuple[np.ndarray, dict[str, np.ndarray]]] = []
        every, sizes = {**found.moments, "": found.total}, {name: _Share() for name in s.sizes}
        ends = {name: np.zeros((2, 2)) for name in s.sizes}  # of the first and second power: all, and at the ends
        for _ in range(doublings):
            for moments in every.values():
                moments.double()
        together = blocks_together(s, block)
        for i in range((GROUPS << doublings) // together):
            generator = np.random.default_rng(np.random.SeedSequence(root, spawn_key=(i,)))
            noise, weight = mixture.draw(s.host_noise(stream, i, together * block), generator)
            made = in_double(estimates_of(s, noise, s.replicates if together * block % s.replicates == 0 else block))
            whole, at_an_end = np.zeros(together * block), mixture.at_an_end(noise)
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
        """Unit vectors [k, m] along which the estimate was seen to be large, by name of normal noise."""
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
    """`part` over `total`: 0 of nothing, all of what overflows."""
    return float(part / total) if 0.0 < total < math.inf else float(total > 0.0)


class _Share:
    """How much of a sum its largest terms hold."""

    def __init__(self) -> None:
        self.total, self.largest = 0.0, np.zeros(0)

    def add(self, values: np.ndarray) -> None:
        self.total += float(values.sum())
        self.largest = np.sort(np.concatenate([self.largest, values]))[-SHARE_OF:]

    def of_largest(self) -> float:
        return _part(self.total, self.largest.sum())


def _add(moments: Moments, y: np.ndarray, q: np.ndarray) -> None:
    """Some blocks of weighted values [R, P] and their squared norms [R]."""
    q = q.reshape(-1, moments.block_replicates)
    y = y.reshape(*q.shape, -1)
    square = y * y
    norms = np.stack([q.sum(axis=1), np.einsum("bi,bi->b", q, q)], axis=1)
    moments.add(y.sum(axis=1), square.sum(axis=1), np.einsum("bij,bij->bj", square, y), norms)
    moments.keep_largest(q)


def _largest(parts: list[tuple[np.ndarray, dict[str, np.ndarray]]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The largest of several."""
    q = np.concatenate([part[0] for part in parts])
    keep = np.argsort(q)[-EXTREMES:]
    names = parts[0][1]
    return q[keep], {name: np.concatenate([part[1][name] for part in parts])[keep] for name in names}


class Mixture:
    """Nominal noise -> that of the mixture, and weights."""

    def __init__(self, setting: Setting, names: list[str], directions: dict[str, np.ndarray]) -> None:
        self.setting, self.names = setting, names
        self.widenings: dict[str, Widening] = {}
        for name in names:
            kind = widening(setting.specs[name].kind)
            assert kind is not None
            m = math.prod(setting.specs[name].shape)
            self.widenings[name] = kind(setting.specs[name], directions.get(name, np.zeros((0, m))))

    def draw(self, nominal: Arrays, generator: np.random.Generator) -> tuple[Arrays, np.ndarray]:
        """The noise, and w [R] of its numbers as the cell's precision holds them."""
        s = self.setting
        replicates = len(next(iter(nominal.values()))) if nominal else s.replicates
        if not self.names:
            return nominal, np.ones(replicates)
        which = generator.integers(len(self.names), size=replicates)
        which[generator.random(replicates) < 0.5] = -1
        noise, total = dict(nominal), np.zeros(replicates)
        for place, (name, widening) in enumerate(self.widenings.items()):
            given = nominal[name]
            flat = given.reshape(replicates, -1).astype(np.float64)
            rows = which == place
            flat[rows] = widening.widen(flat[rows], generator)
            kept = flat.astype(s.dtype)
            if s.specs[name].kind in ("uniform", "stratum"):  # no nearer to an end than what generators draw
                least = np.finfo(s.dtype).epsneg
                kept = np.clip(kept, least, 1.0 - least)
            total += widening.ratio(kept.astype(np.float64))
            noise[name] = kept.reshape(given.shape)
        return noise, 1.0 / (0.5 + 0.5 * total / len(self.names))

    def at_an_end(self, noise: Arrays) -> np.ndarray:
        """Whether a number of uniform or exponential noise is at an end of what generators draw [R]."""
        s = self.setting
        near = float(np.finfo(s.dtype).epsneg) ** AT_AN_END
        found = np.zeros(len(next(iter(noise.values()))) if noise else s.replicates, dtype=bool)
        for name in self.names:
            flat = noise[name].reshape(len(found), -1)
            if s.specs[name].kind in ("uniform", "stratum"):
                found |= np.any((flat <= near) | (1.0 - flat <= near), axis=1)
            elif s.specs[name].kind == "exponential":
                found |= np.any((flat <= near) | (np.exp(-flat) <= near), axis=1)
        return found

    def largest(self, noise: Arrays, q: np.ndarray) -> tuple[np.ndarray, Arrays]:
        """The largest of a block, with their normal noise, flat."""
        keep = np.argsort(q)[-EXTREMES:]
        found = {}
        for name in self.names:
            if self.setting.specs[name].kind == "normal":
                found[name] = noise[name].reshape(len(q), -1)[keep].astype(np.float64)
        return q[keep], found
