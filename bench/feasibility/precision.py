"""Check whether a dtype can represent samples of a family at its options, by drawing samples.

Since samples are tested, no family needs rules of its own. Rounding must not show in results. Samples of q that lie
close together relative to their size share few floating-point numbers, and estimates made from them are not estimates
for q; and a row's numbers are moments up to the fourth, which must not overflow. A cell that fails is refused;
otherwise it would be reported as biased or non-finite for lack of digits alone. It is checked when the cell is planned
if the options give λ, and otherwise when the problem has been built, since λ may come from a fit or from a user.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from gradmeter.bench.forms.results import point_of, sample_of
from gradmeter.bench.identity.content import Same
from gradmeter.estimators import Estimator, Family, FamilyConfig, draw
from gradmeter.estimators.backends import get
from gradmeter.estimators.families.capabilities import has
from gradmeter.estimators.noise import stream_root

#: Number of samples, reduced to keep the numbers drawn below the second limit, but never below `FEWEST`.
SAMPLES, NUMBERS, FEWEST = 512, 2**18, 64
#: Largest spacing of floating-point numbers relative to the width of a window with an eighth of the samples.
COARSEST = 2.0**-8
#: Exponential noise that is exceeded once in 1e9 numbers, or never drawn.
FARTHEST = {"float64": 20.7, "float32": 16.6}
#: Two Normal numbers of which one in 16,000 is beyond the first.
FAR = (4.0, 4.2)
#: Exponential noise that is exceeded once in 10,000 numbers.
SELDOM = 9.2


def unrepresentable(
    q: FamilyConfig, estimator: Estimator, entropy: str, dimension: int, dtype: str, distances: str = "none"
) -> str | None:
    """Return why samples of q in this dtype give no correct estimates, or None if they do.

    Parameters
    ----------
    q
        Family with its point λ.
    estimator
        The estimator.
    entropy, distances
        As in `Problem`; with the estimator they determine which numbers must be accurate.
    dimension
        D, the number of coordinates of z.
    dtype
        `float64` or `float32`.
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
    """Return what `unrepresentable` does, for a λ that does not come from options.

    Parameters
    ----------
    family
        The family.
    parameters
        λ, {parameter block: float64 NumPy array [*shape]}.
    estimator
        The estimator.
    entropy
        As in `Problem`.
    dimension
        D, the number of coordinates of z.
    dtype
        `float64` or `float32`.
    distances
        As in `Problem`.
    """
    return _unrepresentable(family, parameters, dimension, dtype, _needs(family, estimator, entropy, distances))


class _Needs(NamedTuple):
    """What an estimate needs of samples beside the samples themselves.

    Attributes
    ----------
    neighbours
        Whether f is compared at z and s z, where 1 − s is of the order of the squared relative width of z.
    distances
        What is computed from distances to an end of the support and must be told from 0, as in `Problem.distances`.
    score
        Whether a density or a score is computed from z.
    """

    neighbours: bool
    distances: str
    score: bool


