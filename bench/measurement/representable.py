"""Whether a dtype can hold samples of a family at its options; asked of samples, so no family needs rules of its own.

Rounding must not show. Samples of q that lie close together for their size share few floating-point numbers, and no
estimate made from them is that of q; and a row's numbers are moments up to the fourth, which must not overflow. A cell
where they cannot be had is refused, for else it would be called biased, or not finite, for want of digits alone: when
it is planned where options give λ, and else when the problem has been built, for λ may come from a fit or from a user.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from bench.identity import Same
from estimators import Estimator, Family, Point, draw
from estimators.backends import get
from estimators.noise import stream_root

#: How many samples are asked, of at most so many numbers in all but of at least `FEWEST`.
SAMPLES, NUMBERS, FEWEST = 512, 2**18, 64
#: Largest spacing of floating-point numbers within an eighth of the samples, relative to how far apart these are.
COARSEST = 2.0**-8


def unrepresentable(q: Point, estimator: Estimator, entropy: str, dimension: int, dtype: str) -> str | None:
    """Why estimates of that dtype cannot be had of q, or None.

    Parameters
    ----------
    entropy : of the problem, on which depends what the estimator requires.
    """
    return _at_options(Same(q), dimension, dtype, _compares_neighbours(q.family, estimator, entropy))


def unrepresentable_at(
    family: Family, parameters: dict[str, np.ndarray], estimator: Estimator, entropy: str, dimension: int, dtype: str
) -> str | None:
    """The same of λ that no options give."""
    return _unrepresentable(family, parameters, dimension, dtype, _compares_neighbours(family, estimator, entropy))


def _compares_neighbours(family: Family, estimator: Estimator, entropy: str) -> bool:
    """Whether f is compared at z and s z, where 1 − s is of the order of the squared spread of z."""
    return "weak_derivatives" in estimator.requirements(entropy).family and "independent_parts" in family.lacks


@functools.lru_cache(maxsize=256)
def _at_options(same: Same, dimension: int, dtype: str, neighbours: bool) -> str | None:
    q = same.value
    return _unrepresentable(q.family, q.parameters(dimension), dimension, dtype, neighbours)


def _unrepresentable(
    family: Family, parameters: dict[str, Any], dimension: int, dtype: str, neighbours: bool
) -> str | None:
    named = f"family {family.name}"
    eps, largest = float(np.finfo(dtype).eps), float(np.finfo(dtype).max) ** 0.25
    with np.errstate(all="ignore"):
        z = np.sort(_samples(family, parameters, dimension, dtype), axis=0).astype(np.float64)
        if not np.all(np.isfinite(z)):
            return f"{named} has samples that overflow in {dtype}; give less extreme options"
        if family.discrete:  # whole numbers
            most = float(np.abs(z).max())
            if most * eps <= 1.0:
                return None
            return f"{named} counts to {most:.2g} at these options; {dtype} counts to {1.0 / eps:.2g} only"
        apart, size = _closest(z, len(z) // 8)
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
        if not np.all((spread > 1.0 / largest) & (spread < largest)):
            far = spread[np.argmax(np.abs(np.log(np.maximum(spread, np.finfo(np.float64).tiny))))]
            return (
                f"{named} is spread over {far:.2g} at these options; {dtype} has fourth moments of what "
                f"lies between {1.0 / largest:.2g} and {largest:.2g}"
            )
        if neighbours and not np.all(eps * (size / apart) ** 2 <= COARSEST):
            least = float(np.sqrt(eps / COARSEST))
            return (
                f"{named} is too narrow at these options for its weak derivatives in {dtype}: samples must lie "
                f"{least:.2g} of their size apart"
            )
    return None


def _samples(family: Family, parameters: dict[str, Any], dimension: int, dtype: str) -> np.ndarray:
    """[R, D]."""
    backend = get("numpy")
    specs = family.noise((), dimension)
    roots = {name: backend.root(stream_root("representable", name)) for name in specs}
    replicates = max(FEWEST, min(SAMPLES, NUMBERS // dimension))
    noise = draw(backend, specs, roots, 0, replicates, dtype)
    at = {name: backend.asarray(a, dtype) for name, a in parameters.items()}
    return np.asarray(family.sample(backend, at, noise))


def _closest(z: np.ndarray, several: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every so many sorted samples side by side: how far apart the ends are, and the larger one's size."""
    low, high = z[:-several], z[several:]
    return high - low, np.maximum(np.abs(low), np.abs(high))
