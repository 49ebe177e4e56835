"""A family's noise from the points of scrambled Sobol nets (`sobol.py`), by inverse CDFs."""

from __future__ import annotations

import math
from typing import Any

from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.families.family import Family
from gradmeter.estimators.noise import Noise

Array = Any

#: The name of the points in an estimate's noise.
NAME = "sobol"
#: The number of coordinates for which SciPy has direction numbers.
MOST_COORDINATES = 21201


def specs(family: Family, num_samples: int, dimension: int) -> dict[str, Noise]:
    """Return one net [S, width] for all of the family's noise."""
    width = sum(math.prod(spec.shape) for spec in family.noise((), dimension).values())
    return {NAME: Noise("sobol", (num_samples, width))}


def check(family: Family, num_samples: int, dimension: int) -> None:
    """Raise NotApplicable if there is no net for this S or dimension."""
    if num_samples < 2 or num_samples & (num_samples - 1):
        raise NotApplicable(f"draws=sobol needs samples a power of two, at least 2, not {num_samples}")
    width = sum(math.prod(spec.shape) for spec in family.noise((), dimension).values())
    if width > MOST_COORDINATES:
        raise NotApplicable(f"draws=sobol has direction numbers for {MOST_COORDINATES} coordinates, not {width}")


def _normal(backend: Backend, u: Array) -> Array:
    return backend.special.ndtri(u)


def _exponential(backend: Backend, u: Array) -> Array:
    return -backend.xp.log1p(-u)


def _rayleigh(backend: Backend, u: Array) -> Array:
    return backend.xp.sqrt(-2.0 * backend.xp.log1p(-u))


#: Inverse CDFs by kind of noise.
INVERSES: dict[str, Any] = {
    "normal": _normal,
    "uniform": lambda backend, u: u,
    "exponential": _exponential,
    "rayleigh": _rayleigh,
}


def as_noise(backend: Backend, family: Family, noise: dict[str, Array]) -> dict[str, Array]:
    """Return the family's noise by name, made from the points [..., width]; other noise is returned unchanged."""
    if NAME not in noise:
        return noise
    points, xp = noise[NAME], backend.xp
    made, used = dict(noise), 0
    for name, spec in family.noise((), dimension_of(family, points.shape[-1])).items():
        width = math.prod(spec.shape)
        part = xp.reshape(points[..., used : used + width], (*points.shape[:-1], *spec.shape))
        made[name] = INVERSES[spec.kind](backend, part)
        used += width
    return made


def dimension_of(family: Family, width: int) -> int:
    """Return the least D for which the family draws `width` numbers per sample, which never decreases with D."""

    def drawn(dimension: int) -> int:
        return sum(math.prod(spec.shape) for spec in family.noise((), dimension).values())

    low = high = 1
    while drawn(high) < width:
        high *= 2
    while low < high:  # PyTorch does not compile `bisect`
        middle = (low + high) // 2
        low, high = (middle + 1, high) if drawn(middle) < width else (low, middle)
    return low
