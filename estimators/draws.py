"""Dependent samples, each distributed as q: antithetic pairs, stratified samples, scrambled Sobol nets.

`stratified`: with S samples, the base noise of every coordinate takes each of the S quantile intervals [s/S, (s + 1)/S)
exactly once, uniformly inside it, in a random order for each coordinate (a Latin hypercube):

    ε_s = F⁻¹((π(s) + u_s)/S),     π a random permutation for each coordinate, u_s uniform.

`sobol`: the points of a scrambled net (`sobol.py`).

Estimators that are unbiased for each sample stay unbiased; those that multiply two samples (leave-one-out) do not.

Sources: Hammersley & Morton 1956 (antithetic); McKay, Beckman & Conover 1979 (Latin hypercube); for the score function
Ross 2006, chapter 8; Mohamed et al. 2020, section 7.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from gradmeter.estimators import sobol_noise
from gradmeter.estimators.backends.backend import Backend
from gradmeter.estimators.errors import NotApplicable
from gradmeter.estimators.families.family import Family
from gradmeter.estimators.noise import Noise, mirror

Array = Any

#: Suffixes of the names of stratified noise: the position within a stratum, and the order of the strata.
WITHIN, ORDER = "_within", "_order"
DRAWS = ("independent", "antithetic", "stratified", "sobol")
#: Kinds of noise with an inverse CDF, for the draws that need one.
INVERTED = {"stratified": ("normal", "uniform", "exponential"), "sobol": tuple(sobol_noise.INVERSES)}
#: The largest S whose permutation is computed by comparing every pair.
COMPARED = 16


def unsupported_reason(draws: str, family: Family) -> str | None:
    """Return why the family's noise cannot be drawn this way, or None."""
    if draws not in INVERTED:
        return None
    for spec in family.noise((), 1).values():
        if spec.kind not in INVERTED[draws]:
            return f"draws={draws} needs an inverse CDF of the noise; family {family.name} draws {spec.kind}"
    return None


def check(draws: str, family: Family, num_samples: int, dimension: int) -> None:
    """Raise NotApplicable if S or the dimension is not suitable."""
    if draws == "sobol":
        sobol_noise.check(family, num_samples, dimension)
    if draws == "antithetic" and num_samples % 2:
        raise NotApplicable(f"draws=antithetic draws pairs, so samples must be even, not {num_samples}")
    if draws == "stratified" and num_samples < 2:
        raise NotApplicable(f"draws=stratified needs at least 2 samples, not {num_samples}; use --samples 2")


def specs(draws: str, family: Family, num_samples: int, dimension: int) -> dict[str, Noise]:
    """Return the noise of S samples.

    A single coordinate needs no permutation, because an estimate is symmetric in its samples.
    """
    if draws == "antithetic":
        # Half of one pair [R, 1, D] is concatenated with its other half: reversed, NumPy would put the pair innermost.
        half = family.noise((num_samples // 2,), dimension)
        return {name: replace(spec, reversible=num_samples > 2) for name, spec in half.items()}
    if draws == "sobol":
        return sobol_noise.specs(family, num_samples, dimension)
    base = family.noise((num_samples,), dimension)
    if draws == "independent":
        return base
    found = {name + WITHIN: Noise("stratum", spec.shape) for name, spec in base.items()}
    if sum(math.prod(spec.shape) for spec in base.values()) > num_samples:
        found |= {name + ORDER: Noise("uniform", spec.shape) for name, spec in base.items()}
    return found


def mirrored_jumps(family: Family, discontinuities: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the discontinuities of a sample and those of its antithetic sample, by name of the family's noise."""
    kinds = {name: spec.kind for name, spec in family.noise((), 1).items()}
    return {
        n: np.concatenate([at, mirror(np, kinds[n], at)], axis=-1) for n, at in discontinuities.items() if n in kinds
    }


def as_noise(backend: Backend, family: Family, draws: str, noise: dict[str, Array]) -> dict[str, Array]:
    """Return the family's noise [R, S, ...] of all S samples by name, together with all other noise."""
    if draws == "antithetic":
        xp, mirrored = backend.xp, family.mirrored(backend, noise)
        return {**noise, **{name: xp.concat([noise[name], other], axis=1) for name, other in mirrored.items()}}
    return from_uniforms(backend, family, noise)


def stratified_jumps(family: Family, discontinuities: dict[str, np.ndarray], num_samples: int) -> dict[str, np.ndarray]:
    """Map each discontinuity to a coordinate within its stratum.

    A discontinuity at u lies at the fractional part of S u within its stratum, whichever stratum that is. (An
    exponential number e is first mapped to u = 1 − exp(−e).)
    """
    exponential = [name for name, spec in family.noise((), 1).items() if spec.kind == "exponential"]
    u = {name: -np.expm1(-at) if name in exponential else at for name, at in discontinuities.items()}
    return {name + WITHIN: np.mod(num_samples * at, 1.0) for name, at in u.items()}


def from_uniforms(backend: Backend, family: Family, noise: dict[str, Array]) -> dict[str, Array]:
    """Return the family's noise made from the points of a net or from strata; other noise is returned unchanged."""
    return _stratified(backend, family, sobol_noise.as_noise(backend, family, noise))


def _stratified(backend: Backend, family: Family, noise: dict[str, Array]) -> dict[str, Array]:
    xp, made = backend.xp, dict(noise)
    for name, spec in family.noise((), 1).items():
        if name + WITHIN not in noise:
            continue
        within = noise[name + WITHIN]
        count = within.shape[1]
        if name + ORDER in noise:
            stratum = _permutation(backend, noise[name + ORDER])
        else:
            places = xp.astype(backend.asarray(range(count), None), within.dtype)
            stratum = xp.reshape(places, (count, *(1,) * (within.ndim - 2)))
        tiny = 0.5 * float(xp.finfo(within.dtype).eps)  # excludes 0 and 1
        within = tiny + (1.0 - 2.0 * tiny) * within
        below, above = (stratum + within) / count, (count - 1.0 - stratum + (1.0 - within)) / count
        made[name] = _quantile(backend, spec.kind, below, above)
    return made


def _permutation(backend: Backend, order: Array) -> Array:
    """Return a random permutation of 0, ..., S − 1 along axis 1: the ranks of independent numbers [R, S, ...].

    Up to `COMPARED` numbers are ranked by comparing every pair, with ties broken by position: that is faster than
    sorting and keeps the order in memory. More numbers are sorted; `argsort` gives the inverse permutation, which is as
    random.
    """
    xp, count = backend.xp, order.shape[1]
    if count > COMPARED:
        return xp.astype(xp.argsort(order, axis=1), order.dtype)
    places = xp.reshape(backend.asarray(range(count), None), (count, *(1,) * (order.ndim - 2)))
    total = xp.zeros_like(order)
    for place in range(count):
        one = order[:, place : place + 1, ...]
        before = (one < order) | ((one == order) & (places > place))
        total = total + xp.astype(before, order.dtype)
    return total


def _quantile(backend: Backend, kind: str, below: Array, above: Array) -> Array:
    """Return F⁻¹(below), given both the probability and its complement so that neither tail loses precision."""
    xp = backend.xp
    if kind == "uniform":
        return below
    near = xp.where(below < above, below, above)
    if kind == "exponential":
        return -xp.where(below < above, xp.log1p(-near), xp.log(above))
    return xp.sign(above - below) * backend.special.ndtri(near)
