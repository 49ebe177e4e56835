"""Functions of one estimate's noise with known means: the features that control variates are made of.

Let x be the numbers of noise of one sample of z, φ_k their orthonormal functions, and

    q(x) = Σ_k h_k·φ_k(x) + ½ φ_1(x)ᵀ M φ_1(x) + Σ_α c_α He_α(Vᵀ x),    M symmetric with diagonal 0,

a model of f without its constant. The last term, only where x is Normal, consists of products of Hermite polynomials of
total degree 3 and 4 along a few orthonormal directions V. The numbers are independent and polynomials of different
degree orthogonal. So, with t the gradient of the last two terms, for every number j,

    E φ_k,j = 0,   E t_j = 0,   E t_j φ_1,j = 0,   E q φ_1,j = h_1,j,   E q φ_2,j = h_2,j,

and for noise v that is not used to sample z, E φ_k(v) = E t_j φ_k(v_j) = E φ_1,j φ_k(v_j) = 0. The features of an
estimate of S samples are averages over the samples. Those with q also occur as products of averages, for estimators
that multiply one sample with another: E q̄ φ̄_k,j = h_k,j/S.

A score-function estimate is close to q φ_1 and q φ_2, a pathwise one to t and t φ_1.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradmeter.bench.measurement.controls.basis import Basis
from gradmeter.bench.measurement.controls.rows import Rows
from gradmeter.bench.measurement.controls.source import Source

Array = Any
Arrays = dict[str, Any]

#: Total degrees of the Hermite products in q, and of those in its gradient.
HIGH, BELOW = (3, 4), (2, 3)
HERMITE = Basis.smooth("normal", max(HIGH))


def powers(directions: int, degrees: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the exponents of all products of Hermite polynomials in this many directions, of these total degrees."""
    every = itertools.product(range(max(degrees) + 1), repeat=directions)
    return tuple(each for each in every if sum(each) in degrees)