def _needs(family: Family, estimator: Estimator, entropy: str, distances: str) -> _Needs:
    requires = estimator.requirements(entropy)
    weak = "weak_derivatives" in requires.family
    if entropy == "sampled" and distances == "none" and _rounded_ends(family):  # log q is singular at the ends
        distances = "logs"
    if weak and distances != "none":  # the replacement of a coordinate carries no logarithms
        distances = "z"
    score = entropy == "sampled" or "score" in requires.family
    near = distances if weak or requires.integrand else "none"
    return _Needs(weak and not has(family, "independent_parts"), near, score)


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
        if family.discrete:
            most = float(np.abs(z).max())
            if most * eps > 1.0:
                return f"{named} counts to {most:.2g} at these options; {dtype} counts to {1.0 / eps:.2g} only"
            z = z[:, np.any(z != np.rint(z), axis=0)]  # a family may have continuous coordinates too
            if z.size == 0:
                return None
        apart, size = _closest(z, len(z) // 8)
        width = float(np.max(np.std(z, axis=0)))
        if rounded:  # scores are computed from logarithms, so z itself may be rounded to the end
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
        if needs.score and not (rounded or family.discrete) and _alike(family, parameters, dimension, dtype):
            return (
                f"{named} has samples {FAR[0]:g} deviations out that {dtype} rounds to one number, from which a score "
                "would be wrong; give less extreme options"
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
    """Draw samples [R, D]."""
    at, noise = _drawn(family, parameters, dimension, dtype, max(FEWEST, min(SAMPLES, NUMBERS // dimension)))
    rows = len(next(iter(noise.values()), ()))
    return sample_of(family, get("numpy"), at, noise, (rows, dimension))


def _drawn(
    family: Family, parameters: dict[str, Any], dimension: int, dtype: str, replicates: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return λ and noise [R, ...]."""
    backend, specs = get("numpy"), family.noise((), dimension)
    roots = {name: backend.root(stream_root("representable", name)) for name in specs}
    at = {name: backend.asarray(a, dtype) for name, a in parameters.items()}
    return at, draw(backend, specs, roots, 0, replicates, dtype)


def _rounded_ends(family: Family) -> bool:
    """Return whether the family carries logarithms of distances from an end of its support."""
    return type(family).logs is not Family.logs


def _far_out(
    family: Family, parameters: dict[str, Any], dimension: int, dtype: str, far: float
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield λ and noise of one sample with extreme numbers, one name of noise after another.

    Each boost of its gamma numbers is set to the value exceeded with probability exp(−far), and each of its uniform
    numbers to the same distance in probability from 0 and from 1.
    """
    at, noise = _drawn(family, parameters, dimension, dtype, 1)
    for name, values in noise.items():
        if name.endswith("boost"):
            yield at, noise | {name: np.full_like(values, far)}
        elif _rounded_ends(family) and family.noise((), dimension)[name].kind == "uniform":
            for level in (math.exp(-far), 1.0 - max(math.exp(-far), float(np.finfo(dtype).epsneg))):
                yield at, noise | {name: np.full_like(values, level)}


def _finite_far_out(family: Family, parameters: dict[str, Any], dimension: int, dtype: str) -> bool:
    """Return whether samples, densities and scores are finite for noise as extreme as one in many runs draws."""
    backend = get("numpy")
    for at, noise in _far_out(family, parameters, dimension, dtype, FARTHEST[dtype]):
        z, logs = family.sample(backend, at, noise), family.logs(backend, at, noise)
        found = [z, family.log_density(backend, at, z, *logs)]
        if has(family, "score"):
            found += family.score(backend, at, z, *logs).values()
        if not all(np.all(np.isfinite(a)) for a in found):
            return False
    return True


def _alike(family: Family, parameters: dict[str, Any], dimension: int, dtype: str) -> bool:
    """Return whether samples of different Normal noise, as far out as `FAR`, are the same number.

    With other noise beside it, as of a gamma number, Normal noise may be a proposal that is rejected so far out.
    """
    backend, (at, noise) = get("numpy"), _drawn(family, parameters, dimension, dtype, 1)
    if any(spec.kind != "normal" for spec in family.noise((), dimension).values()):
        return False
    for name, values in noise.items():
        for sign in (-1.0, 1.0):
            found = [family.sample(backend, at, noise | {name: np.full_like(values, sign * x)}) for x in FAR]
            if np.any(found[0] == found[1]):
                return True
    return False


def _nearest(family: Family, parameters: dict[str, Any], dimension: int, dtype: str, from_z: bool) -> bool:
    """Return whether more than one sample in 10,000 is too near to an end to be told from it."""
    info = np.finfo(dtype)
    low, high = math.log(info.smallest_normal), math.log(info.eps if from_z else info.smallest_normal)
    for at, noise in _far_out(family, parameters, dimension, dtype, SELDOM):
        for logs in family.logs(get("numpy"), at, noise):
            if np.any(logs.low < low) or (logs.high is not None and np.any(logs.high < high)):
                return True
    return False


def _closest(z: np.ndarray, several: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the widths of windows of consecutive order statistics, and the largest magnitude in each."""
    low, high = z[:-several], z[several:]
    return high - low, np.maximum(np.abs(low), np.abs(high))
