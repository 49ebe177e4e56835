"""Whether a dtype can hold samples of a family at its options; asked of samples, so no family needs rules of its own.

Rounding must not show. Samples of q that lie close together for their size share few floating-point numbers, and no
estimate made from them is that of q; and a row's numbers are moments up to the fourth, which must not overflow. A cell
where they cannot be had is refused, for else it would be called biased, or not finite, for want of digits alone: when
it is planned where options give λ, and else when the problem has been built, for λ may come from a fit or from a user.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gradmeter.bench.forms import point_of, sample_of
from gradmeter.bench.identity import Same
from gradmeter.estimators import Estimator, Family, Point, draw
from gradmeter.estimators.backends import get
from gradmeter.estimators.noise import stream_root

#: How many samples are asked, of at most so many numbers in all but of at least `FEWEST`.
SAMPLES, NUMBERS, FEWEST = 512, 2**18, 64
#: Largest spacing of floating-point numbers within an eighth of the samples, relative to how far apart these are.
COARSEST = 2.0**-8
#: Exponential noise that is not exceeded but once in 1e9 numbers, or never drawn.
FARTHEST = {"float64": 20.7, "float32": 16.6}
#: The same for once in 10,000.
SELDOM = 9.2


def unrepresentable(
    q: Point, estimator: Estimator, entropy: str, dimension: int, dtype: str, distances: str = "none"
) -> str | None:
    """Why estimates of that dtype cannot be had of q, or None.

    Parameters
    ----------
    entropy : of the problem, on which depends what the estimator requires.
    distances : of the problem.
    """
    return _at_options(Same(q), dimension, dtype, _needs(q.family, estimator, entropy, distances))


def unrepresentable_at(
    family: Family,
    parameters: dict[str, np.ndarray],
    estimator: Estimator,
    entropy: str,
    dimension: int,
    dtype: str,
    distances: str = "none",
) -> str | None:
    """The same of λ that no options give."""
    return _unrepresentable(family, parameters, dimension, dtype, _needs(family, estimator, entropy, distances))


class _Needs(NamedTuple):
    """What an estimate needs of samples beside themselves.

    Attributes
    ----------
    neighbours : f is compared at z and s z, where 1 − s is of the order of the squared spread of z.
    distances : what distances from an end of the support are made of that must be told from 0, as `Problem.distances`.
    """

    neighbours: bool
    distances: str


def _needs(family: Family, estimator: Estimator, entropy: str, distances: str) -> _Needs:
    requires = estimator.requirements(entropy)
    weak = "weak_derivatives" in requires.family
    if entropy == "sampled" and distances == "none" and _rounded_ends(family):  # log q is singular there
        distances = "logs"
    if weak and distances != "none":  # what replaces a coordinate has no logarithms
        distances = "z"
    return _Needs(weak and "independent_parts" in family.lacks, distances if weak or requires.integrand else "none")


@functools.lru_cache(maxsize=256)
def _at_options(same: Same, dimension: int, dtype: str, needs: _Needs) -> str | None:
    q = same.value
    return _unrepresentable(q.family, point_of(q, dimension), dimension, dtype, needs)


def _unrepresentable(
    family: Family, parameters: dict[str, Any], dimension: int, dtype: str, needs: _Needs
) -> str | None:
    named = f"family {family.name}"
    eps, largest = float(np.finfo(dtype).eps), float(np.finfo(dtype).max) ** 0.25
    with np.errstate(all="ignore"):
        samples, rounded = _samples(family, parameters, dimension, dtype), _rounded_ends(family)
        z = np.sort(samples, axis=0).astype(np.float64)
        if not (np.all(np.isfinite(z)) and _finite_far_out(family, parameters, dimension, dtype)):
            return f"{named} has samples that overflow in {dtype}; give less extreme options"
        if family.discrete:  # whole numbers
            most = float(np.abs(z).max())
            if most * eps <= 1.0:
                return None
            return f"{named} counts to {most:.2g} at these options; {dtype} counts to {1.0 / eps:.2g} only"
        apart, size = _closest(z, len(z) // 8)
        width = float(np.max(np.std(z, axis=0)))
        if rounded:  # scores are made of logarithms there, and z may be rounded to the end
            clipped = size <= 2.0 * float(np.finfo(dtype).smallest_normal)
            apart = np.where(clipped | np.all(z <= 1.0, axis=0), np.maximum(apart, width), apart)
        if needs.distances != "none" and _nearest(family, parameters, dimension, dtype, needs.distances == "z"):
            return (
                f"{named} has samples nearer to an end of its support than {dtype} can tell, where this problem's f is "
                "singular; give larger options"
            )
        if np.any(size == 0.0):
            return f"{named} has samples too small for {dtype}, which makes 0 of them; give less extreme options"
        coarse = eps * size / apart
        if not np.all(coarse <= COARSEST):
            worst = np.unravel_index(np.argmax(np.where(np.isnan(coarse), np.inf, coarse)), coarse.shape)
            return (
                f"{named} has samples near {size[worst]:.2g} that lie {apart[worst]:.2g} apart; {dtype} "
                f"at that size needs {eps / COARSEST * size[worst]:.2g}: give options that make them smaller, or wider"
            )
        spread = z[3 * len(z) // 4] - z[len(z) // 4]
        spread = np.maximum(spread, width) if rounded else spread
        if not np.all((spread > 1.0 / largest) & (spread < largest)):
            far = spread[np.argmax(np.abs(np.log(np.maximum(spread, np.finfo(np.float64).tiny))))]
            return (
                f"{named} is spread over {far:.2g} at these options; {dtype} has fourth moments of what "
                f"lies between {1.0 / largest:.2g} and {largest:.2g}"
            )
        if needs.neighbours and not np.all(eps * (size / apart) ** 2 <= COARSEST):
            least = float(np.sqrt(eps / COARSEST))
            return (
                f"{named} is too narrow at these options for its weak derivatives in {dtype}: samples must lie "
                f"{least:.2g} of their size apart"
            )
    return None


def _samples(family: Family, parameters: dict[str, Any], dimension: int, dtype: str) -> np.ndarray:
    """[R, D]."""
    at, noise = _drawn(family, parameters, dimension, dtype, max(FEWEST, min(SAMPLES, NUMBERS // dimension)))
    rows = len(next(iter(noise.values()), ()))
    return sample_of(family, get("numpy"), at, noise, (rows, dimension))


def _drawn(
    family: Family, parameters: dict[str, Any], dimension: int, dtype: str, replicates: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """λ and noise [R, ...]."""
    backend, specs = get("numpy"), family.noise((), dimension)
    roots = {name: backend.root(stream_root("representable", name)) for name in specs}
    at = {name: backend.asarray(a, dtype) for name, a in parameters.items()}
    return at, draw(backend, specs, roots, 0, replicates, dtype)


def _rounded_ends(family: Family) -> bool:
    """Whether the family carries logarithms of distances from an end."""
    return type(family).logs is not Family.logs


def _far_out(
    family: Family, parameters: dict[str, Any], dimension: int, dtype: str, far: float
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """λ and noise of one sample with one boost after another of its gamma numbers so large that it is exceeded with
    probability exp(−far); with one uniform number after another so near to 0 or 1."""
    at, noise = _drawn(family, parameters, dimension, dtype, 1)
    for name, values in noise.items():
        if name.endswith("boost"):
            yield at, noise | {name: np.full_like(values, far)}
        elif _rounded_ends(family) and family.noise((), dimension)[name].kind == "uniform":
            for level in (math.exp(-far), 1.0 - max(math.exp(-far), float(np.finfo(dtype).epsneg))):
                yield at, noise | {name: np.full_like(values, level)}


def _finite_far_out(family: Family, parameters: dict[str, Any], dimension: int, dtype: str) -> bool:
    """Whether samples, densities and scores are finite for noise as large as one of many runs draws."""
    backend = get("numpy")
    for at, noise in _far_out(family, parameters, dimension, dtype, FARTHEST[dtype]):
        z, logs = family.sample(backend, at, noise), family.logs(backend, at, noise)
        found = [z, family.log_density(backend, at, z, *logs)]
        if "score" not in family.lacks:
            found += family.score(backend, at, z, *logs).values()
        if not all(np.all(np.isfinite(a)) for a in found):
            return False
    return True


def _nearest(family: Family, parameters: dict[str, Any], dimension: int, dtype: str, from_z: bool) -> bool:
    """Whether more than one sample in 10,000 is nearer to an end than can be told."""
    info = np.finfo(dtype)
    low, high = math.log(info.smallest_normal), math.log(info.eps if from_z else info.smallest_normal)
    for at, noise in _far_out(family, parameters, dimension, dtype, SELDOM):
        for logs in family.logs(get("numpy"), at, noise):
            if np.any(logs.low < low) or (logs.high is not None and np.any(logs.high < high)):
                return True
    return False


def _closest(z: np.ndarray, several: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every so many sorted samples side by side: how far apart the ends are, and the larger one's size."""
    low, high = z[:-several], z[several:]
    return high - low, np.maximum(np.abs(low), np.abs(high))