@dataclass(frozen=True)
class Layout:
    """The static description of the features.

    Attributes
    ----------
    own
        Noise of the samples, whose numbers x are the variables of the model of f.
    others
        Noise that is not used to sample z, with as many numbers as x.
    samples
        S.
    interacting
        Whether q has the term with M.
    directions
        Number of directions of Normal x with products of degree 3 and 4 in q.
    crossed
        Whether products of averages are features too.
    high, below
        Exponents of those products, and of their derivatives.
    couples
        Pairs of `others` that are read by the estimates of one block, whose products are features too.
    rows
        Which rows f sees, where this is noise; evaluated by NumPy only.
    """

    own: tuple[Source, ...]
    others: tuple[Source, ...]
    samples: int
    interacting: bool = True
    directions: int = 0
    crossed: bool = False
    hermite: Basis = HERMITE
    high: tuple[tuple[int, ...], ...] = ()
    below: tuple[tuple[int, ...], ...] = ()
    couples: tuple[tuple[int, int], ...] = ()
    rows: Rows | None = None

    @property
    def numbers(self) -> int:
        return sum(source.numbers for source in self.own)

    @property
    def degree(self) -> int:
        return max(source.basis.degree for source in self.own)

    @property
    def features(self) -> int:
        """Number of features of every number."""
        values = [min(2, source.basis.degree) for source in self.others]
        beside = sum(v + 1 + (v if self.interacting else 0) for v in values)
        beside += sum(values[a] * values[b] + (1 if self.interacting else 0) for a, b in self.couples)
        of_rows = self.rows.features(self.crossed, len(self.others)) if self.rows is not None else 0
        return self.degree + 2 + (2 if self.interacting else 0) + beside + (2 if self.crossed else 0) + of_rows

    def functions(self, xp: Any, noise: Arrays, model: Arrays) -> list[Array]:
        """Evaluate φ_1, φ_2, … of x, each [R, S, m]; 0 for numbers that have fewer."""
        each = [source.functions(xp, noise, model) for source in self.own]
        found = []
        for k in range(self.degree):
            parts = [phi[k] if k < len(phi) else xp.zeros_like(phi[0]) for phi in each]
            found.append(parts[0] if len(parts) == 1 else xp.concat(parts, axis=-1))
        return found

    def slope(self, first: Array, model: Arrays) -> Array:
        """Return φ_1 M [..., m]; at low rank M is F S Fᵀ without its diagonal, S = diag(±1)."""
        if "M" in model:
            return first @ model["M"]
        factors, signs = model["F"], model["signs"]
        return ((first @ factors) * signs) @ factors.T - first * ((factors * factors) @ signs)

    def products(self, xp: Any, first: Array, model: Arrays, every: tuple[tuple[int, ...], ...]) -> Array:
        """Evaluate products of Hermite polynomials of u = Vᵀ φ_1 with these exponents [..., A]."""
        u = first @ model["V"]
        hermite = [self.hermite(xp, u[..., r], {}) for r in range(self.directions)]
        found = []
        for exponents in every:
            factors = [hermite[r][n - 1] for r, n in enumerate(exponents) if n]
            product = factors[0]
            for factor in factors[1:]:
                product = product * factor
            found.append(product)
        return xp.stack(found, axis=-1)

    def __call__(self, xp: Any, noise: Arrays, model: Arrays) -> tuple[list[Array], Array]:
        """Evaluate the features of every number, each [R, m], and q of the whole estimate [R]; `means` has their means.

        Parameters
        ----------
        model
            H [degree, m]; M [m, m] or its factors F [m, rank] and signs [rank]; V [m, directions]; c and slope of the
            products; and what bases with discontinuities read.
        """
        phi = self.functions(xp, noise, model)
        first, second = phi[0], phi[1] if len(phi) > 1 else xp.zeros_like(phi[0])
        q = sum((xp.sum(each * model["h"][k], axis=-1) for k, each in enumerate(phi[1:], 1)), first @ model["h"][0])
        found: list[Array] = list(phi)
        if self.interacting:
            t = linear = self.slope(first, model)
            q = q + 0.5 * xp.sum(t * first, axis=-1)
            if self.directions:
                q = q + self.products(xp, first, model, self.high) @ model["c"]
                t = t + (self.products(xp, first, model, self.below) @ model["slope"]) @ xp.matrix_transpose(model["V"])
            found += [t, t * first]
        found += [q[..., None] * first, q[..., None] * second]
        drawn = [source.functions(xp, noise, model)[:2] for source in self.others]
        for values in drawn:
            found += [*values, values[0] * first]
            if self.interacting:
                found += [linear * each for each in values]
        for a, b in self.couples:
            found += [one * other for one in drawn[a] for other in drawn[b]]
            if self.interacting:
                found += [linear * drawn[a][0] * drawn[b][0]]
        averages = [xp.mean(each, axis=1) for each in found]
        whole = xp.mean(q, axis=1)
        if self.crossed:
            averages += [whole[:, None] * averages[0], whole[:, None] * xp.mean(second, axis=1)]
        if self.rows is not None:
            beside = [values[0] for values in drawn]
            averages += self.rows(noise, first, second, beside, model, self.crossed)
        return averages, whole

    def means(self, model: Arrays) -> list[np.ndarray]:
        """Return the means of the features of every number, each [m]; q of a whole estimate has mean 0."""
        h = np.asarray(model["h"])
        zero = np.zeros(h.shape[1])
        # A two-valued number has only one function.
        has = [np.concatenate([np.full(s.numbers, s.basis.degree > k) for s in self.own]) for k in range(2)]
        first, second = (np.where(has[k], h[k], 0.0) if k < len(h) else zero for k in range(2))
        of_rows: list[np.ndarray] = []
        if self.rows is not None:
            of_rows = self.rows.means(model, self.samples, self.crossed, len(self.others))
        found = [zero] * (self.features - len(of_rows))
        at = self.degree + (2 if self.interacting else 0)
        found[at : at + 2] = first, second
        if self.crossed:
            found[-2:] = first / self.samples, second / self.samples
        return found + of_rows
