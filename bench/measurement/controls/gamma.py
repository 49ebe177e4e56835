"""Gamma numbers as noise: recomputed from their ingredients, with functions orthonormal under their distribution.

A gamma number g is made by rejection from 17 numbers of noise. It has discontinuities where the rejection of a proposal
changes, so functions of the 17 numbers say little about f; functions of g say what is needed. Here g is computed again,
in float64, by Marsaglia & Tsang's (2000) rule and only by code in this file. If the measured sampler were used instead,
an error in it would shift the means of the controls as much as those of the estimates, and subtracting the controls
would hide its bias. For any given α, g is Gamma(α, 1), except that all proposals are refused with probability 3e-11.

The functions are made by the Gram–Schmidt process from products of powers of x = (g − α)/√α and
y = (log g − ψ(α))/√ψ′(α), which f and the scores of the gamma families consist of. The inner product is the trapezoidal
rule in t = log g, where the density exp(α t − eᵗ)/Γ(α) is analytic for |Im t| < π/2.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from gradmeter.bench.measurement.controls.basis import Basis
from gradmeter.bench.measurement.controls.source import Arrays, Source

Array = Any

#: Exponents of x and y in the products, in the order of the Gram–Schmidt process.
POWERS = ((1, 0), (0, 1), (2, 0), (1, 1), (3, 0), (0, 2), (4, 0), (2, 1))
#: The rule leaves out where the density is below exp(−REACH) of its maximum; its largest step in log g; fewest nodes.
REACH, STEP, FEWEST_NODES = 70.0, 0.2, 400
#: Smallest concentration with functions: below, half of the numbers are below 1e-9, and log g reaches down to −3,500.
SMALLEST = 0.02
#: A product with a smaller remainder, relative to its size, depends on the others: near a Normal, log g tells what g
#: does.
INDEPENDENT = 1e-3


@functools.lru_cache(maxsize=256)
def orthonormal(alpha: float, degree: int) -> tuple[tuple[float, ...], ...]:
    """Return coefficients [degree, 1 + powers] of orthonormal functions of g ~ Gamma(α, 1) in 1 and `POWERS`."""
    c = REACH / alpha
    low, high = -c - math.sqrt(2.0 * c), math.log1p(c + math.sqrt(2.0 * c))
    away = np.linspace(low, high, max(FEWEST_NODES, math.ceil((high - low) / STEP)))
    exponent = alpha * (away - np.expm1(away))
    weight = np.exp(exponent - exponent.max())
    weight /= weight.sum()
    columns = _powers(np.asarray(alpha), away + math.log(alpha), POWERS[:degree])
    every = np.stack([np.ones_like(away), *columns], axis=1)
    found: list[np.ndarray] = [np.eye(1, degree + 1)[0]]
    for k in range(1, degree + 1):
        new = np.eye(1, degree + 1, k)[0]
        size = math.sqrt(weight @ every[:, k] ** 2)
        for _ in range(2):  # orthogonalise twice, against rounding
            value = every @ new
            for old in found:
                new = new - (weight @ (value * (every @ old))) * old
        left = math.sqrt(weight @ (every @ new) ** 2)
        found.append(new / left if left > INDEPENDENT * size else np.zeros_like(new))
    return tuple(tuple(float(a) for a in each) for each in found[1:])


def _powers(alpha: Array, log_g: Array, powers: tuple[tuple[int, int], ...]) -> list[Array]:
    x = (np.exp(log_g) - alpha) / np.sqrt(alpha)
    y = (log_g - special.digamma(alpha)) / np.sqrt(special.polygamma(1, alpha))
    return [x**a * y**b for a, b in powers]


def log_gamma_number(alpha: Array, proposal: Array, acceptance: Array, boost: Array) -> Array:
    """Return log g from the first accepted proposal d (1 + c x)³, with x = 0 if none is accepted.

    For α < 1, g is a gamma number of concentration α + 1 times u^(1/α).

    Parameters
    ----------
    proposal, acceptance
        x and −log u of every proposal [..., m, proposals].
    boost
        −log u [..., m].
    """
    small = alpha < 1.0
    d = np.where(small, alpha + 1.0, alpha) - 1.0 / 3.0
    root = 1.0 + proposal / np.sqrt(9.0 * d)[..., None]
    possible = root > 0.0
    log_v = 3.0 * np.log(np.where(possible, root, 1.0))
    above = 0.5 * proposal**2 + d[..., None] * (1.0 - root**3 + log_v)
    accepted = possible & (acceptance > -above)
    first = np.argmax(accepted, axis=-1)[..., None]
    chosen = np.where(accepted.any(axis=-1), np.take_along_axis(log_v, first, axis=-1)[..., 0], 0.0)
    return np.log(d) + chosen - np.where(small, boost / alpha, 0.0)


@dataclass(frozen=True)
class GammaBasis(Basis):
    """Functions of g, evaluated from log g; every number has its own coefficients."""

    def __call__(self, xp: Any, x: Array, steps: Arrays) -> list[Array]:
        columns = _powers(steps["concentration"], x, POWERS[: self.degree])
        found = []
        for coefficients in steps["functions"]:  # [1 + powers, m]
            value = coefficients[0] + np.zeros_like(x)
            for c, column in zip(coefficients[1:], columns, strict=True):
                value += c * column
            found.append(value)
        return found


@dataclass(frozen=True)
class GammaSource(Source):
    """A source whose numbers are made from three names of noise, two of them with an extra last axis for proposals."""

    @property
    def names(self) -> tuple[str, ...]:
        prefix = self.name.removesuffix("proposal")
        return self.name, f"{prefix}acceptance", f"{prefix}boost"

    def functions(self, xp: Any, noise: Arrays, model: Arrays) -> list[Array]:
        alpha = model[f"concentration of {self.name}"]
        parts = [self.read_name(xp, noise, name) for name in self.names]
        steps = {"concentration": alpha, "functions": model[f"functions of {self.name}"]}
        return self.basis(xp, log_gamma_number(alpha, *parts), steps)


def gamma_source(prefix: str, concentration: np.ndarray, axis: int | None, degree: int) -> tuple[GammaSource, Arrays]:
    """Return the source of gamma variables, and the arrays that it reads.

    Parameters
    ----------
    prefix
        Prefix of the names of their noise.
    concentration
        Shapes α [m].
    axis
        Axis of the noise that runs over samples; None if all of it belongs to every sample.
    degree
        Largest degree of the polynomials.
    """
    each = [orthonormal(float(a), degree) for a in concentration]
    name = f"{prefix}proposal"
    functions = np.ascontiguousarray(np.moveaxis(np.asarray(each), 0, -1))  # [degree, 1 + powers, m]
    arrays = {f"concentration of {name}": concentration, f"functions of {name}": functions}
    return GammaSource(name, GammaBasis("gamma", degree), axis, len(concentration)), arrays
