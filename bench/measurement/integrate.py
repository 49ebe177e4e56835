"""Integration over the noise: mean and variance of an estimator as facts, where its noise is low-dimensional.

A pure function of noise can be integrated by tensor quadrature. Two grids are compared, the finer of which also
reaches farther; where they disagree by more than rounding the result is refused, so a certificate is never better
than it says, not even for an estimate that grows as fast as the noise's density falls.

Where the noise is uniform and the estimate says where it jumps, every number is integrated piece by piece, however
many numbers there are, as long as the grid stays small: an estimate that is constant between its jumps is enumerated.
Exponential noise is integrated in pieces too where the estimate says that it has a corner or jumps.

What else jumps or has a corner is refused without looking: no grid converges on it, and where the jump lies far out,
where the noise has hardly any weight left, two of them may agree by chance to more than either is worth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.measurement.kernel import Setting, compiled_once, evaluator
from bench.measurement.rules import Rule, exponential_pieces, piecewise, rule
from estimators import draws
from estimators.backends import for_few_calls
from estimators.noise import Noise

Axes = list[Rule]

MOST_DIMENSIONS = 4
#: How far the coarse and the fine grid reach, in standard deviations.
REACH, FARTHER = 9.5, 11.0
#: Nodes per dimension of the coarse grid, by number of dimensions; the fine grid has 4/3 times as many.
NODES = {1: 288, 2: 144, 3: 48, 4: 24}
MOST_NUMBERS = 64
UNIFORM = ("uniform", "stratum")
#: Of pieces that are enumerated, relative to E |ĝ|: what they may lose before sampling is better.
MOST_ROUNDING = 1e-6
CHUNK = 2**14
#: Points are made up to one of few numbers: JAX compiles for every number anew.
SIZES = (2**6, 2**10, CHUNK)
#: Nodes in every piece between jumps, coarse and fine, from the cheapest; and as many points as a grid may have.
PIECES = ((1, 1), (2, 3), (4, 6), (8, 12), (12, 16), (16, 24), (40, 60), (80, 120))
MOST_POINTS = 2**20


@dataclass(frozen=True)
class Integral:
    """Exact moments of one parameter block's estimate [P], with the difference of the means of two grids as error.

    The variance is not checked: where the estimate has none, it is a number of no meaning.
    """

    mean: np.ndarray
    variance: np.ndarray
    error: np.ndarray


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # what is not finite is no certificate
def integrate(setting: Setting) -> dict[str, Integral] | None:
    """Mean and variance of every parameter block, or None where the noise is too high-dimensional or too rough."""
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
    """Of blocks that read the same noise, each from the first pair of grids that its moments settle on, or the last
    one that agrees."""
    found: dict[str, Integral | None] = dict.fromkeys(blocks)
    left = blocks
    for axes in _axes(setting, specs):
        coarse, fine = (_moments(setting, left, specs, each) for each in axes)
        settled = set()
        for block in left:
            found[block], settles = _compared(setting, specs, coarse[block][0], *fine[block])
            settled |= {block} if settles else set()
        left = [block for block in left if block not in settled]
        if not left:
            break
    integrals = {block: integral for block, integral in found.items() if integral is not None}
    return integrals if len(integrals) == len(blocks) else None


def _compared(
    setting: Setting, specs: dict[str, Noise], coarse: np.ndarray, fine: np.ndarray, unweighted: np.ndarray
) -> tuple[Integral | None, bool]:
    """What two grids make of a block, None where they disagree; and whether finer ones would change no moment."""
    precision = np.finfo(setting.dtype).eps
    error = np.abs(fine[0] - coarse[0])
    rounding = precision * unweighted if _enumerated(setting, specs) else np.zeros_like(error)
    size = np.maximum(1.0, fine[2])
    agrees = not np.any(error > 1e4 * precision * size) and not np.any(rounding > MOST_ROUNDING * size)
    if not (np.all(np.isfinite(fine)) and agrees):
        return None, False
    settles = bool(np.all(np.abs(fine - coarse) <= 1e2 * precision * fine[1:].max(axis=0)))
    return Integral(fine[0], fine[1] - fine[0] ** 2, error + rounding), settles


def _axes(setting: Setting, specs: dict[str, Noise]) -> Iterator[tuple[Axes, Axes]]:
    """Pairs of a coarse and a fine rule for every number of noise, cheapest first; none where there are too many."""
    size = sum(math.prod(spec.shape) for spec in specs.values())
    # Rows, nets and the order of strata jump where no axis does.
    rough = any(spec.kind in ("rows", "sobol") or name.endswith(draws.ORDER) for name, spec in specs.items())
    if size > MOST_NUMBERS or rough:
        return
    parameters = {k: setting.backend.to_numpy(a).astype(np.float64) for k, a in setting.parameters.items()}
    jumps = setting.estimator.jumps(setting.expectation, parameters, setting.num_samples, setting.dimension)
    discrete = setting.expectation.family.discrete
    rough = "curvature" in setting.expectation.integrand.lacks
    pieced = size == 0 or (jumps and all(spec.kind in UNIFORM for spec in specs.values()))
    if (discrete or not rough) and pieced:
        yield from _pieces(specs, jumps, constant=discrete)
    elif size <= MOST_DIMENSIONS and not discrete and not rough:
        nodes = NODES[size]
        yield _tensor(specs, jumps, nodes, REACH), _tensor(specs, jumps, nodes * 4 // 3, FARTHER)


def _tensor(specs: dict[str, Noise], jumps: dict[str, np.ndarray], nodes: int, reach: float) -> Axes:
    """A rule for every number of noise; in pieces for those that are exponential and jump."""
    axes: Axes = []
    for name, spec in specs.items():
        if spec.kind == "exponential" and name in jumps:
            axes += [exponential_pieces(corners, nodes, reach) for corners in _spread(jumps[name], spec)]
        else:
            axes += [rule(spec.kind, nodes, reach)] * math.prod(spec.shape)
    return axes


def _spread(jumps: np.ndarray, spec: Noise) -> np.ndarray:
    """Where every number of one name jumps [numbers, J]."""
    return np.broadcast_to(jumps, (*spec.shape, jumps.shape[-1])).reshape(math.prod(spec.shape), jumps.shape[-1])


def _enumerated(setting: Setting, specs: dict[str, Noise]) -> bool:
    """Whether pieces between jumps are what a sampler of counts makes of them: each is right to ε, however small."""
    return setting.expectation.family.discrete and all(spec.kind in UNIFORM for spec in specs.values())


def _pieces(specs: dict[str, Noise], jumps: dict[str, np.ndarray], constant: bool) -> Iterator[tuple[Axes, Axes]]:
    """Rules between jumps, with more and more nodes as long as the grid stays small; from one node in a piece where an
    estimate may be constant there."""
    ends: list[np.ndarray] = []
    for name, spec in specs.items():
        each = _spread(jumps.get(name, np.zeros(0)), spec)
        ends += [np.unique(np.concatenate([[0.0, 1.0], row[(row > 0.0) & (row < 1.0)]])) for row in each]
    pieces = math.prod(len(end) - 1 for end in ends)
    # Different in every number: two samples at the same place in a piece are one sample.
    places = [0.2 + 0.6 * ((0.618 * i) % 1.0) for i in range(len(ends))]
    for coarse, fine in PIECES if constant else PIECES[1:]:
        if pieces * fine ** len(ends) > MOST_POINTS:
            return
        yield (
            [piecewise(end, coarse, place) for end, place in zip(ends, places, strict=True)],
            [piecewise(end, fine, place + 0.13) for end, place in zip(ends, places, strict=True)],
        )


def _estimates(setting: Setting) -> Callable[[dict[str, Any]], dict[str, np.ndarray]]:
    """Noise -> estimates."""
    s, backend = setting, setting.backend
    run = compiled_once(("integrated", s.structure), lambda: for_few_calls(backend, evaluator(s), s.dear_sums))
    given = s.expectation.data, s.parameters, s.state
    return lambda noise: {name: backend.to_numpy(a) for name, a in run(*given, noise).items()}


def _moments(
    setting: Setting, blocks: list[str], specs: dict[str, Noise], axes: Axes
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of every block E ĝ, E ĝ² and E |ĝ| [3, P] on a tensor grid, one axis per number of noise; and Σ |ĝ| with one axis
    after another left out of the weights [P]: what errors of 1 in all of that axis's weights would add."""
    counts = [len(x) for x, _ in axes]
    total, estimated = math.prod(counts), _estimates(setting)
    result = {block: (np.zeros((3, setting.sizes[block])), np.zeros(setting.sizes[block])) for block in blocks}
    for start in range(0, total, CHUNK):
        places = np.arange(start, min(start + CHUNK, total))
        index = np.unravel_index(places, counts) if counts else ()
        size = next(size for size in SIZES if size >= len(places))
        weights, others, columns = np.zeros(size), np.zeros(size), np.full((size, len(axes)), 0.5)
        weights[: len(places)] = 1.0
        for axis, ((x, w), i) in enumerate(zip(axes, index, strict=True)):
            columns[: len(places), axis] = x[i]
            others[: len(places)] = others[: len(places)] * w[i] + weights[: len(places)]
            weights[: len(places)] *= w[i]
        # Names that these blocks do not read may be anything.
        drawn = {name: np.full((len(columns), *spec.shape), 0.5) for name, spec in setting.specs.items()}
        used = 0
        for name, spec in specs.items():
            size = math.prod(spec.shape)
            drawn[name] = columns[:, used : used + size].reshape(len(columns), *spec.shape)
            used += size
        noise = {name: setting.backend.asarray(values, setting.dtype) for name, values in drawn.items()}
        found = estimated(noise)
        for block, (moments, unweighted) in result.items():
            g = found[block].astype(np.float64)
            moments += np.stack([weights @ terms for terms in (g, g**2, np.abs(g))])
            unweighted += others @ np.abs(g)
    return result
